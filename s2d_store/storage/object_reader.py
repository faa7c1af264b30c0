"""Read parts of objects as DuckDB and pyarrow ask for them, in few requests.

A store's files never change, so the end of each, where Parquet keeps its metadata, and its size are
asked for once in a process, together. After that a read of one place is one request.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import Any

from fsspec import AbstractFileSystem

from s2d_store.storage import object_path
from s2d_store.storage.object_path import ObjectPath

TAIL_BYTES = 64 << 10
KEPT_TAILS = 1024
_WILD = re.compile(r"[*?\[]")


class RangeFile(io.RawIOBase):
    """An object to read and seek in.

    Raises:
        FileNotFoundError: there is no such object.
    """

    def __init__(self, path: ObjectPath) -> None:
        super().__init__()
        self._path = path
        self._position = 0
        self.size, self._tail = _tail(path)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The place that is read next."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; asks for nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read as much as the buffer holds, less only at the end."""
        view = memoryview(buffer).cast("B")
        data = self._part(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, less only at the end; -1 reads what is left."""
        return bytes(self._part(self.size if size is None or size < 0 else size))

    def _part(self, n: int) -> memoryview:
        start, end = self._position, min(self._position + n, self.size)
        if start >= end:
            return memoryview(b"")
        self._position = end
        before_tail = self.size - len(self._tail)
        if start >= before_tail:
            return memoryview(self._tail)[start - before_tail : end - before_tail]
        return memoryview(self._path.read_range(start, end))


@lru_cache(maxsize=KEPT_TAILS)
def _tail(path: ObjectPath) -> tuple[int, bytes]:
    return path.read_tail(TAIL_BYTES)


class RangeFiles(AbstractFileSystem):  # type: ignore[misc]
    """What DuckDB reads a store's objects through: named files alone, nothing listed or written."""

    cachable = False

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self.protocol = scheme

    def glob(self, path: str, **options: Any) -> list[str]:
        """The path itself, without asking whether it is there; nothing for a pattern."""
        return [] if _WILD.search(path) else [path]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, size and type of an object."""
        return {"name": path, "size": _tail(self._path(path))[0], "type": "file"}

    def modified(self, path: str) -> Any:
        """A moment that is the same for good: no file of a store ever changes."""
        return object_path.EPOCH

    def _open(self, path: str, mode: str = "rb", **options: Any) -> RangeFile:
        if mode != "rb":
            raise PermissionError(13, "a store's objects are only read", path)
        return RangeFile(self._path(path))

    def _path(self, path: str) -> ObjectPath:
        url = path if "://" in path else f"{self.protocol}://{path}"
        return ObjectPath.parse(url)
