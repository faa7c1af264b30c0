"""`parquet`: the dataset's own columns and rows, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.rows import dataset_tables
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store
from s2d_store.tables import parquet_writer


def write_tables(path: Path, stream: Iterator[pa.Table]) -> int:
    """Write a stream of tables to one Parquet file; returns its rows."""
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for table in stream:
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=parquet_writer.rows_per_group(table))
            rows += table.num_rows
    finally:
        if writer:
            writer.close()
    return rows


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One Parquet file; see `Write`."""
    return Written(write_tables(draft, dataset_tables(store, dataset)))


EXPORTER = Exporter("parquet", "the dataset's own columns and rows", write)
