"""Where a store lies: a local folder, or a prefix of an object store. What differs is here."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2d_store.storage.object_path import ObjectPath

Place = Path | ObjectPath


@dataclass(frozen=True)
class FileInfo:
    """A file below some folder.

    Attributes:
        path: where.
        relative: its path within the folder, with forward slashes.
        size: bytes.
        modified: seconds since 1970, by the clock of whoever keeps the files.
    """

    path: Place
    relative: str
    size: int
    modified: float


def parse_location(root: str | Place) -> Place:
    """The place that a user named.

    Raises:
        InputError: a URL that no store can lie at.
    """
    if isinstance(root, ObjectPath):
        return root
    return ObjectPath.parse(str(root)) if is_url(root) else Path(root).absolute()


def is_url(path: object) -> bool:
    """Whether this names something on an object store, or tries to."""
    return isinstance(path, ObjectPath) or "://" in str(path)


def make_folder(path: Place) -> None:
    """Make a folder; object stores have none."""
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)


def list_files(folder: Place) -> list[FileInfo]:
    """Every file below a folder, by path; none where there is no folder."""
    if isinstance(folder, ObjectPath):
        skip = len(folder.key) + 1 if folder.key else 0
        found = [
            FileInfo(path, path.key[skip:], size, when.timestamp())
            for path, size, when in folder.below()
        ]
        return sorted(found, key=lambda file: file.relative)
    return sorted(_files(folder), key=lambda file: file.relative)


def _files(folder: Path) -> Iterator[FileInfo]:
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except FileNotFoundError:  # gone meanwhile
            continue
        if path.is_file():
            relative = path.relative_to(folder).as_posix()
            yield FileInfo(path, relative, state.st_size, state.st_mtime)


def size(path: Place) -> int:
    """Bytes of a file."""
    return path.size() if isinstance(path, ObjectPath) else path.stat().st_size


def file_identity(path: Path) -> object:
    """What tells a file from another one that was put in its place."""
    state = os.stat(path)
    return state.st_ino, state.st_mtime_ns


def exists(path: str) -> bool:
    """Whether a file of a snapshot is there."""
    return ObjectPath.parse(path).exists() if is_url(path) else os.path.exists(path)


def parquet_source(path: str | Place) -> Any:
    """What `pq.ParquetFile` and `pq.read_schema` open: the path, or an object to seek in."""
    if isinstance(path, str) and is_url(path):
        path = ObjectPath.parse(path)
    if isinstance(path, ObjectPath):
        from s2d_store.storage.object_reader import RangeFile

        return RangeFile(path)
    return path


def sha256(path: Place) -> str:
    """SHA-256 of a file's bytes, in hex; the interpreter is free meanwhile."""
    if isinstance(path, ObjectPath):
        digest = hashlib.sha256()
        for chunk in path.chunks():
            digest.update(chunk)
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def local_copy(path: Place) -> Iterator[Path]:
    """A local file with the same bytes, until the block ends: for readers that want all of it."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="s2d-read-") as folder:
        # Its own name: the hash in it is checked.
        copy = Path(folder) / path.name
        path.download(copy)
        yield copy


@contextmanager
def draft_for(folder: Place) -> Iterator[Path]:
    """A local folder to write a file in that `publish` then takes to `folder`."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="s2d-write-") as name:
        yield Path(name)


def publish(file: Path, folder: Place) -> None:
    """Take a written file from its draft folder to where it belongs."""
    if isinstance(folder, ObjectPath):
        (folder / file.name).upload(file)


def storage_time(root: Place) -> float:
    """Seconds since 1970 by the clock that dates the store's files."""
    if isinstance(root, ObjectPath):
        probe = root / "sessions" / ".clock"
        probe.write_text("")
        found = next((when for path, _, when in probe.below() if path == probe), None)
        if found is not None:
            return found.timestamp()
    return time.time()


def register(con: Any, root: Place) -> None:
    """Let a DuckDB connection read the store's files."""
    if isinstance(root, ObjectPath):
        from s2d_store.storage.object_reader import RangeFiles

        con.register_filesystem(RangeFiles(root.bucket.split(":")[0]))
