"""A recipe file, checked against the schema: unknown keys, types, allowed values, references."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cli.recipes.schema import OPTIONAL_KEYS, Recipe
from s2d_store.errors import InputError, NotFoundError
from s2d_store.ids import check_name

DEFAULTS = ("generate", "score", "train")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; nothing of it is carried out.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not TOML, or a key or value is wrong; names it, and what is allowed.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no recipe file {path}", fix="name a .toml file; examples/ has some"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path} is not TOML", str(error)) from error
    _merge_defaults(path, document)
    recipe: Recipe = _table(path, "", Recipe, document)
    for what, names in (
        ("recipe", [recipe.name]),
        ("split", recipe.prompts),
        ("policy", recipe.policies),
        ("stage", recipe.stage),
    ):
        for name in names:
            check_name(name, what)
    return recipe


def _merge_defaults(path: Path, document: dict[str, Any]) -> None:
    """Put `[defaults.generate]` and its like under every stage that does not say otherwise."""
    defaults = document.pop("defaults", {})
    stages = document.get("stage")
    if not isinstance(defaults, dict) or not isinstance(stages, dict):
        return
    for key, table in defaults.items():
        if key not in DEFAULTS:
            raise _unknown(path, f"defaults.{key}", [f"defaults.{name}" for name in DEFAULTS])
        if not isinstance(table, dict):
            raise _wrong(path, f"defaults.{key}", table, "a table")
        for stage in stages.values():
            given = isinstance(stage, dict) and isinstance(stage.get(key, {}), dict)
            if given and key in OPTIONAL_KEYS.get(stage.get("kind"), ()):
                stage[key] = table | stage.get(key, {})


def _table(path: Path, title: str, schema: type[Any], table: Any) -> Any:
    if not isinstance(table, dict):
        raise _wrong(path, title, table, f"a table: [{title}]")
    known = {field.name: field for field in fields(schema)}
    hints = get_type_hints(schema)
    for key in table:
        if key not in known:
            raise _unknown(path, _joined(title, key), [_joined(title, name) for name in known])
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in table:
            raise InputError(f"recipe {path} lacks {_joined(title, name)}", _help(schema, name))
    return schema(
        **{
            key: _value(path, _joined(title, key), hints[key], value)
            for key, value in table.items()
        }
    )


def _value(path: Path, title: str, kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return _table(path, title, kind, value)
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in inside:
            raise _wrong(path, title, value, f"one of {', '.join(map(str, inside))}")
        return value
    if origin is tuple:
        item = inside[0]
        if not isinstance(value, list) or not all(is_a(entry, item) for entry in value):
            raise _wrong(path, title, value, f"a list of {WORDS[item]}s")
        return tuple(value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(path, title, value, "a table")
        if inside[1] is Any:
            return value
        return {k: _value(path, f"{title}.{k}", inside[1], entry) for k, entry in value.items()}
    if not is_a(value, kind):
        raise _wrong(path, title, value, f"a {WORDS[kind]}")
    return float(value) if kind is float else value


# Kinds of values, as error messages call them.
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def is_a(value: Any, kind: type) -> bool:
    """Whether a TOML value is of a kind in WORDS; a whole number is a number, too."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _help(schema: type[Any], name: str) -> str:
    from trainers.config_options import field_help

    return field_help(schema)[name]


def _joined(title: str, key: str) -> str:
    return f"{title}.{key}" if title else key


def _unknown(path: Path, key: str, allowed: Iterable[str]) -> InputError:
    allowed = list(allowed)
    close = difflib.get_close_matches(key, allowed, 1)
    return InputError(
        f"recipe {path} has an unknown key {key}"
        + (f"; did you mean {close[0]}?" if close else ""),
        f"allowed: {', '.join(name.rpartition('.')[2] for name in allowed)}",
        "docs/recipes.md explains every key",
    )


def _wrong(path: Path, key: str, value: Any, expected: str) -> InputError:
    return InputError(
        f"recipe {path}: {key} is {value!r}",
        f"it must be {expected}",
        "docs/recipes.md explains every key",
    )
