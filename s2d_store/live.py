"""Who is writing: a lock that every writer shares, so that a sweep knows without asking a clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import IO


@contextmanager
def writer(root: Path) -> Iterator[None]:
    """Hold while files are written that nobody has committed yet; waits for a sweep to end."""
    with _file(root) as file:
        flock(file, LOCK_SH)
        yield


@contextmanager
def no_writer(root: Path) -> Iterator[bool]:
    """Whether nobody is writing; if so, nobody begins before the block ends."""
    with _file(root) as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _file(root: Path) -> IO[str]:
    folder = root / "locks"
    folder.mkdir(exist_ok=True)
    # A run's lock is named like the run, which cannot start with a dot.
    return (folder / ".writers").open("a")
