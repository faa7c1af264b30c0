"""Buckets of rows on disk, as many as it takes, with one file open at a time.

Rows are kept as the store keeps them (a top-k in steps, bytes split, zstd), which is about a third
of what they take in memory. What is added to a bucket waits in memory until all that waits is more
than a budget; then the largest waiting buckets are appended to their files, each as one block: its
length in eight bytes, and a Parquet file.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.errors import StoreError
from s2d_store.tables import parquet_writer

WAITING_BYTES = 128 << 20
_LENGTH_BYTES = 8


class Buckets:
    """Tables added to numbered buckets, and read back one bucket at a time."""

    def __init__(self, folder: Path, waiting_bytes: int = WAITING_BYTES) -> None:
        """Keep them below a folder, with at most about so many bytes in memory."""
        self._folder, self._limit, self._total = folder, waiting_bytes, 0
        self._waiting: dict[str, list[pa.Table]] = defaultdict(list)
        self._bytes: dict[str, int] = defaultdict(int)

    def add(self, bucket: str, rows: pa.Table) -> None:
        """Append rows to a bucket; those of one bucket have one schema."""
        self._waiting[bucket].append(rows)
        self._bytes[bucket] += rows.nbytes
        self._total += rows.nbytes
        if self._total > self._limit:
            # The fuller half, so that blocks are large and the next rows find room.
            for name in sorted(self._bytes, key=self._bytes.__getitem__)[len(self._bytes) // 2 :]:
                self._write(name)

    def take(self, bucket: str) -> Iterator[pa.Table]:
        """The tables of a bucket in the order in which they were added; it is gone afterwards."""
        path = self._folder / bucket
        if path.exists():
            with path.open("rb") as file:
                while length := file.read(_LENGTH_BYTES):
                    block = pa.py_buffer(file.read(int.from_bytes(length, "little")))
                    yield pq.read_table(pa.BufferReader(block))
            path.unlink()
        self._total -= self._bytes.pop(bucket, 0)
        yield from self._waiting.pop(bucket, [])

    def _write(self, bucket: str) -> None:
        self._total -= self._bytes.pop(bucket)
        rows = pa.concat_tables(self._waiting.pop(bucket)).combine_chunks()
        sink = pa.BufferOutputStream()
        options = parquet_writer.writer_options(rows.schema)
        options |= {"compression_level": 1, "write_statistics": False}
        with pq.ParquetWriter(sink, rows.schema, **options) as writer:
            writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        block = sink.getvalue()
        with (self._folder / bucket).open("ab") as file:
            file.write(block.size.to_bytes(_LENGTH_BYTES, "little"))
            file.write(block)


def require_space(folder: Path, needed: int, what: str, fix: str) -> None:
    """Refuse to start what would fill a disk.

    Args:
        folder: on the disk that is written to.
        needed: bytes.
        what: what needs them, as the subject of a sentence.
        fix: the next command.

    Raises:
        StoreError: there are fewer free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{what} needs about {_size(needed)} in {folder}, which has {_size(free)} free",
            "nothing was written",
            fix,
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:,.1f} MB"
