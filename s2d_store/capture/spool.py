"""The spool: a folder of append-only files between the proxy and the store.

A thread appends exchanges to a `.part` file and fsyncs them; a file that is large or old enough is
renamed `.jsonl`, which says that it may be stored. A `.part` file is locked while its writer lives,
so that one left by a process that was killed is told apart, and stored like the others.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from s2d_store.capture.exchange import Exchange

MAX_WAITING_BYTES = 256 << 20
FILE_BYTES = 32 << 20
BATCH_BYTES = 8 << 20
FILE_AGE_S = 2.0
RETRY_S = 1.0
REFUSED = "refused.ndjson"
TORN = ".torn"


class Spool:
    """Takes exchanges without ever failing or waiting; see `offer`.

    Attributes:
        taken: exchanges that were offered and kept.
        dropped: exchanges that were let go since memory was full.
    """

    def __init__(self, folder: Path, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        """Start the writing thread; the folder is made when there is something to write."""
        self.folder, self.taken, self.dropped = folder, 0, 0
        self._most, self._waiting = max_waiting_bytes, 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        self._file: IO[bytes] | None = None
        self._path, self._size, self._began, self._told = Path(), 0, 0.0, ""
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="spool")
        self._thread.start()

    def reserve(self, size: int) -> bool:
        """Set memory aside for an answer that is coming in; False where there is none left."""
        with self._lock:
            if self._waiting + size > self._most:
                return False
            self._waiting += size
            return True

    def release(self, size: int) -> None:
        """Return what was set aside."""
        with self._lock:
            self._waiting -= size

    def offer(self, exchange: Exchange) -> None:
        """Hand over an exchange whose size was reserved; it is released once written."""
        self.taken += 1
        self._queue.put(exchange)

    def drop(self) -> None:
        """Count an exchange for which there was no memory."""
        self.dropped += 1
        if self.dropped == 1:
            self._say(f"memory for {self._most:,} bytes is full: requests pass without being kept")

    def close(self) -> None:
        """Write what waits; the last file is left to be stored. Waits while the disk is full."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        while True:
            batch = self._next()
            closing = self._closing and self._queue.empty()
            if batch:
                self._append(batch)
                self.release(sum(exchange.size for exchange in batch))
            old = self._file is not None and time.monotonic() - self._began > FILE_AGE_S
            if old or closing or self._size > FILE_BYTES:
                self._finish()
            if closing:
                return

    def _next(self) -> list[Exchange]:
        """What waits: at least one exchange, or none after a while."""
        found: list[Exchange] = []
        wait, size = FILE_AGE_S / 4, 0
        while size < BATCH_BYTES:
            try:
                exchange = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            except queue.Empty:
                break
            wait = 0
            if exchange is not None:
                found.append(exchange)
                size += exchange.size
        return found

    def _append(self, batch: list[Exchange]) -> None:
        """Write and fsync; tried again in a new file until the disk takes it.

        A line that stands in two files is one exchange, and stored once.
        """
        lines = b"".join(exchange.line() for exchange in batch)
        while True:
            try:
                if self._file is None:
                    self._open()
                assert self._file is not None
                self._file.write(lines)
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                self._say(f"cannot write to {self.folder}: {error.strerror or error}; trying again")
                self._abandon()
                if self._closing:
                    self._say(f"{len(batch)} exchanges could not be written and are lost")
                    return
                time.sleep(RETRY_S)
            else:
                self._size += len(lines)
                self._told = ""
                return

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.part"
        self._path, self._size, self._began = self.folder / name, 0, time.monotonic()
        # Prompts and answers are nobody else's.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def _finish(self) -> None:
        """Close the file and say that it may be stored."""
        if self._file is not None:
            self._path.rename(self._path.with_suffix(".jsonl"))
            self._abandon()

    def _abandon(self) -> None:
        """Close the file; without its lock it counts as one that was left."""
        file, self._file, self._size = self._file, None, 0
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._say(f"cannot close {self._path}: {error.strerror or error}")

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            print(f"s2d capture: {text}", file=sys.stderr, flush=True)


def ready(folder: Path) -> Iterator[Path]:
    """Files that may be stored, oldest first; those that a dead process left are taken over."""
    for path in sorted(folder.glob("*.part")) if folder.is_dir() else ():
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if path.exists():
                path.rename(path.with_suffix(".jsonl"))
    yield from sorted(folder.glob("*.jsonl"))


def refuse(folder: Path, lines: list[bytes]) -> None:
    """Keep lines that cannot be stored, each with why, until a person looks at them."""
    with (folder / REFUSED).open("ab") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
