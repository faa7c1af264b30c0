"""Write the next version of a table's Delta log, at a cost that does not grow with the table.

delta-rs opens a table, with the entries of all its files, before each commit. A commit that only
adds files depends on none before it, so `append` takes the next version that is free; one that also
removes some must be the very next after a version that was looked at: `commit`. What they write is
Delta's (https://github.com/delta-io/delta/blob/master/PROTOCOL.md), and so are the checkpoints at
which readers begin, which delta-rs makes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from s2d_store.errors import StoreError
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import delta_log
from s2d_store.version import __version__

# Commits that a reader reads after a checkpoint of all before (benchmarks/commits.py).
CHECKPOINT_INTERVAL = 50

Action = Mapping[str, Mapping[str, Any]]
# The newest version that this process has seen of each table.
_newest_seen: dict[Place, int] = {}


def append(
    folder: Place, adds: Sequence[Action], before_each: Callable[[], None] = lambda: None
) -> int:
    """Commit files that depend on nothing in the table, and give the version that holds them.

    Args:
        folder: the table's.
        adds: one `add` for each file.
        before_each: called before each attempt; what it raises ends them.

    Raises:
        OSError: the log cannot be written or read.
        StoreError: it is not whole.
    """
    version = newest(folder) + 1
    before_each()
    while not commit(folder, version, adds, "WRITE"):
        version += 1  # taken meanwhile
        before_each()
    return version


def checkpoint_if_due(folder: Place, version: int) -> None:
    """Make a checkpoint if this version's turn has come.

    Raises:
        StoreError: it failed; no commit did.
    """
    if version % CHECKPOINT_INTERVAL == 0:
        checkpoint(folder)


def checkpoint(folder: Place) -> None:
    """Let the next reader of a table begin with the files that are left.

    Raises:
        StoreError: it failed; no commit did.
    """
    try:
        DeltaTable(str(folder)).create_checkpoint()
    except (DeltaError, OSError) as error:
        raise StoreError(
            f"what was committed to table {folder.name} is stored, but its log has no new "
            "checkpoint",
            str(error).splitlines()[0],
            "free disk space or repair the folder's permissions, then run the command again",
        ) from error


def commit(folder: Place, version: int, actions: Sequence[Action], operation: str) -> bool:
    """Commit as one version, which comes after one that is there; False if another commit has it.

    Args:
        folder: the table's.
        version: to make.
        actions: `add` and `remove`.
        operation: what the table's history calls it.

    Raises:
        OSError: the log cannot be written.
    """
    info = {
        "timestamp": int(time.time() * 1000),
        "operation": operation,
        "operationParameters": {},
        "isBlindAppend": operation == "WRITE",
        "engineInfo": f"s2d:{__version__}",
        "txnId": uuid.uuid4().hex,
    }
    lines = "".join(json.dumps(line) + "\n" for line in ({"commitInfo": info}, *actions))
    made = backend_of(folder).create_if_absent(_path(folder, version), lines.encode())
    if made:
        _newest_seen[folder] = version
    return made


def newest(folder: Place) -> int:
    """A table's newest version, at least as new as any that was there before the call.

    Raises:
        OSError: the log cannot be read.
        StoreError: it is not whole.
    """
    known = _newest_seen.get(folder)
    if known is not None and backend_of(folder).exists(_path(folder, known)):
        return _last_after(folder, known)
    # Not asked yet, or another table has its place.
    return delta_log.versions(folder, max(delta_log.last_checkpoint(folder), 0))[-1]


def _last_after(folder: Place, version: int) -> int:
    """The newest version, by asking for some: in a local folder, listing all takes longer."""
    step = 1
    while _path(folder, version + step).exists():
        version, step = version + step, 2 * step
    while step > 1:
        step //= 2
        if _path(folder, version + step).exists():
            version += step
    return version


def _path(folder: Place, version: int) -> Place:
    return folder / "_delta_log" / f"{version:020d}.json"
