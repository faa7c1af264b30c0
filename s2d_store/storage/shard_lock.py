"""A lock that one process has at a time, or n processes that do the n shards of one thing.

Each shard has a lock of its own. A process also looks whether anybody is at work whose part could
overlap with its own: the whole, or a shard of another number of shards. A gate lets one process at
a time look, since looking takes the locks of others for a moment.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

from s2d_store.errors import StoreError
from s2d_store.shards import Shard
from s2d_store.storage.backend import Backend
from s2d_store.storage.location import Place

# `~` stands in no run's name.
_SHARD = re.compile(r"~(\d+)of(\d+)\.lock")


def take(
    root: Place,
    backend: Backend[Any],
    held: ExitStack,
    lock: str,
    busy: StoreError,
    shard: Shard | None,
) -> None:
    """Take a lock until `held` is closed.

    Args:
        root: the store.
        backend: of its place.
        held: keeps the lock.
        lock: its name.
        busy: raised where a process without shards has it.
        shard: the part to be done; None: all of it.

    Raises:
        StoreError: somebody else is at work on this part, or may be.
    """
    if shard is None:
        if not held.enter_context(backend.exclusive_lock(root, f"{lock}.lock", wait=False)):
            raise busy
        names = _shard_names(root, backend, lock)
        if names:
            with backend.exclusive_lock(root, f"{lock}~gate.lock", wait=True):
                _refuse_live(root, backend, lock, names, busy)
        return
    with backend.exclusive_lock(root, f"{lock}~gate.lock", wait=True):
        own = f"{lock}~{shard.index}of{shard.count}.lock"
        if not held.enter_context(backend.exclusive_lock(root, own, wait=False)):
            raise StoreError(
                f"shard {shard} is being worked on by another process",
                f"what is shared out: {busy.what}",
                "start each of 0/n to n-1/n once",
            )
        with backend.exclusive_lock(root, f"{lock}.lock", wait=False) as free:
            if not free:
                raise busy
        others = {
            name: number
            for name, number in _shard_names(root, backend, lock).items()
            if number[1] != shard.count
        }
        _refuse_live(root, backend, lock, others, busy)


def _shard_names(root: Place, backend: Backend[Any], lock: str) -> dict[str, tuple[int, int]]:
    """Locks of shards of this name, dead ones too, as (index, count)."""
    found = {}
    for name in backend.names(root / "locks"):
        match = _SHARD.fullmatch(name.removeprefix(lock)) if name.startswith(lock) else None
        if match is not None:
            found[name] = (int(match[1]), int(match[2]))
    return found


def _refuse_live(
    root: Place,
    backend: Backend[Any],
    lock: str,
    names: dict[str, tuple[int, int]],
    busy: StoreError,
) -> None:
    for name, (index, count) in sorted(names.items()):
        with backend.exclusive_lock(root, name, wait=False) as free:
            if not free:
                raise StoreError(
                    f"shard {index}/{count} is being worked on by another process",
                    f"what is shared out: {busy.what}; its part overlaps with this one",
                    f"wait for it to end, or use --shard i/{count}",
                )
