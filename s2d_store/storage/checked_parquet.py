"""Opening a Parquet file so that a flipped bit in it is an error, never another number.

Pages carry a checksum each. The footer, which says where the pages lie and what they hold, has none
in Parquet's format: locks keep its hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def open_checked(source: Any, **options: Any) -> pq.ParquetFile:
    """A Parquet file whose pages are compared with their checksums as they are read.

    Every writer of s2d writes these checksums (`tables.parquet_writer`); pages without one, of
    files from before, are read as they are. Reading a page that differs raises OSError.

    Args:
        source: as `pq.ParquetFile` takes it.
        options: the same.
    """
    return pq.ParquetFile(source, page_checksum_verification=True, **options)


def footer_hash(path: Path) -> str:
    """The first 128 bits of the SHA-256 of a file's footer, its length and its magic, in hex.

    Raises:
        OSError: the file cannot be read, or has no footer of the length that its end states.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little") + 8
        if length > size:
            raise OSError(f"its end states a footer of {length:,} bytes, it has {size:,}")
        file.seek(size - length)
        return hashlib.sha256(file.read(length)).hexdigest()[:32]


def check_footer(path: Path, expected: str | None) -> None:
    """Compare a file's footer with the hash that a lock keeps; None compares nothing.

    Raises:
        OSError: it is another, or cannot be read.
    """
    if expected is not None and footer_hash(path) != expected:
        raise OSError("its footer is not the one that was written")
