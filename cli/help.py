"""How commands explain themselves: plain text, options in groups, defaults, and an example.

Typer would draw boxes with rich, whose Markdown parser alone takes longer to load than a whole
`s2d --help`.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup

EXAMPLE = "Example:"
_WIDEST = 110
_NAMES = 32


def split_example(text: str) -> tuple[str, str]:
    """A command's help without its example, and the example's lines."""
    about, _, example = inspect.cleandoc(text).partition(f"\n\n{EXAMPLE}")
    return about, inspect.cleandoc(example)


class HelpCommand(TyperCommand):
    """A command with its options in groups and its example as it stands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, what it does, arguments, options by group, and the example."""
        _write(self, ctx, formatter)


class HelpGroup(TyperGroup):
    """A command with subcommands, listed by group."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, what it does, options, and the commands with one line each."""
        _write(self, ctx, formatter)

    def command_lines(self, ctx: Any) -> Iterator[tuple[str, str, str]]:
        """Heading, name and help of each command."""
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                about, _ = split_example(command.help or "")
                yield "Commands", name, about.split("\n\n")[0].replace("\n", " ")


def _write(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    formatter.width = min(_WIDEST, max(60, shutil.get_terminal_size((100, 24)).columns - 2))
    command.format_usage(ctx, formatter)
    about, example = split_example(command.help or "")
    if about:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(about)
    for title, rows in _sections(command, ctx):
        with formatter.section(title):
            formatter.write_dl(rows, col_max=_NAMES)
    if example:
        with formatter.section(EXAMPLE.rstrip(":")):
            for line in example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _sections(
    command: TyperCommand | TyperGroup, ctx: Any
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Headings, with names and their help: arguments, commands, options, options by group."""
    found: dict[str, list[tuple[str, str]]] = {"Arguments": []}
    if isinstance(command, HelpGroup):
        for panel, name, text in command.command_lines(ctx):
            found.setdefault(panel, []).append((name, text))
    found["Options"] = []
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        argument = param.param_type_name == "argument"
        panel = "Arguments" if argument else getattr(param, "rich_help_panel", None) or "Options"
        found.setdefault(panel, []).append(record)
    for title, rows in found.items():
        if rows:
            yield title, rows
