"""One stream of bytes in files of a size that can be carried, and back, each checked by its hash.

Needs Python alone: `run.py` uses it on a machine where nothing of s2d is installed.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


class PartsWriter(io.RawIOBase):
    """Writes what it is given into `part-000`, `part-001`, ... of at most `part_bytes` each."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self._folder, self._part_bytes = folder, part_bytes
        self._buffer = bytearray()
        self.parts: list[dict[str, Any]] = []

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes."""
        self._buffer += data
        while len(self._buffer) >= self._part_bytes:
            self._flush(self._part_bytes)
        return len(data)

    def finish(self, about: dict[str, Any]) -> None:
        """Write the last part, then the manifest that makes the folder whole."""
        if self._buffer:
            self._flush(len(self._buffer))
        document = json.dumps({**about, "parts": self.parts}, indent=2) + "\n"
        (self._folder / MANIFEST).write_text(document, encoding="utf-8")

    def _flush(self, size: int) -> None:
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        name = f"part-{len(self.parts):03d}"
        (self._folder / name).write_bytes(part)
        digest = hashlib.sha256(part).hexdigest()
        self.parts.append({"name": name, "bytes": size, "sha256": digest})


class PartsReader(io.RawIOBase):
    """Reads the parts of a folder as one stream.

    Raises:
        ValueError: a part is missing, or not what was written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = read_manifest(folder)["parts"]
        missing = [part["name"] for part in self._parts if not (folder / part["name"]).exists()]
        if missing:
            raise ValueError(f"{folder} lacks {', '.join(missing)} of {len(self._parts)} parts")
        self._next, self._data = 0, memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        if not len(self._data) and self._next < len(self._parts):
            part = self._parts[self._next]
            data = (self._folder / part["name"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != part["sha256"]:
                raise ValueError(f"{self._folder / part['name']} is not what was packed: copy it")
            self._data, self._next = memoryview(data), self._next + 1
        size = min(len(buffer), len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a packed folder holds.

    Raises:
        ValueError: it is none.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise ValueError(f"{folder} has no {MANIFEST}: it is no packed folder, or not yet whole")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
