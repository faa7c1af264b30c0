"""DuckDB over a snapshot: schema `raw` holds the tables, `main` the views and macros."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

import queries
from s2d_store.errors import QueryError
from s2d_store.schema import TABLES, TIMESTAMP, Table
from s2d_store.snapshot import Snapshot


def connect(root: Path, snap: Snapshot, *, unsafe: bool = False) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB whose views read the snapshot's Parquet files.

    Unless `unsafe`, SQL can read nothing but the store's folder and write only spill files.
    """
    con = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )
    con.execute("SET preserve_insertion_order = false")
    con.execute("CREATE SCHEMA raw")
    for table in TABLES.values():
        _create_raw(con, table, snap.files[table.name])
    for statement in queries.setup_statements(TABLES):
        con.execute(statement)
    if not unsafe:
        spill = f"{tempfile.gettempdir()}/s2d-spill-{os.getuid()}"
        con.execute(f"SET temp_directory = {literal(spill)}")
        con.execute(f"SET allowed_directories = [{literal(f'{root}/')}, {literal(f'{spill}/')}]")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
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


@contextmanager
def errors() -> Iterator[None]:
    """Turn a DuckDB error into a QueryError with its message and the next command."""
    try:
        yield
    except duckdb.Error as error:
        raise QueryError(
            "the query failed",
            str(error).strip(),
            "s2d query --list shows the named queries; s2d query 'DESCRIBE rollouts' a view's "
            "columns",
        ) from error
