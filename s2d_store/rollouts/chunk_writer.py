"""Commit rows in chunks from a writer thread, so that storing overlaps with the engine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Row = TypeVar("Row")

CHUNK_BYTES = 64 << 20
# A long run would leave thousands of small files: after each so many bytes a chunk may be larger
# by one CHUNK_BYTES, up to LARGEST of them. A kill then loses an eighth of the run at most.
GROWS_AFTER = 8 * CHUNK_BYTES
LARGEST = 4


class ChunkWriter(Generic[Row]):
    """Collects rows and hands full chunks to `write` in a thread of its own.

    A chunk is full at `max_rows` rows or CHUNK_BYTES, and of a long run at up to LARGEST times as
    many. A full chunk waits for the one before it to be written, and the producer with it: two
    chunks are held at most, and a producer that outruns the disk is slowed. Leaving the block,
    even by Ctrl-C or an error, writes what is collected; an error of `write` is raised in the
    producer, and later chunks are not tried.
    """

    def __init__(self, write: Callable[[list[Row]], None], max_rows: int) -> None:
        """Start nothing yet; `write` owns the list that it is given and may empty it."""
        self._write, self._max_rows = write, max_rows
        self._rows: list[Row] = []
        self._bytes = self._written = 0
        self._error: BaseException | None = None
        self._queue: queue.Queue[list[Row] | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._work, name="s2d-writer", daemon=True)

    def __enter__(self) -> ChunkWriter[Row]:
        self._thread.start()
        return self

    def add(self, row: Row, n_bytes: int) -> None:
        """Add one row of about `n_bytes`."""
        self._raise()
        self._rows.append(row)
        self._bytes += n_bytes
        times = min(LARGEST, 1 + self._written // GROWS_AFTER)
        if len(self._rows) >= times * self._max_rows or self._bytes >= times * CHUNK_BYTES:
            self._flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._error is None:
            self._flush()
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def _flush(self) -> None:
        if self._rows:
            self._queue.join()
            if self._error is None:
                self._queue.put(self._rows)
            self._written += self._bytes
            self._rows, self._bytes = [], 0

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (rows := self._queue.get()) is not None:
            try:
                self._write(rows)
            except BaseException as error:  # the boundary: handed to the producer, see _raise
                self._error = error
            del rows  # not held until the next chunk comes
            self._queue.task_done()
