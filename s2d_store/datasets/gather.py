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
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

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


def gather(
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
    ends = np.append(starts[1:], len(row_bytes))
    if len(starts) == 1:
        tables = [_in_order(list(_fetch(source)), 0, len(row_bytes)) for source in sources]
        yield 0, _side_by_side(tables)
        return
    with tempfile.TemporaryDirectory(prefix="s2d-build-") as folder:
        for number, source in enumerate(sources):
            _spill(source, starts, Path(folder), number)
        for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            tables = []
            for number in range(len(sources)):
                path = Path(folder) / f"{number}-{i}.arrow"
                with pa.memory_map(str(path)) as file:
                    tables.append(_in_order([pa.ipc.open_stream(file).read_all()], start, end))
                path.unlink()
            yield start, _side_by_side(tables)


def _fetch(source: Source) -> Iterator[pa.Table]:
    """Wanted rows in file order, with their training row in column `_row`."""
    order = np.lexsort((source.position, source.file))
    used, starts = np.unique(source.file[order], return_index=True)
    for index, rows in zip(used.tolist(), np.split(order, starts[1:]), strict=True):
        positions = source.position[rows]
        with pq.ParquetFile(source.files[index]) as file:
            first = 0
            for group in range(file.num_row_groups):
                n = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(positions, [first, first + n])
                if low < high:
                    table = file.read_row_group(group, columns=list(source.columns))
                    wanted = positions[low:high] - first
                    whole = np.array_equal(wanted, np.arange(n))
                    taken = table if whole else table.take(pa.array(wanted))
                    names = [source.rename.get(c, c) for c in source.columns]
                    taken = taken.select(list(source.columns)).rename_columns(names)
                    yield taken.append_column("_row", pa.array(rows[low:high]))
                first += n


def _spill(source: Source, starts: NDArray[np.int64], folder: Path, number: int) -> None:
    writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
    try:
        for table in _fetch(source):
            buckets = np.searchsorted(starts, table.column("_row").to_numpy(), side="right") - 1
            for i in np.unique(buckets).tolist():
                if i not in writers:
                    path = str(folder / f"{number}-{i}.arrow")
                    writers[i] = pa.ipc.new_stream(path, table.schema)
                writers[i].write_table(table.filter(pa.array(buckets == i)))
    finally:
        for writer in writers.values():
            writer.close()


def _in_order(tables: list[pa.Table], start: int, end: int) -> pa.Table:
    table = pa.concat_tables(tables)
    order = pc.sort_indices(table.column("_row"))
    rows = table.column("_row").take(order).to_numpy()
    assert np.array_equal(rows, np.arange(start, end)), "every training row is fetched once"
    return table.drop_columns(["_row"]).take(order)


def _side_by_side(tables: Sequence[pa.Table]) -> pa.Table:
    columns = {name: table.column(name) for table in tables for name in table.column_names}
    return pa.table(columns)
