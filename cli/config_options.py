"""Options of a command, made from the fields of a settings dataclass and the strings under them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from inspect import Parameter, Signature, get_annotations
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from cli import complete
from cli.options import BudgetOption, engine_args, read_template, template_kwargs, workers
from s2d_store.config_fields import field_help

# Where an option is not called as its field is.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "n": ("--n", "-n"),
    "round": ("--round",),
    "chunk_rows": ("--chunk",),
    "workers": ("--n-workers",),
    "deadline_s": ("--deadline",),
    "verify_deadline_s": ("--deadline",),
    "chat_template": ("--template",),
    "engine_args": ("--engine-arg",),
    "engine_workers": ("--workers",),
}


@dataclass(frozen=True)
class Option:
    """One option: a type that Typer reads, and its default; without one it is required."""

    kind: Any
    default: Any = Parameter.empty


def options(
    config_class: type, *, skip: Iterable[str] = (), defaults: Mapping[str, Any] | None = None
) -> dict[str, Option]:
    """An option per field of a config, by the field's name; the config itself checks values.

    Options stand together under the first words of the docstring of the class that declares them.

    Args:
        config_class: the dataclass.
        skip: fields without an option.
        defaults: other defaults than the fields' own.
    """
    help_of, types = field_help(config_class), get_type_hints(config_class)
    found: dict[str, Option] = {}
    for field in fields(config_class):
        if field.name not in skip:
            default = (defaults or {}).get(field.name, field.default)
            default = Parameter.empty if default is MISSING else default
            panel = _panel(config_class, field.name)
            found[field.name] = _option(
                field.name, types[field.name], help_of[field.name], default, panel
            )
    return found


def _option(name: str, kind: Any, text: str, default: Any, panel: str | None) -> Option:
    flags, shown = FLAGS.get(name, ()), None
    if name == "budget":
        return Option(BudgetOption, default)
    if name == "chat_template":
        kind, default = Path | None, None
    elif name == "engine_args":
        kind, default, shown = list[str] | None, None, "NAME=VALUE"
    elif name == "chat_template_kwargs":
        kind, default, shown = str, "", "JSON"
    elif get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        kind, default = list[get_args(kind)[0]] | None, None  # type: ignore[misc]
        text += "" if "repeated" in text else " May be repeated."
    elif get_origin(kind) is Literal:
        kind, shown = str, "|".join(filter(None, get_args(kind)))
    elif name.startswith("no_"):
        flags = (f"--{name.replace('_', '-')}",)
    given = typer.Option(
        *flags,
        help=text,
        metavar=shown,
        rich_help_panel=panel,
        autocompletion=complete.BY_FIELD.get(name),
    )
    return Option(Annotated[kind, given], default)


def _panel(config_class: type, name: str) -> str | None:
    """The group of a field: `Engine` where its class's docstring starts `Engine: which one.`."""
    owner = next(c for c in config_class.__mro__ if name in get_annotations(c))
    head, colon, _ = (owner.__doc__ or "").partition(":")
    return head if colon and len(head.split()) <= 3 else None


def command(
    run: Callable[[dict[str, Any]], None], given: Mapping[str, Option], doc: str
) -> Callable[..., None]:
    """A function with one parameter per option, for Typer to read; hands its values to `run`."""

    def made(**values: Any) -> None:
        run(values)

    parameters = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            annotation=option.kind,
            default=option.default,
        )
        for name, option in given.items()
    ]
    made.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    made.__annotations__ = {name: option.kind for name, option in given.items()}
    made.__doc__ = doc
    return made


def settings(config_class: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config's own fields, as it has them."""
    found = {f.name: values[f.name] for f in fields(config_class) if f.name in values}
    for name, value in found.items():
        if name == "engine_args":
            found[name] = engine_args(value)
        elif name == "chat_template_kwargs":
            found[name] = template_kwargs(value)
        elif name == "chat_template":
            found[name] = read_template(value)
        elif name in ("workers", "verify_workers"):
            found[name] = workers(value)
        elif value is None and name in ("k", "map", "trackers"):
            found[name] = ()
        elif isinstance(value, list):
            found[name] = tuple(value)
    return found
