"""A trainer's command line, made from the fields of its config."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args, get_type_hints

from s2d_store.config_fields import field_help
from trainers.config import TrainerConfig

Config = TypeVar("Config", bound=TrainerConfig)


def parse_config(config_class: type[Config], program: str, arguments: Sequence[str]) -> Config:
    """Read a config from arguments; `program` is what stands before them.

    Raises:
        InputError: a value out of range.
        SystemExit: argparse's own, after `--help` or an unknown option.
    """
    parser = argparse.ArgumentParser(prog=program, description=inspect.getdoc(config_class))
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
