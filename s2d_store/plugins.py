"""Parts that other packages bring along: rows of a registry, found by entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from s2d_store.errors import InputError, NotFoundError

Row = TypeVar("Row")


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name; nothing of them is imported."""
    return {entry.name: entry for entry in entry_points(group=group)}


def load_row(group: str, name: str, row_class: type[Row]) -> Row:
    """Import what a package has registered under a name.

    Args:
        group: `s2d.trainers`, `s2d.engines`, ...
        name: a key of `registered(group)`.
        row_class: what it must be an instance of; its `name` is the entry point's.

    Raises:
        NotFoundError: its module or attribute does not exist, or cannot be imported.
        InputError: it is something else.
    """
    entry = registered(group)[name]
    try:
        row = entry.load()
    except (ImportError, AttributeError) as error:
        raise NotFoundError(
            f"{group} {name!r}: cannot import {entry.value}",
            f"{type(error).__name__}: {error}",
            "install the package that registers it again, or remove it",
        ) from error
    if not isinstance(row, row_class) or getattr(row, "name", name) != name:
        raise InputError(
            f"{entry.value}, registered as {name!r} under {group}, is {row!r}",
            f"it must be a {row_class.__module__}.{row_class.__name__} of that name",
            "see docs/extending.md",
        )
    return row
