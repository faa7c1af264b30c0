"""TOML files of the user's, read strictly: an unknown key or a wrong type is one error.

A table is described by a dataclass: its fields are the keys, their types what is allowed (int,
float, str, bool, a union, Literal, tuple of those, Mapping, another such dataclass), their defaults
what may be left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from s2d_store.config_fields import field_help
from s2d_store.errors import InputError, NotFoundError, S2DError, did_you_mean
from s2d_store.mistakes import Mistakes
from s2d_store.storage.location import Place

# Metadata of a field that no document holds: whoever reads it fills it in.
FILLED_IN = {"filled_in": True}
# Kinds of values, as error messages call them.
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class TomlFile:
    """Where a document comes from, for errors.

    Attributes:
        title: what and where it is: `recipe paper.toml`.
        help: where its keys are explained.
        places: dotted key -> where it stands: `paper.toml:12`.
        mistakes: takes what is wrong, so that reading goes on; None raises the first.
        broken: keys that a mistake was found at.
    """

    title: str
    help: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    mistakes: Mistakes | None = None
    broken: set[str] = field(default_factory=set)

    def at(self, key: str) -> str:
        """Where a key, or else the table that it would be in, stands."""
        return place_of(self.places, key) or self.title

    def refuse(self, key: str, error: S2DError) -> None:
        """Take a mistake at a key, or raise it where none are gathered."""
        if self.mistakes is None:
            raise error
        self.broken.add(key)
        self.mistakes.add(error)

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
            InputError: an unknown or missing key, or a value of another type; where mistakes are
                gathered, a default or an empty value stands in.
        """
        if not isinstance(table, dict):
            self.refuse(key, self.wrong(key, table, f"a table: [{key}]"))
            table = {}
        known = {one.name: one for one in fields(schema) if not one.metadata.get("filled_in")}
        hints, values = get_type_hints(schema), {}
        for name, value in table.items():
            at = _joined(key, name)
            if name in known:
                values[name] = self._value(hints[name], value, at)
            else:
                self.refuse(at, self.unknown(at, [_joined(key, other) for other in known]))
        for name, one in known.items():
            required = one.default is MISSING and one.default_factory is MISSING
            if required and name not in table:
                at = _joined(key, name)
                what = f"{self.at(at)}: lacks {at}" if self.places else f"{self.title} lacks {at}"
                self.refuse(at, InputError(what, field_help(schema)[name]))
            if required and values.get(name) is None:
                values[name] = _nothing(hints[name])
        return schema(**{name: value for name, value in values.items() if value is not None})

    def _value(self, kind: Any, value: Any, key: str) -> Any:
        """A value as its field takes it; None for one that was refused."""
        if is_dataclass(kind):
            assert isinstance(kind, type)
            return self.table(kind, value, key)
        origin, inside = get_origin(kind), get_args(kind)
        if origin is not None and origin not in (tuple, Literal) and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                self.refuse(key, self.wrong(key, value, "a table"))
                return None
            if inside[1] is Any:
                return value
            found = {k: self._value(inside[1], v, f"{key}.{k}") for k, v in value.items()}
            return {k: v for k, v in found.items() if v is not None}
        if not fits(kind, value):
            self.refuse(key, self.wrong(key, value, expected(kind)))
            return None
        if origin is tuple:
            return tuple(value)
        return float(value) if kind is float else value

    def unknown(self, key: str, allowed: Iterable[str], where: str = "") -> InputError:
        """The error for a key that is none of those allowed, each with the tables it stands in."""
        allowed = list(allowed)
        at = f"{self.at(key)}:" if self.places else f"{self.title} has an"
        return InputError(
            f"{at} unknown key {key!r}{where}{_near(key, allowed)}",
            f"allowed: {', '.join(name.rpartition('.')[2] for name in allowed)}",
            self.help,
        )

    def wrong(self, key: str, value: Any, allowed: str) -> InputError:
        """The error for a value that is not allowed."""
        return InputError(f"{self.at(key)}: {key} is {value!r}", f"it must be {allowed}", self.help)


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
    if isinstance(kind, UnionType):
        return " or ".join(map(expected, get_args(kind)))
    return WORDS[kind] if kind is bool else f"a {WORDS[kind]}"


def place_of(places: Mapping[str, str], key: str) -> str:
    """The place of a dotted key, or of the nearest table around it; empty where none is known."""
    while key and key not in places:
        key = key.rpartition(".")[0]
    return places.get(key, "")


def _near(key: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'stage.a.rounds'?`: near by the last word, whatever tables it stands in."""
    known = {name.rpartition(".")[2]: name for name in allowed}
    close = did_you_mean(key.rpartition(".")[2], known)
    return f"; did you mean {known[close.split(chr(39))[1]]!r}?" if close else ""


def _nothing(kind: Any) -> Any:
    """An empty value in the place of one that is missing."""
    return "" if kind is str else {}


def _joined(table: str, key: str) -> str:
    return f"{table}.{key}" if table else key
