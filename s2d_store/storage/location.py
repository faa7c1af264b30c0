"""Where a store lies: a local folder, or a prefix of an object store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from s2d_store.errors import InputError
from s2d_store.storage.object_path import ObjectPath

Place = Path | ObjectPath
# Control characters, the backslash, bytes that are no UTF-8 as Python spells them, URL escapes.
_ODD = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|%[0-9A-Fa-f]{2}")


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
        InputError: a URL or a folder that no store can lie at.
    """
    if isinstance(root, ObjectPath):
        return root
    if is_url(root):
        return ObjectPath.parse(str(root))
    path = Path(root).absolute()
    odd = _ODD.search(str(path))
    if odd:
        raise InputError(
            f"no store can lie at {str(path)!r}",
            f"its path has {odd[0]!r}, which readers of Delta tables take for something else",
            "choose a folder without control characters, backslashes and % codes, in UTF-8",
        )
    return path


def is_url(path: object) -> bool:
    """Whether this names something on an object store, or tries to."""
    return isinstance(path, ObjectPath) or "://" in str(path)
