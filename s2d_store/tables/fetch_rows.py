"""Fetch the heavy columns (tokens, logprobs, top-k) of chosen rows, in training order.

What exceeds the memory budget is fetched a bucket of consecutive training rows at a time. Where row
groups hold few rows, as those of long responses do, each bucket's are read where they lie. Other
files are read once, front to back, and dealt into buckets on disk, each of which is then sorted in
memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from s2d_store.encoding import topk_codec
from s2d_store.encoding.list_take import take
from s2d_store.encoding.topk_codec import RankTables
from s2d_store.encoding.topk_ragged import pad_to_k
from s2d_store.encoding.topk_ranks import IDENTITY
from s2d_store.storage.backend import parquet_source
from s2d_store.storage.checked_parquet import open_checked
from s2d_store.tables.spill import Buckets, require_space

BUCKET_BYTES = 160 << 20
# A fast level of zstd, and some rows a block: a little more than the store's own bytes.
SPILL_MARGIN = 1.15
# Rows per row group up to which reading whole groups for single rows is cheaper than dealing.
DIRECT_ROWS = 2.5


@dataclass(frozen=True, eq=False)
class Source:
    """Where the wanted rows of one table lie.

    Attributes:
        files: Parquet files.
        file: int64 (N,), index into `files` of the row that training row n uses.
        position: int64 (N,), its row number in that file.
        columns: heavy columns to fetch.
        rename: new names by column, where they differ.
        ranks: rank tables by name, of table topk.
    """

    files: Sequence[str]
    file: NDArray[np.int64]
    position: NDArray[np.int64]
    columns: Sequence[str]
    rename: dict[str, str]
    ranks: RankTables = field(default_factory=lambda: {None: IDENTITY})


@dataclass(frozen=True)
class Spill:
    """Where rows that do not fit in memory wait meanwhile.

    Attributes:
        folder: where; a folder of its own is made there. None: the system's for temporary files.
        fix: what to do where its disk has too little room.
        suffix: of that folder's name, which begins with a dot if there is one.
    """

    folder: Path | None = None
    fix: str = "free disk space there, or set TMPDIR to a folder on a larger disk"
    suffix: str = ""


def fetch_rows(
    sources: Sequence[Source],
    row_bytes: NDArray[np.int64],
    bucket_bytes: int = BUCKET_BYTES,
    spill: Spill | None = None,
) -> Iterator[tuple[int, pa.Table]]:
    """Yield `(first row, heavy columns of the next rows)` in training order.

    Args:
        sources: one entry a table; all for the same N training rows.
        row_bytes: int64 (N,), estimated bytes of each row, to size the buckets.
        bucket_bytes: memory that one bucket may take.
        spill: where the rest waits meanwhile.

    Raises:
        StoreError: more waits than the disk has room for; known before anything is written.
    """
    bucket = (np.cumsum(row_bytes) - row_bytes) // bucket_bytes
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    if len(starts) == 1:
        yield 0, _side_by_side([_in_order(_fetch(s), s) for s in sources])
        return
    dealt = [source for source in sources if not is_direct(source)]
    with _spill_folder(dealt, spill or Spill()) as folder:
        buckets = Buckets(folder)
        for number, source in enumerate(sources):
            if source in dealt:
                _deal(source, starts, buckets, number)
        ends = [*starts[1:].tolist(), len(row_bytes)]
        for i, (start, end) in enumerate(zip(starts.tolist(), ends, strict=True)):
            tables = []
            for number, source in enumerate(sources):
                if source in dealt:
                    tables.append(_in_order(_taken(buckets, f"{number}-{i}"), source))
                    continue
                here = slice(start, end)
                one = replace(source, file=source.file[here], position=source.position[here])
                tables.append(_in_order(_fetch(one), one))
            yield start, _side_by_side(tables)


def is_direct(source: Source) -> bool:
    """Whether single rows are read where they lie: their row groups hold few others."""
    groups = rows = 0
    for index in np.unique(source.file).tolist():
        metadata = pq.read_metadata(parquet_source(source.files[index]))
        groups, rows = groups + metadata.num_row_groups, rows + metadata.num_rows
    return rows <= DIRECT_ROWS * groups


def stored_bytes(sources: Sequence[Source]) -> int:
    """Bytes that the wanted rows take in their files, from the footers alone; an estimate."""
    total = 0.0
    for source in sources:
        wanted = np.bincount(source.file, minlength=len(source.files))
        for index in np.flatnonzero(wanted).tolist():
            with pq.ParquetFile(parquet_source(source.files[index])) as file:
                of_file, rows = _column_bytes(file, source), file.metadata.num_rows
            total += of_file * int(wanted[index]) / max(1, rows)
    return int(total)


def _column_bytes(file: pq.ParquetFile, source: Source) -> int:
    stored = topk_codec.stored_columns(source.columns, file.schema_arrow.names)
    metadata = file.metadata
    leaves = [
        leaf
        for leaf in range(metadata.num_columns)
        if metadata.schema.column(leaf).path.split(".")[0] in stored
    ]
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(group.column(leaf).total_compressed_size for group in groups for leaf in leaves)


@contextmanager
def _spill_folder(sources: Sequence[Source], spill: Spill) -> Iterator[Path]:
    if spill.folder is not None:
        spill.folder.mkdir(parents=True, exist_ok=True)
    prefix = ".spill-" if spill.suffix else "s2d-spill-"
    with tempfile.TemporaryDirectory(spill.suffix, prefix, spill.folder) as name:
        folder = Path(name)
        needed = int(stored_bytes(sources) * SPILL_MARGIN)
        require_space(folder, needed, "sorting these rows", spill.fix)
        yield folder


@dataclass(frozen=True)
class Fetched:
    """Rows of `table`, as stored, at `wanted` are the training rows `rows`; both int64 (n,)."""

    table: pa.Table
    wanted: NDArray[np.int64]
    rows: NDArray[np.int64]


def _fetch(source: Source) -> Iterator[Fetched]:
    """Row groups that hold wanted rows, in file order; mostly unwanted ones without the rest."""
    order = np.lexsort((source.position, source.file))
    used, starts = np.unique(source.file[order], return_index=True)
    for index, rows in zip(used.tolist(), np.split(order, starts[1:]), strict=True):
        positions = source.position[rows]
        with open_checked(parquet_source(source.files[index]), pre_buffer=True) as file:
            stored = topk_codec.stored_columns(source.columns, file.schema_arrow.names)
            first = 0
            for group in range(file.num_row_groups):
                n = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(positions, [first, first + n])
                if low < high:
                    table = file.read_row_group(group, columns=stored)
                    wanted = positions[low:high] - first
                    if 2 * len(wanted) < n:
                        table, wanted = take(table, wanted), np.arange(len(wanted))
                    yield Fetched(table, wanted, rows[low:high])
                first += n


def _deal(source: Source, starts: NDArray[np.int64], buckets: Buckets, number: int) -> None:
    for fetched in _fetch(source):
        where = np.searchsorted(starts, fetched.rows, side="right") - 1
        for i in np.unique(where).tolist():
            here = where == i
            part = take(fetched.table, fetched.wanted[here])
            part = part.append_column("_row", pa.array(fetched.rows[here]))
            buckets.add(f"{number}-{i}", part)


def _taken(buckets: Buckets, name: str) -> Iterator[Fetched]:
    """The rows that were dealt to a bucket."""
    for table in buckets.take(name):
        rows = table.column("_row").to_numpy()
        yield Fetched(table.drop("_row"), np.arange(len(rows)), rows)


def _in_order(fetched: Iterator[Fetched], source: Source) -> pa.Table:
    """The wanted rows of all parts by training row, decoded, under their new names."""
    parts = list(fetched)
    firsts = np.cumsum([0, *(part.table.num_rows for part in parts)])
    places = np.concatenate([part.wanted + n for part, n in zip(parts, firsts, strict=False)])
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)
    assert np.all(np.diff(rows[order]) == 1), "every training row is fetched once"
    # All files of a store have one encoding, so that rows of several are decoded together.
    stored = take(pa.concat_tables([part.table for part in parts]), places[order])
    del parts  # freed before the rows are decoded, which is when most is in memory
    names = [source.rename.get(name, name) for name in source.columns]
    plain = pad_to_k(topk_codec.decode(stored, source.ranks))
    return plain.select(list(source.columns)).rename_columns(names)


def _side_by_side(tables: Sequence[pa.Table]) -> pa.Table:
    columns = {name: table.column(name) for table in tables for name in table.column_names}
    return pa.table(columns)
