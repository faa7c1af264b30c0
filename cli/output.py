"""Query results: a table on a terminal, or csv, json, arrow or parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2d_store.errors import InputError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "arrow", "parquet")
_LIST_ITEMS = 6


def print_table(relation: duckdb.DuckDBPyRelation, max_rows: int = 200) -> None:
    """Print a relation as an aligned table."""
    from s2d_store import sql

    with sql.errors():
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
    return str(value)


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
    """Stream a relation to a file or standard output."""
    from s2d_store import sql

    with sql.errors():
        reader = relation.to_arrow_reader(10_000)
    if chosen in ("csv", "json"):
        with output.open("wb") if output else open(1, "wb", closefd=False) as file:
            _write_text(reader, chosen, file)
        return
    assert output is not None, "choose_format demands a file"
    if chosen == "arrow":
        import pyarrow as pa

        with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        return
    import pyarrow.parquet as pq

    from s2d_store.parquet import writer_options

    with pq.ParquetWriter(output, reader.schema, **writer_options(reader.schema)) as parquet:
        for batch in reader:
            parquet.write_batch(batch)


def _write_text(reader: pa.RecordBatchReader, chosen: str, file: Any) -> None:
    import csv
    import io
    import json

    first = True
    for batch in reader:
        text = io.StringIO()
        if chosen == "json":
            for row in batch.to_pylist():
                text.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")
        else:
            writer = csv.writer(text, lineterminator="\n")
            if first:
                writer.writerow(batch.schema.names)
            for row in batch.to_pylist():
                writer.writerow("" if value is None else value for value in row.values())
        first = False
        file.write(text.getvalue().encode())
