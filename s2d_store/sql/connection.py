"""DuckDB over a snapshot: schema `raw` holds the tables, `main` the views and macros."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa

import queries
from s2d_store.errors import InputError, QueryError, StoreError
from s2d_store.schema import FILES_ALONE, TABLES, TIMESTAMP, TOKEN_RANKS, TOPK, Table
from s2d_store.sql.functions import create_functions
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables.snapshot import Snapshot, table_path

# SQL that asks what there is needs all of it.
_CATALOG = re.compile(
    r"\b(SHOW|DESCRIBE|SUMMARIZE|PRAGMA|INFORMATION_SCHEMA|SQLITE_MASTER|DUCKDB_\w+)\b",
    re.IGNORECASE,
)


def connect(
    root: Place,
    snap: Snapshot,
    *,
    unsafe: bool = False,
    text: str | None = None,
    definitions: Mapping[str, str] | None = None,
    memory: str = "",
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB whose views read the snapshot's Parquet files.

    Args:
        root: the store's folder.
        snap: the snapshot.
        unsafe: let SQL reach files outside the store.
        text: SQL that will be run; only what it names is made, since binding every view takes most
            of the time of a small query. None makes all.
        definitions: CREATE statements by name, in an order that works, that take the place of the
            installed views and macros of these names, as a lock pins them.
        memory: most memory that queries may take, as `4GB`; default: 80% of the machine's.

    Unless `unsafe`, SQL reaches no file but the store's and its own spill files, no network, and no
    setting. It could still write in those folders, which is why a user's text goes through
    `read_only.only_reads` first.

    Raises:
        StoreError: a file of the snapshot is missing, damaged, or lacks a column; or the folder for
            spill files is somebody else's.
        InputError: `memory` is no amount of memory.
    """
    given, reached = dict(definitions or {}), reach(text, definitions)
    made = {name: sql for name, sql in reached.made.items() if name not in given}
    con = connect_raw(root, {name: snap.files[name] for name in reached.tables})
    create_functions(con, "\n".join([*made.values(), *given.values()]))
    # Those that stand on given ones, however indirectly, come after these.
    over: set[str] = set()
    for name, sql in made.items():  # what a statement names stands before it
        if set(re.findall(r"\w+", sql)) & (given.keys() | over):
            over.add(name)
    for name, statement in made.items():
        if name not in over:
            con.execute(statement)
    if text is not None:
        prepare(con, text)
    if memory:
        _limit_memory(con, memory)
    if not unsafe:
        spill = _spill_folder()
        con.execute(f"SET temp_directory = {literal(spill)}")
        # A table's folder may be a link to another disk.
        places = [root, *(table_path(root, name) for name in TABLES)]
        real = {backend_of(root).real_path(place) for place in places}
        # DuckDB compares the paths as they are asked for, patterns as patterns.
        allowed = [literal(f"{place}/") for place in (root, *sorted(real), spill)]
        allowed += [file_literal(f"{place}/") for place in sorted(real)]
        con.execute(f"SET allowed_directories = [{', '.join(allowed)}]")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
    with errors():
        for statement in given.values():  # from a file: locked down before they run
            con.execute(statement)
        for name in made:
            if name in over:
                con.execute(made[name])
    return con


def _limit_memory(con: duckdb.DuckDBPyConnection, memory: str) -> None:
    try:
        con.execute("SET memory_limit = $1", [memory])
    except duckdb.Error as error:
        raise InputError(
            f"{memory!r} is no amount of memory",
            _first_line(error),
            "write for example 4GB or 500MB",
        ) from error


class Reach(NamedTuple):
    """What SQL names: tables, and the CREATE statements of views and macros, in order."""

    tables: tuple[str, ...]
    made: Mapping[str, str]


def reach(text: str | None, definitions: Mapping[str, str] | None = None) -> Reach:
    """What a connection for some SQL needs; None, and SQL that asks what there is, need all.

    Args:
        text: the SQL.
        definitions: CREATE statements that take the place of the installed ones.
    """
    tables = tuple(TABLES)
    made = queries.definitions(tables)
    if text is None or _CATALOG.search(text):
        return Reach(tables, made)
    names = queries.named_in(text, tables)
    wanted = names | set(re.findall(r"\w+", "\n".join((definitions or {}).values())))
    if TOPK.name in wanted:
        wanted.add(TOKEN_RANKS.name)
    return Reach(
        tuple(name for name in tables if name in wanted),
        {name: sql for name, sql in made.items() if name in names},
    )


def prepare(con: duckdb.DuckDBPyConnection, text: str) -> None:
    """Make the macros and functions that SQL calls and that no connection has from the start."""
    for macro in queries.macros_for(text).values():
        con.execute(macro.replace("CREATE MACRO", "CREATE MACRO IF NOT EXISTS", 1))
    create_functions(con, text)


def read_once(con: duckdb.DuckDBPyConnection, views: Sequence[str]) -> None:
    """Read views once for every statement to come: a temporary table goes before its namesake.

    Args:
        con: a connection that has the views; from now on it sees them as they are.
        views: names of shipped views.

    Raises:
        QueryError: one of them cannot be read.
    """
    with errors():
        for view in views:
            con.execute(f"CREATE TEMP TABLE IF NOT EXISTS {view} AS FROM main.{view}")


