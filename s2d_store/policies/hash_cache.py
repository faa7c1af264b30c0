"""Hashes of weights, remembered by path, size and time of change: hashing 15 GB takes seconds.

A file that changes and keeps its size and its time to the nanosecond would go unseen, such as one
with a flipped bit on the disk: `S2D_HASH_CACHE=0` reads every byte each time.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from s2d_store import ids
from s2d_store.policies.weights import hash_files

SWITCH = "S2D_HASH_CACHE"
# A file changed so lately may change again within one tick of the clock that times are taken from.
SETTLED_S = 2.0
_HEX = re.compile(r"[0-9a-f]{128}")


def hash_weights(files: Sequence[Path]) -> bytes:
    """`hash_files`, from the cache where these very files were hashed before."""
    if os.environ.get(SWITCH, "1").lower() in ("0", "off", "false", "no"):
        return hash_files(files)
    stats = [(str(path.resolve()), path.stat()) for path in files]
    seen = [(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats]
    entry = cache_folder("weight-hashes") / ids.content_id("weights", seen)
    with suppress(OSError):
        text = entry.read_text()
        if _HEX.fullmatch(text):
            return bytes.fromhex(text)
    digest = hash_files(files)
    newest = max(stat.st_mtime for _, stat in stats)
    after = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path, _ in stats]
    if time.time() - newest > SETTLED_S and after == [item[:3] for item in seen]:
        keep(entry, digest.hex())
    return digest


def cache_folder(name: str) -> Path:
    """A folder of this user's cache; it may not be there yet."""
    base = os.environ.get("S2D_CACHE") or Path.home() / ".cache" / "s2d"
    return Path(base) / name


def keep(entry: Path, text: str) -> None:
    """Write a file of the cache; readers see it whole or not at all."""
    # A cache that cannot be written, such as a home that is read-only, only costs time.
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        draft = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}.draft")
        draft.write_text(text)
        draft.replace(entry)
