"""Fetch the heavy columns (tokens, logprobs, top-k) of chosen rows, in training order.

Every source file is read once, front to back. What exceeds the memory budget is first dealt into
buckets of consecutive training rows on disk, then each bucket is sorted in memory, so a dataset
larger than memory builds in bounded memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from s2d_store.encoding import logit_steps
from s2d_store.encoding.list_take import take
from s2d_store.storage.backend import parquet_source

BUCKET_BYTES = 512 << 20


@dataclass(frozen=True)
class Source:
    """Where the wanted rows of one table lie.

    Attributes:
        files: Parquet files.
        file: int64 (N,), index into `files` of the row that training row n uses.
        position: int64 (N,), its row number in that file.
        columns: heavy columns to fetch.
        rename: new names by column, where they differ.
    """

    files: Sequence[str]
    file: NDArray[np.int64]
    position: NDArray[np.int64]
    columns: Sequence[str]
    rename: dict[str, str]


def fetch_rows(
    sources: Sequence[Source], row_bytes: NDArray[np.int64], bucket_bytes: int = BUCKET_BYTES
) -> Iterator[tuple[int, pa.Table]]:
    """Yield `(first row, heavy columns of the next rows)` in training order.

    Args:
        sources: one entry a table; all for the same N training rows.
        row_bytes: int64 (N,), estimated bytes of each row, to size the buckets.
        bucket_bytes: memory that one bucket may take.
    """
    bucket = (np.cumsum(row_bytes) - row_bytes) // bucket_bytes
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    if len(starts) == 1:
        yield 0, _side_by_side([_in_order(list(_fetch(source))) for source in sources])
        return
    with tempfile.TemporaryDirectory(prefix="s2d-build-") as folder:
        for number, source in enumerate(sources):
            _spill(source, starts, Path(folder), number)
        for i, start in enumerate(starts.tolist()):
            tables = []
            for number in range(len(sources)):
                path = Path(folder) / f"{number}-{i}.arrow"
                with pa.memory_map(str(path)) as file:
                    spilled = pa.ipc.open_stream(file).read_all()
                    rows = spilled.column("_row").to_numpy()
                    everything = np.arange(len(rows))
                    tables.append(_in_order([Fetched(spilled.drop("_row"), everything, rows)]))
                path.unlink()
            yield start, _side_by_side(tables)


@dataclass(frozen=True)
class Fetched:
    """Rows of `table` at `wanted` are the training rows `rows`; both int64 (n,)."""

    table: pa.Table
    wanted: NDArray[np.int64]
    rows: NDArray[np.int64]


def _fetch(source: Source) -> Iterator[Fetched]:
    """Row groups that hold wanted rows, in file order; mostly unwanted ones without the rest."""
    order = np.lexsort((source.position, source.file))
    used, starts = np.unique(source.file[order], return_index=True)
    wanted_columns = list(source.columns)
    names = [source.rename.get(c, c) for c in wanted_columns]
    for index, rows in zip(used.tolist(), np.split(order, starts[1:]), strict=True):
        positions = source.position[rows]
        with pq.ParquetFile(parquet_source(source.files[index]), pre_buffer=True) as file:
            stored = logit_steps.stored_columns(wanted_columns, file.schema_arrow.names)
            first = 0
            for group in range(file.num_row_groups):
                n = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(positions, [first, first + n])
                if low < high:
                    table = file.read_row_group(group, columns=stored)
                    wanted = positions[low:high] - first
                    if 2 * len(wanted) < n:
                        table, wanted = take(table, wanted), np.arange(len(wanted))
                    table = logit_steps.decode(table).select(wanted_columns).rename_columns(names)
                    yield Fetched(table, wanted, rows[low:high])
                first += n


def _spill(source: Source, starts: NDArray[np.int64], folder: Path, number: int) -> None:
    writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
    try:
        for fetched in _fetch(source):
            buckets = np.searchsorted(starts, fetched.rows, side="right") - 1
            for i in np.unique(buckets).tolist():
                here = buckets == i
                part = take(fetched.table, fetched.wanted[here])
                part = part.append_column("_row", pa.array(fetched.rows[here]))
                if i not in writers:
                    path = str(folder / f"{number}-{i}.arrow")
                    writers[i] = pa.ipc.new_stream(path, part.schema)
                writers[i].write_table(part)
    finally:
        for writer in writers.values():
            writer.close()


def _in_order(parts: Sequence[Fetched]) -> pa.Table:
    """The wanted rows of all parts by training row."""
    firsts = np.cumsum([0, *(part.table.num_rows for part in parts)])
    places = np.concatenate([part.wanted + n for part, n in zip(parts, firsts, strict=False)])
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)
    assert np.all(np.diff(rows[order]) == 1), "every training row is fetched once"
    return take(pa.concat_tables([part.table for part in parts]), places[order])


def _side_by_side(tables: Sequence[pa.Table]) -> pa.Table:
    columns = {name: table.column(name) for table in tables for name in table.column_names}
    return pa.table(columns)
