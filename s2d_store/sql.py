"""DuckDB over a snapshot: schema `raw` holds the tables, `main` the views and macros."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

import queries
from s2d_store.errors import QueryError, StoreError
from s2d_store.schema import TABLES, TIMESTAMP, Table
from s2d_store.snapshot import Snapshot

_READS = (
    duckdb.StatementType.SELECT,
    duckdb.StatementType.MULTI,  # PIVOT
    duckdb.StatementType.PRAGMA,
)
_EXPLAIN = re.compile(r".*?\bEXPLAIN(\s+ANALYZE\b)?(\s*\([a-z_, ]*\))?", re.IGNORECASE | re.DOTALL)


def connect(root: Path, snap: Snapshot, *, unsafe: bool = False) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB whose views read the snapshot's Parquet files.

    Unless `unsafe`, SQL can read nothing but the store's folder and write only spill files.

    Raises:
        StoreError: a file of the snapshot is missing, damaged, or lacks a column.
    """
    con = connect_raw(root, snap.files)
    for statement in queries.setup_statements(TABLES):
        con.execute(statement)
    if not unsafe:
        spill = f"{tempfile.gettempdir()}/s2d-spill-{os.getuid()}"
        con.execute(f"SET temp_directory = {literal(spill)}")
        con.execute(f"SET allowed_directories = [{literal(f'{root}/')}, {literal(f'{spill}/')}]")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
    return con


def connect_raw(root: Path, files: Mapping[str, tuple[str, ...]]) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with some tables in schema `raw`, without any view or macro.

    Args:
        root: the store's folder, for messages.
        files: Parquet files by table name.

    Raises:
        StoreError: a file is missing, damaged, or lacks a column.
    """
    con = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )
    con.execute("SET preserve_insertion_order = false")
    con.execute("CREATE SCHEMA raw")
    for name, paths in files.items():
        try:
            _create_raw(con, TABLES[name], paths)
        except duckdb.Error as error:
            raise StoreError(
                f"the files of table {name} cannot be read",
                str(error).strip().splitlines()[0],
                f"restore the folder {root / 'tables' / name} from a copy; "
                "s2d query --as-of reads an older snapshot",
            ) from error
    return con


def _create_raw(con: duckdb.DuckDBPyConnection, table: Table, files: tuple[str, ...]) -> None:
    # DDL takes no bound values: names come from schema.py, paths are quoted.
    # Times are plain UTC timestamps in SQL: zone arithmetic would need DuckDB's icu extension.
    columns = ", ".join(
        f'"{c.name}"::TIMESTAMP AS "{c.name}"' if c.type == TIMESTAMP else f'"{c.name}"'
        for c in table.columns
    )
    if files:
        paths = ", ".join(literal(file) for file in files)
        source = f"read_parquet([{paths}], hive_partitioning = true, hive_types_autocast = false)"
        con.execute(f"CREATE VIEW raw.{table.name} AS SELECT {columns} FROM {source}")
    else:
        con.register("_empty", table.schema.empty_table())
        con.execute(f"CREATE TABLE raw.{table.name} AS SELECT {columns} FROM _empty")
        con.unregister("_empty")


def literal(text: str) -> str:
    """Quote text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def only_reads(text: str) -> str:
    """Return SQL text that holds nothing but statements which read.

    DuckDB has no read-only folders: COPY could overwrite the store's own files, and an INSERT into
    a view of an empty table would vanish without a word.

    Raises:
        QueryError: it does not parse, holds no statement, or one that writes.
    """
    with errors():
        statements = duckdb.extract_statements(text)
    if not statements:
        raise QueryError("the query holds no statement", fix="s2d query 'SELECT ...'")
    for statement in statements:
        if statement.type == duckdb.StatementType.EXPLAIN:
            explained = _EXPLAIN.match(statement.query)
            assert explained is not None, "an EXPLAIN statement holds the word"
            only_reads(statement.query[explained.end() :])
        elif statement.type not in _READS:
            raise QueryError(
                f"SQL cannot {statement.type.name} here",
                "queries read; facts enter the store through s2d's commands alone",
                "write a SELECT, and its result to a file with s2d query --output FILE; "
                "s2d query --unsafe runs any statement",
            )
    return text


@contextmanager
def errors() -> Iterator[None]:
    """Turn a DuckDB error into a QueryError with its message and the next command.

    DuckDB reports Ctrl-C as a RuntimeError, which becomes a KeyboardInterrupt again.
    """
    try:
        yield
    except duckdb.PermissionException as error:
        raise QueryError(
            "the query reaches outside the store",
            _message(error),
            "s2d query --unsafe lets SQL read and write other files",
        ) from error
    except duckdb.Error as error:
        raise QueryError(
            "the query failed",
            _message(error),
            "s2d query --list shows the named queries; s2d query 'DESCRIBE rollouts' a view's "
            "columns",
        ) from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


def _message(error: duckdb.Error) -> str:
    """DuckDB's message without its empty lines."""
    return "\n       ".join(line for line in str(error).splitlines() if line.strip())
