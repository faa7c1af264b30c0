"""On which line of a TOML document each of its keys stands. tomllib itself does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any


def key_lines(text: str) -> dict[str, int]:
    """Dotted key -> line, from 1, of every table and key of a document that is TOML.

    A table stands where its header does, or where its first key does; keys of an inline table stand
    on the line of the key that it belongs to. Statements end with a line, so lines are read until
    they are TOML by themselves.
    """
    found: dict[str, int] = {}
    table: tuple[str, ...] = ()
    statement, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if statement else number
        statement += line + "\n"
        try:
            part = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        is_header = statement.lstrip().startswith("[")
        statement = ""
        if is_header:
            table = _only_path(part)
            part = {}
        if is_header or part:
            for depth in range(1, len(table) + 1):
                found.setdefault(".".join(table[:depth]), first)
            if is_header:
                found[".".join(table)] = first
        for path in _paths(part):
            found.setdefault(".".join((*table, *path)), first)
    return found


def _only_path(header: dict[str, Any]) -> tuple[str, ...]:
    """The keys of a header, which as a document by itself holds nothing else."""
    path: tuple[str, ...] = ()
    while header:
        ((key, value),) = header.items()
        path = (*path, key)
        header = value[0] if isinstance(value, list) else value
    return path


def _paths(values: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in _paths(value))
