"""What a sweep or a repair takes away but might be wanted: it stays in `trash/` for a week."""

from __future__ import annotations

from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import FileInfo, Place

TRASH = "trash"
KEPT_S = 7 * 86400.0


def discard(root: Place, path: Place) -> Place:
    """Move one of the store's files to the same place below `trash/`; returns where it is now.

    Raises:
        OSError: it cannot be moved.
    """
    relative = str(path)[len(str(root)) :].lstrip("/")
    target = root / TRASH / relative
    backend_of(root).move(path, target)
    return target


def old_files(root: Place, now: float) -> list[FileInfo]:
    """Files that have been in the trash for long enough to go.

    Args:
        root: the store.
        now: `storage_time`.
    """
    found = backend_of(root).list_files(root / TRASH)
    return [file for file in found if now - file.modified > KEPT_S]
