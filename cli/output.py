"""What commands print: rows as a table or for other programs, and query results as they stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cli import table
from s2d_store.errors import InputError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Of rows that a command prints.
TEXT_FORMATS = ("table", "json", "csv", "md", "latex")
# Of a query, whose rows may be many: as they come, or to a file.
FORMATS = (*TEXT_FORMATS, "jsonl", "arrow", "parquet")
_STREAMED = ("csv", "json", "jsonl")
# Where nobody says how wide the terminal is.
_WIDE = 400


def check_format(asked: str, known: Sequence[str] = TEXT_FORMATS) -> str:
    """A format of `--format`.

    Raises:
        InputError: it is none.
    """
    if asked not in known:
        raise InputError(f"output format {asked!r} is unknown", f"formats: {', '.join(known)}")
    return asked


def colored(stream: IO[str]) -> bool:
    """Whether to print in colors: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Columns of the terminal; many where standard output is a pipe or a file."""
    if not sys.stdout.isatty():
        return _WIDE
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def print_table(
    relation: duckdb.DuckDBPyRelation, max_rows: int = 200, form: str = "table"
) -> None:
    """Print a relation; as a table no more than `max_rows` of it."""
    from s2d_store.sql import connection

    with connection.errors():
        columns = relation.columns
        rows = relation.limit(max_rows + 1).fetchall()
    print_rows(columns, rows[:max_rows], form)
    if len(rows) > max_rows:
        note = f"first {max_rows} rows; LIMIT, --max-rows or --output FILE for more"
        print(note, file=sys.stdout if form == "table" else sys.stderr)


def print_rows(columns: Sequence[str], rows: Sequence[table.Row], form: str = "table") -> None:
    """Print rows in one of TEXT_FORMATS."""
    if form == "table":
        print(table.table(columns, rows, terminal_width(), colored(sys.stdout)))
        if not rows:
            print("(no rows)")
    elif form == "csv":
        print("".join(table.csv_lines([columns, *rows])), end="")
    elif form == "json":
        print(_array(table.record(columns, row) for row in rows))
    else:
        print({"md": table.markdown, "latex": table.latex}[form](columns, rows))


def _array(records: Iterable[str]) -> str:
    return "[\n" + ",\n".join(records) + "\n]"


def choose_format(asked: str, output: Path | None) -> str:
    """The output format: as asked, from the file's ending, or a table.

    Raises:
        InputError: unknown, or a binary format without a file.
    """
    chosen = asked or (output.suffix.lstrip(".").lower() if output else "table")
    chosen = check_format({"tex": "latex"}.get(chosen, chosen), FORMATS)
    if output is None and chosen in ("arrow", "parquet"):
        raise InputError(f"format {chosen} is binary", "it needs a file", "--output FILE")
    return chosen


def write(relation: duckdb.DuckDBPyRelation, chosen: str, output: Path | None) -> None:
    """Stream a relation to a file or standard output; a file appears whole or not at all.

    Raises:
        QueryError: the query fails, possibly at a late row.
        InputError: the file cannot be written.
    """
    from s2d_store.sql import connection

    with connection.errors():
        reader = relation.to_arrow_reader(10_000)
    if output is None:
        with open(1, "wb", closefd=False) as file:
            _write_text(reader.schema, _batches(reader), chosen, file)
        return
    # A device or pipe takes the bytes as they come.
    draft = output if _is_special(output) else output.with_name(f".{output.name}.draft")
    try:
        _write_file(reader.schema, _batches(reader), chosen, draft)
        if draft != output:
            draft.replace(output)
    except OSError as error:
        raise InputError(f"cannot write {output}", error.strerror or str(error)) from error
    finally:
        if draft != output:
            draft.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Batches of a query; Arrow reports what fails in DuckDB, Ctrl-C too, as OSError."""
    import pyarrow as pa

    from s2d_store.errors import QueryError

    batches = iter(reader)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise QueryError("the query failed", str(error)) from error
        if batch is None:
            return
        yield batch


def _write_file(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], chosen: str, path: Path
) -> None:
    if chosen in (*_STREAMED, "md", "latex"):
        with path.open("wb") as file:
            _write_text(schema, batches, chosen, file)
    elif chosen == "arrow":
        import pyarrow as pa

        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    else:
        import pyarrow.parquet as pq

        from s2d_store.tables.parquet_writer import writer_options

        with pq.ParquetWriter(path, schema, **writer_options(schema)) as parquet:
            for batch in batches:
                parquet.write_batch(batch)


def _write_text(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], chosen: str, file: IO[bytes]
) -> None:
    """Write rows as they come; Markdown and LaTeX, which look at whole columns, at once."""
    rows = (
        row
        for batch in batches
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    if chosen == "csv":
        for line in table.csv_lines(chain([schema.names], rows)):
            file.write(line.encode())
    elif chosen == "jsonl":
        for row in rows:
            file.write(table.record(schema.names, row).encode() + b"\n")
    elif chosen == "json":
        file.write(b"[")
        for i, row in enumerate(rows):
            file.write((b",\n" if i else b"\n") + table.record(schema.names, row).encode())
        file.write(b"\n]\n")
    else:
        form = {"md": table.markdown, "latex": table.latex}[chosen]
        file.write(form(schema.names, list(rows)).encode() + b"\n")