def keeping(views: Sequence[str]) -> str:
    """SQL that puts tables in the places of views: as `read_once`, for all cursors of a connection.

    Args:
        views: names of shipped views, each before those that read it.
    """
    steps = [
        f"CREATE TABLE kept_{view} AS FROM {view}; DROP VIEW {view}; "
        f"ALTER TABLE kept_{view} RENAME TO {view};"
        for view in views
    ]
    return "\n".join(["BEGIN;", *steps, "COMMIT"])


def connect_raw(root: Place, files: Mapping[str, tuple[str, ...]]) -> duckdb.DuckDBPyConnection:
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
    backend_of(root).register(con, root)
    con.execute("SET preserve_insertion_order = false")
    con.execute("CREATE SCHEMA raw")
    if files.get("topk"):
        # Most queries read no top-k, and need not load what decodes it.
        from s2d_store.encoding import topk_sql
        from s2d_store.tables import rank_choice

        ranks = rank_choice.of_files(files.get(TOKEN_RANKS.name, ()))
        topk_sql.register(con, ranks.__getitem__)
    for name, paths in files.items():
        try:
            create_raw(con, TABLES[name], paths)
        except duckdb.BinderException as error:
            raise StoreError(
                f"the files of table {name} lack a column of this version",
                _first_line(error),
                f"s2d migrate --store {root}",
            ) from error
        except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
            raise StoreError(
                f"the files of table {name} cannot be read",
                _first_line(error),
                f"restore the folder {root / 'tables' / name} from a copy; "
                "s2d query --as-of reads an older snapshot",
            ) from error
    return con


def _first_line(error: Exception) -> str:
    """What went wrong; DuckDB hands on the whole traceback of a file system in Python."""
    lines = str(error).strip().splitlines()
    if lines[0].startswith("Traceback"):
        lines = [line for line in lines[1:] if line and not line.startswith(" ")]
    return lines[0]


def create_raw(con: duckdb.DuckDBPyConnection, table: Table, files: tuple[str, ...]) -> None:
    """Make a table in schema `raw` over its files; without any, an empty one."""
    # DDL takes no bound values: names come from schema.py, paths are quoted.
    # Times are plain UTC timestamps in SQL: zone arithmetic would need DuckDB's icu extension.
    hidden = FILES_ALONE.get(table.name, ())
    expressions = {
        c.name: f'"{c.name}"::TIMESTAMP' if c.type == TIMESTAMP else f'"{c.name}"'
        for c in table.columns
        if c.name not in hidden
    }
    columns = ", ".join(f'{value} AS "{name}"' for name, value in expressions.items())
    if files:
        paths = ", ".join(file_literal(file) for file in files)
        source = f"read_parquet([{paths}], hive_partitioning = true, hive_types_autocast = false)"
        select = f"SELECT {columns} FROM {source}"
        if hidden:
            select = f"WITH files AS (FROM {source}) {queries.raw(table.name)}"
        con.execute(f"CREATE VIEW raw.{table.name} AS {select}")
    else:
        con.register("_empty", pa.Table.from_batches([], table.schema))
        con.execute(f"CREATE TABLE raw.{table.name} AS SELECT {columns} FROM _empty")
        con.unregister("_empty")


def _spill_folder() -> str:
    """A folder for spill files that nobody else can read: they hold what queries sort and join.

    Its name can be guessed, so another user may have made it first.
    """
    folder = Path(tempfile.gettempdir()) / f"s2d-spill-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError("it belongs to somebody else")
        folder.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot hold the spill files of queries",
            error.strerror or str(error),
            "set TMPDIR to a folder of your own",
        ) from error
    return str(folder)


def file_literal(path: str) -> str:
    """Quote a file's path for `read_parquet`, which would take `[12]`, `*` and `?` for patterns."""
    return literal(re.sub(r"[\[*?]", r"[\g<0>]", path))


def scan(files: Sequence[str], columns: str) -> str:
    """SQL for columns of the rows of Parquet files, with filename and file_row_number.

    Args:
        files: absolute paths or URLs, at least one.
        columns: comma-separated, as SQL has them.
    """
    paths = ", ".join(file_literal(file) for file in files)
    return (
        f"SELECT {columns}, filename, file_row_number FROM read_parquet([{paths}], "
        "filename = true, file_row_number = true, hive_partitioning = true, "
        "hive_types_autocast = false)"
    )


def literal(text: str) -> str:
    """Quote text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


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
    except duckdb.OutOfMemoryException as error:
        raise QueryError(
            "the query needs more memory or spill space than it may take",
            _first_line(error),
            "select fewer rows or columns, raise --memory, or set TMPDIR to a larger disk",
        ) from error
    except duckdb.Error as error:
        raise QueryError("the query failed", _message(error), _next_command(error)) from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


def _next_command(error: duckdb.Error) -> str:
    """The command that shows what a query may name; empty where that is not what it missed."""
    text = str(error)
    if isinstance(error, duckdb.BinderException) and "Candidate" not in text:
        return 's2d query "DESCRIBE rollouts" shows the columns of a view'
    if isinstance(error, duckdb.CatalogException) and "Table with name" in text:
        return 's2d query "SHOW TABLES" lists the views, s2d query --list the named queries'
    return ""


def _message(error: duckdb.Error) -> str:
    """DuckDB's message without its empty lines."""
    return "\n       ".join(line for line in str(error).splitlines() if line.strip())
