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

from cli import examples

_WIDEST = 110
_NAMES = 32


def split_help(text: str, words: str) -> tuple[str, str]:
    """What a command does, and its example: its docstring's, else that of cli.examples.

    Args:
        text: the command's help.
        words: its name with the groups that it is in: `policies add`.
    """
    about, _, example = inspect.cleandoc(text).partition("\n\nExample:")
    return about, inspect.cleandoc(example) or examples.of(words)


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
                about, _ = split_help(command.help or "", name)
                yield "Commands", name, about.split("\n\n")[0].replace("\n", " ")


def _write(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    formatter.width = min(_WIDEST, max(60, shutil.get_terminal_size((100, 24)).columns - 2))
    command.format_usage(ctx, formatter)
    about, example = split_help(command.help or "", _words(ctx))
    if about:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(about)
    for title, rows in _sections(command, ctx):
        with formatter.section(title):
            formatter.write_dl(rows, col_max=_NAMES)
    if example:
        with formatter.section("Example"):
            for line in example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _words(ctx: Any) -> str:
    """A command's words, without the program's name."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, ctx.info_name)
        ctx = ctx.parent
    return " ".join(words)


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
