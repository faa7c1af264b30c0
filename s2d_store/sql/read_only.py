"""What a user's SQL may be: statements that read, and single conditions. Checked before it runs."""

from __future__ import annotations

import re

import duckdb

from s2d_store.errors import QueryError
from s2d_store.sql.connection import errors
from s2d_store.sql.syntax_tree import serialized

_READS = ("SELECT", "MULTI")  # MULTI: PIVOT without IN, which DuckDB runs as two statements
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(\s+ANALYZE\b)?(\s*\([a-z_, ]*\))?", re.IGNORECASE)
# DuckDB 2 takes them inside WITH, and calls the whole a SELECT.
_WRITING_WORD = re.compile(r"\b(COPY|INSERT|UPDATE|DELETE|MERGE|TRUNCATE)\b", re.IGNORECASE)
_NODE = re.compile(r'"type":"(\w+)_NODE"')
_READING_NODES = {"SELECT", "SET_OPERATION", "CTE", "RECURSIVE_CTE"}


def only_reads(text: str, con: duckdb.DuckDBPyConnection | None = None) -> str:
    """Return SQL text that holds nothing but statements which read.

    DuckDB has no read-only folders: COPY could overwrite the store's own files, and an INSERT into
    a view of an empty table would vanish without a word.

    Args:
        text: the SQL; it is parsed and not run.
        con: a connection that parses it; none costs opening one that the process keeps.

    Raises:
        QueryError: it does not parse, holds no statement, or one that writes or changes settings.
    """
    with errors():
        statements = (con or duckdb.default_connection()).extract_statements(text)
    if not statements:
        raise QueryError("the query holds no statement", fix="s2d query 'SELECT ...'")
    for statement in statements:
        kind = _kind(statement)
        if kind == "EXPLAIN":
            # EXPLAIN ANALYZE runs what it explains.
            explained = _EXPLAIN.match(statement.query)
            if explained is None:
                raise _refused(kind)
            only_reads(statement.query[explained.end() :], con)
        elif kind not in _READS:
            raise _refused(kind)
        elif word := _writes_within(kind, statement.query, con):
            raise _refused(word)
    return text


def check_condition(text: str) -> None:
    """Refuse what is not one expression, as `true) OR (true`, which would undo what stands around.

    Raises:
        duckdb.Error: it is not one.
    """
    duckdb.SQLExpression(text)


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # a kind that DuckDB has and its Python module does not know
        return statement.query.split(maxsplit=1)[0].upper()


def _writes_within(kind: str, text: str, con: duckdb.DuckDBPyConnection | None) -> str:
    """The writing statement inside a SELECT's or PIVOT's WITH, by name; empty for none."""
    words = {word.upper() for word in _WRITING_WORD.findall(text)}
    if not words:
        return ""
    if kind == "MULTI":
        # DuckDB takes no PIVOT apart, so the word alone counts; `update` is a column of many views,
        # and as a statement it finds nothing to change.
        return " or ".join(sorted(words - {"UPDATE"}))
    # A name that is such a word is none of these nodes: DuckDB's own parser tells them apart.
    nodes = set(_NODE.findall(serialized(text, con)))
    return "" if nodes and nodes <= _READING_NODES else " or ".join(sorted(words))


def _refused(what: str) -> QueryError:
    return QueryError(
        f"SQL cannot {what} here",
        "queries read; facts enter the store through s2d's commands alone",
        "write a SELECT, and its result to a file with s2d query --output FILE; "
        "s2d query --unsafe runs any statement",
    )
