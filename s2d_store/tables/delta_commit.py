"""Write the next version of a table's Delta log, at a cost that does not grow with the table.

delta-rs opens a table, with the entries of all its files, before each commit. A commit that only
adds files depends on none before it, so `append` takes the next version that is free; one that also
removes some must be the very next after a version that was looked at: `commit`. Before either, the
commits that others made since are read, since they may have switched on what s2d does not write.
What is written is Delta's (https://github.com/delta-io/delta/blob/master/PROTOCOL.md).
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deltalake.exceptions import DeltaError

from s2d_store.errors import StoreError
from s2d_store.schema import Table
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import checkpoint_file, delta_log, delta_protocol, log_entry, table_state
from s2d_store.tables.log_entry import Action
from s2d_store.version import __version__

# Commits that a reader reads after a checkpoint of all before (benchmarks/commits.py).
CHECKPOINT_INTERVAL = 50
CHECKPOINT_ATTEMPTS = 5

__all__ = ["Action", "append", "checkpoint", "checkpoint_if_due", "commit", "create", "newest"]


def create(folder: Place, declared: Table, properties: Mapping[str, str] | None = None) -> None:
    """Make an empty table where there is none.

    Args:
        folder: the table's.
        declared: its columns and partitions.
        properties: what its first commit says of the store.

    Raises:
        OSError: the log cannot be written.
    """
    now_ms = int(time.time() * 1000)
    actions = delta_protocol.first_actions(declared, str(uuid.uuid4()), now_ms, properties or {})
    backend_of(folder).make_folder(folder / "_delta_log")
    backend_of(folder).create_if_absent(
        delta_log.commit_path(folder, 0), log_entry.compose(_info("CREATE TABLE"), actions)
    )


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
        StoreError: it is not whole, or uses what s2d does not.
    """
    version = newest(folder) + 1
    before_each()
    while not commit(folder, version, adds, "WRITE"):
        version = max(version, newest(folder)) + 1  # taken meanwhile
        before_each()
    return version


def checkpoint_if_due(folder: Place, version: int) -> None:
    """Make a checkpoint if this version's turn has come, or if the one that readers need is torn.

    Raises:
        StoreError: it failed; no commit did.
    """
    if version % CHECKPOINT_INTERVAL == 0 or table_state.newest(folder).torn:
        checkpoint(folder)


def checkpoint(folder: Place) -> None:
    """Let the next reader of a table begin with the files that are left.

    Another writer's checkpoint that is not finished yet looks torn, to delta-rs as well: so several
    attempts are made.

    Raises:
        StoreError: it failed; no commit did.
    """
    for left in reversed(range(CHECKPOINT_ATTEMPTS)):
        try:
            _checkpoint(folder)
            return
        except (DeltaError, OSError) as error:
            if left:
                time.sleep(random.uniform(0.01, 0.2))
                continue
            raise StoreError(
                f"what was committed to table {folder.name} is stored, but its log has no new "
                "checkpoint",
                str(error).splitlines()[0],
                "free disk space or repair the folder's permissions, then run the command again",
            ) from error


def _checkpoint(folder: Place) -> None:
    torn = table_state.newest(folder).torn
    if torn:
        checkpoint_file.remove(folder, torn)
    version = checkpoint_file.write(folder)
    adds = checkpoint_file.read(folder, version)
    true = table_state.newest(folder)
    if true.version != version:
        true = table_state.read(folder, version)
    if adds is None or {table_state.live_file(add).path for add in adds} != set(true.files):
        checkpoint_file.remove(folder, (version,))
        raise OSError(5, "the checkpoint that was written is not the table's")
    table_state.forget_torn(folder)


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
    data = log_entry.compose(_info(operation), actions)
    return backend_of(folder).create_if_absent(delta_log.commit_path(folder, version), data)


def newest(folder: Place) -> int:
    """A table's newest version, at least as new as any that was there before the call.

    Raises:
        OSError: the log cannot be read.
        StoreError: it is not whole, or uses what s2d does not.
    """
    return table_state.newest(folder).version


def _info(operation: str) -> dict[str, Any]:
    return {
        "timestamp": int(time.time() * 1000),
        "operation": operation,
        "operationParameters": {},
        "isBlindAppend": operation == "WRITE",
        "engineInfo": f"s2d:{__version__}",
        "txnId": uuid.uuid4().hex,
    }
