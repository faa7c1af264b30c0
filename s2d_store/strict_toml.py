"""TOML files of the user's, read strictly: an unknown key or a wrong type is one error.

A table is described by a dataclass: its fields are the keys, their types what is allowed (int,
float, str, bool, Literal, tuple of those, Mapping, another such dataclass), their defaults what may
be left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from s2d_store.config_fields import field_help
from s2d_store.errors import InputError, NotFoundError, did_you_mean
from s2d_store.storage.location import Place

# Kinds of values, as error messages call them.
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class TomlFile:
    """Where a document comes from, for errors.

    Attributes:
        title: what and where it is: `recipe paper.toml`.
        help: where its keys are explained.
    """

    title: str
    help: str = ""

    def read(self, path: Place, missing: str) -> dict[str, Any]:
        """The document.

        Args:
            path: the file.
            missing: what to do where there is none.

        Raises:
            NotFoundError: there is no such file.
            InputError: it is not TOML.
        """
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFoundError(f"no {self.title}", fix=missing) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.title} is not TOML", str(error)) from error

    def table(self, schema: type[Any], table: Any, key: str = "") -> Any:
        """A table as an instance of its dataclass; `key` is where it stands.

        Raises:
            InputError: an unknown or missing key, or a value of another type.
        """
        if not isinstance(table, dict):
            raise self.wrong(key, table, f"a table: [{key}]")
        known = {field.name: field for field in fields(schema)}
        hints = get_type_hints(schema)
        for name in table:
            if name not in known:
                raise self.unknown(_joined(key, name), [_joined(key, other) for other in known])
        for name, field in known.items():
            required = field.default is MISSING and field.default_factory is MISSING
            if required and name not in table:
                raise InputError(
                    f"{self.title} lacks {_joined(key, name)}", field_help(schema)[name]
                )
        return schema(**{k: self._value(hints[k], v, _joined(key, k)) for k, v in table.items()})

    def _value(self, kind: Any, value: Any, key: str) -> Any:
        if is_dataclass(kind):
            assert isinstance(kind, type)
            return self.table(kind, value, key)
        origin, inside = get_origin(kind), get_args(kind)
        if origin is not None and origin not in (tuple, Literal) and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                raise self.wrong(key, value, "a table")
            if inside[1] is Any:
                return value
            return {k: self._value(inside[1], v, f"{key}.{k}") for k, v in value.items()}
        if not fits(kind, value):
            raise self.wrong(key, value, expected(kind))
        if origin is tuple:
            return tuple(value)
        return float(value) if kind is float else value

    def unknown(self, key: str, allowed: Iterable[str], where: str = "") -> InputError:
        """The error for a key that is none of those allowed, each with the tables it stands in."""
        allowed = list(allowed)
        return InputError(
            f"{self.title} has an unknown key {key!r}{where}{did_you_mean(key, allowed)}",
            f"allowed: {', '.join(name.rpartition('.')[2] for name in allowed)}",
            self.help,
        )

    def wrong(self, key: str, value: Any, allowed: str) -> InputError:
        """The error for a value that is not allowed."""
        return InputError(f"{self.title}: {key} is {value!r}", f"it must be {allowed}", self.help)


def fits(kind: Any, value: Any) -> bool:
    """Whether a TOML value is of a field's type; a whole number is a number, too."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return isinstance(value, list) and all(fits(item, entry) for entry in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def expected(kind: Any) -> str:
    """What a value of a field's type is, in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        return f"a list of {WORDS[get_args(kind)[0]]}s"
    return WORDS[kind] if kind is bool else f"a {WORDS[kind]}"


def _joined(table: str, key: str) -> str:
    return f"{table}.{key}" if table else key
