"""SQL as DuckDB's own parser sees it, in JSON, and back again; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb

Node = dict[str, Any]


def serialized(text: str, con: duckdb.DuckDBPyConnection | None = None) -> str:
    """The syntax tree of SELECTs as JSON; of anything else, a JSON object with an error.

    Args:
        text: the SQL.
        con: a connection that parses it; none costs opening one that the process keeps.
    """
    return _call("json_serialize_sql($text)", text, con)


def deserialized(document: str) -> str:
    """The SQL of a syntax tree in JSON."""
    return _call("json_deserialize_sql($text)", document, None)


def nodes(value: Any) -> Iterator[Node]:
    """Every object of a part of a tree, itself first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def _call(function: str, text: str, con: duckdb.DuckDBPyConnection | None) -> str:
    parser = (con or duckdb.default_connection()).cursor()
    row = parser.execute(f"SELECT {function}", {"text": text}).fetchone()
    assert row is not None, "a SELECT of a scalar gives a row"
    return str(row[0])
