"""A trainer's command line, made from the fields of its config."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, get_args, get_type_hints

from trainers.config import TrainerConfig

Config = TypeVar("Config", bound=TrainerConfig)


def parse_config(
    config_class: type[Config], module: str, arguments: Sequence[str] | None = None
) -> Config:
    """Read a config from arguments; None takes the process's own.

    Raises:
        InputError: a value out of range.
        SystemExit: argparse's own, after `--help` or an unknown option.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=inspect.getdoc(config_class)
    )
    help_of, type_of = field_help(config_class), get_type_hints(config_class)
    for field in fields(config_class):
        required = field.default is MISSING
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            required=required,
            default=argparse.SUPPRESS,
            help=help_of[field.name] + ("" if required else f" [{field.default}]"),
            **_reading(type_of[field.name]),
        )
    given = vars(parser.parse_args(arguments)).items()
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given}
    return config_class(**values)


def field_help(config_class: type) -> dict[str, str]:
    """Map each field of a config class, inherited ones first, to the string under it."""
    help_of: dict[str, str] = {}
    for parent in reversed(config_class.__mro__[:-1]):
        help_of |= _strings_under_fields(parent.__module__)[parent.__name__]
    return help_of


@cache
def _strings_under_fields(module: str) -> dict[str, dict[str, str]]:
    """Class -> field -> string, of a module's source; read once, since every command needs it."""
    found: dict[str, dict[str, str]] = {}
    for statement in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(statement, ast.ClassDef):
            continue
        help_of = found[statement.name] = {}
        for field, following in pairwise(statement.body):
            match field, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    help_of[name] = text
    return found


def _reading(kind: Any) -> dict[str, Any]:
    """How argparse reads a field of this type."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind == tuple[float, float]:
        return {"nargs": 2, "type": float, "metavar": ("X", "Y")}
    if kind == tuple[str, ...]:
        return {"nargs": "*", "metavar": "NAME"}
    if kind in (int, float):
        return {"type": kind, "metavar": "N" if kind is int else "X"}
    return {"choices": get_args(kind)} if get_args(kind) else {"metavar": "TEXT"}
