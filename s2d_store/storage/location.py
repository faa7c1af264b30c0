"""Where a store lies: a local folder, or a prefix of an object store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
