"""The SQL that a dataset query reaches: pinned in its lock, so that its meaning never changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import duckdb

import queries
from s2d_store.errors import DatasetError
from s2d_store.schema import TABLES
from s2d_store.sql import connection

_COMMENTS = re.compile(r"(\s*--[^\n]*\n)*\s*")
_CREATES = re.compile(r"CREATE\s+(VIEW|MACRO)\b", re.IGNORECASE)


def reached_by(text: str) -> dict[str, str]:
    """SQL of every view and macro that a query names, and of those that these name in turn.

    Args:
        text: the query.

    Returns:
        CREATE statements by name, each after what it needs. Tables in schema `raw` are not among
        them: those are the pinned versions' files themselves.
    """
    on_demand = queries.macros_for(text)
    tables = tuple(TABLES)
    names = queries.named_in("\n".join([text, *on_demand.values()]), tables)
    made = {name: sql for name, sql in queries.definitions(tables).items() if name in names}
    return made | dict(on_demand)


def definitions_of(lock: Mapping[str, Any]) -> dict[str, str]:
    """The views and macros to rebuild a lock with: its own, or of version 1 the installed ones.

    Raises:
        DatasetError: one of them is anything but a single CREATE VIEW or CREATE MACRO.
    """
    if "definitions" not in lock:
        return reached_by(lock["query_sql"])
    definitions = dict(lock["definitions"])
    for name, text in definitions.items():
        with connection.errors():
            statements = duckdb.extract_statements(text)
        start = _COMMENTS.match(text)
        if len(statements) != 1 or not start or not _CREATES.match(text, start.end()):
            raise DatasetError(
                f"the lock of dataset {lock.get('name')} defines {name} by SQL of another kind",
                "a lock holds nothing but single CREATE VIEW and CREATE MACRO statements",
                "do not use it: s2d writes no such lock",
            )
    return definitions


def version_hint(lock: Mapping[str, Any]) -> str:
    """What else than the store may make a rebuild differ from a lock; empty for nothing known."""
    if "definitions" not in lock:
        return (
            "the lock is of version 1, which holds no views: it was rebuilt with those of this "
            "release"
        )
    built_with = lock.get("duckdb_version")
    if built_with != duckdb.__version__:
        return f"the lock was built with DuckDB {built_with}; this is DuckDB {duckdb.__version__}"
    return ""
