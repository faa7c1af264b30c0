"""Data files carry the hash of their bytes in their name, so any later change of them shows.

The name stands in the Delta log, survives the log's checkpoints, and asks nothing of readers: who
queries or trains pays nothing for it. zstd frames hold no checksum, so without it most flipped bits
are read as other numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place

HASH_CHARS = 32
_NAMED = re.compile(r"-([0-9a-f]{32})\.parquet$")


def seal(path: Path) -> Path:
    """Rename a written `NAME.parquet` to `NAME-HASH.parquet`; returns the new path."""
    sealed = path.with_name(f"{path.stem}-{hash_of(path)}.parquet")
    path.rename(sealed)
    return sealed


def hash_of(path: Place) -> str:
    """The first 128 bits of a file's SHA-256, in hex."""
    return backend_of(path).sha256(path)[:HASH_CHARS]


def hash_in_name(path: Place | str) -> str | None:
    """The hash in a file's name; None for a file that was written before names had one."""
    found = _NAMED.search(str(path))
    return found[1] if found else None


@contextmanager
def open_verified(path: Place) -> Iterator[Path]:
    """A local file with the bytes that were written, where the path has their hash.

    Raises:
        OSError: its bytes are others, or it cannot be read.
    """
    with backend_of(path).local_copy(path) as local:
        if hash_in_name(path) not in (None, hash_of(local)):
            raise OSError("its bytes are not those that were written")
        yield local
