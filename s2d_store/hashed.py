"""Data files carry the hash of their bytes in their name, so any later change of them shows.

The name stands in the Delta log, survives the log's checkpoints, and asks nothing of readers: who
queries or trains pays nothing for it. zstd frames hold no checksum, so without it most flipped bits
are read as other numbers.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

HASH_CHARS = 32
_NAMED = re.compile(r"-([0-9a-f]{32})\.parquet$")


def seal(path: Path) -> Path:
    """Rename a written `NAME.parquet` to `NAME-HASH.parquet`; gives the new path."""
    sealed = path.with_name(f"{path.stem}-{hash_of(path)}.parquet")
    path.rename(sealed)
    return sealed


def hash_of(path: Path) -> str:
    """The first 128 bits of a file's SHA-256, in hex; the interpreter is free meanwhile."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:HASH_CHARS]


def stated(path: Path | str) -> str | None:
    """The hash in a file's name; None for a file that was written before names had one."""
    found = _NAMED.search(str(path))
    return found[1] if found else None


def checked(path: Path) -> Path:
    """The path of a file whose bytes are those that were written, where its name has their hash.

    Raises:
        OSError: they are not, or it cannot be read.
    """
    if stated(path) not in (None, hash_of(path)):
        raise OSError("its bytes are not those that were written")
    return path
