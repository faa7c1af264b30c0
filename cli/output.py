"""Query results: a table on a terminal, or csv, json, arrow or parquet."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from s2d_store.errors import InputError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "arrow", "parquet")
_LIST_ITEMS = 6
# What a model wrote must not steer the terminal: escape sequences move, hide and copy text.
_CONTROLS = {i: f"\\x{i:02x}" for i in (*range(32), *range(127, 160)) if chr(i) not in "\t\n"}


def print_table(relation: duckdb.DuckDBPyRelation, max_rows: int = 200) -> None:
    """Print a relation as an aligned table."""
    from s2d_store.sql import connection

    with connection.errors():
        columns = relation.columns
        rows = relation.limit(max_rows + 1).fetchall()
    print_rows(columns, rows[:max_rows])
    if len(rows) > max_rows:
        print(f"first {max_rows} rows; LIMIT, --max-rows or --output FILE for more")


def print_rows(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print rows as an aligned table, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        numeric = all(isinstance(row[i], int | float | type(None)) for row in rows) and rows
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    wide = None if sys.stdout.isatty() else 400
    Console(width=wide, soft_wrap=False, highlight=False, markup=False).print(table)
    if not rows:
        print("(no rows)")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and len(value) > _LIST_ITEMS:
        shown = ", ".join(_cell(item) for item in value[:_LIST_ITEMS])
        return f"[{shown}, ... {len(value)} in all]"
    return str(value).translate(_CONTROLS)


def choose_format(asked: str, output: Path | None) -> str:
    """The output format: as asked, from the file's ending, or a table.

    Raises:
        InputError: unknown, or a binary format without a file.
    """
    chosen = asked or (output.suffix.lstrip(".").lower() if output else "table")
    if chosen not in FORMATS:
        raise InputError(f"output format {chosen!r} is unknown", f"formats: {', '.join(FORMATS)}")
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
    if chosen in ("csv", "json"):
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
    import csv
    import io
    import json

    def rows_as_csv(rows: Iterable[Iterable[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    if chosen == "csv":
        file.write(rows_as_csv([schema.names]))
    for batch in batches:
        columns = [column.to_pylist() for column in batch.columns]
        if chosen == "csv":
            rows = zip(*columns, strict=True)
            file.write(rows_as_csv(["" if v is None else v for v in row] for row in rows))
            continue
        for row in zip(*columns, strict=True):
            record = dict(zip(schema.names, row, strict=True))
            file.write(json.dumps(record, default=str, ensure_ascii=False).encode() + b"\n")
