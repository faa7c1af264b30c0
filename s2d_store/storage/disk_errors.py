"""A failing disk is one error, and leaves nothing behind that nobody committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from s2d_store.errors import StoreError
from s2d_store.storage.location import Place


@contextmanager
def disk_errors(root: Place, written: Sequence[Place] = ()) -> Iterator[None]:
    """Turn a failing disk into one StoreError; written but uncommitted files are removed."""
    try:
        yield
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write to the store at {root}: {error.strerror or error}",
            "nothing of this commit is visible; all earlier commits are safe",
            "free disk space or repair the permissions, then run the same command again",
        ) from error
