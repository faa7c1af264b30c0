"""One version of a table, read from its log: the files that it has, and what was noted of each.

Reading begins at the newest checkpoint that is whole and goes on with the commits after it. A
checkpoint only saves time: one that is torn is passed over, and so is a torn hint, down to the
first commit if need be. A process keeps the newest version of each table and reads what was added
since.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from s2d_store.errors import NotFoundError, StoreError
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import checkpoint_file, delta_log
from s2d_store.tables.log_entry import Action


@dataclass(frozen=True)
class LiveFile:
    """A file that a version of a table holds.

    Attributes:
        path: relative to the table's folder, as on the disk.
        size: bytes.
        modified_ms: when it was written, in milliseconds since 1970.
        partition_values: by partition column.
        noted: JSON of its number of rows and the bounds of its keys; empty where nothing was noted.
        log_path: its path as the log spells it, where that differs.
    """

    path: str
    size: int
    modified_ms: int = 0
    partition_values: tuple[tuple[str, str], ...] = ()
    noted: str = field(default="", repr=False)
    log_path: str = ""

    @cached_property
    def statistics(self) -> Mapping[str, Any]:
        """What was noted of it, in Delta's form."""
        found = json.loads(self.noted or "{}")
        return found if isinstance(found, dict) else {}

    @property
    def rows(self) -> int:
        """Rows, as noted; 0 where another writer noted nothing."""
        return int(self.statistics.get("numRecords") or 0)

    @property
    def rollout_ids(self) -> str:
        """What was noted of its rollouts' ids (rollout_files.py); empty where nothing was."""
        ours = self.statistics.get("s2d")
        return str(ours.get("rollout_ids") or "") if isinstance(ours, dict) else ""

    def removal(self, *, data_change: bool) -> Action:
        """What the log says once it is replaced; with `data_change`, that rows went with it."""
        noted = {
            "path": self.log_path or self.path,
            "deletionTimestamp": int(time.time() * 1000),
            "dataChange": data_change,
            "extendedFileMetadata": True,
            "partitionValues": dict(self.partition_values),
            "size": self.size,
        }
        return {"remove": noted}

    def bounds(self, column: str) -> tuple[Any, Any]:
        """Minimum and maximum of a key or partition column; None where nothing was noted."""
        for name, value in self.partition_values:
            if name == column:
                return value, value
        ends = (self.statistics.get(which) or {} for which in ("minValues", "maxValues"))
        low, high = (end.get(column) for end in ends)
        return low, high


@dataclass(frozen=True)
class TableState:
    """A version of a table.

    Attributes:
        version: its number.
        files: by path.
        torn: versions of checkpoints that turned out not to be whole.
    """

    version: int
    files: Mapping[str, LiveFile]
    torn: tuple[int, ...] = ()

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Paths relative to the table's folder, sorted."""
        return tuple(sorted(self.files))

    @property
    def rows(self) -> int:
        """Rows of the table, from the log alone."""
        return sum(file.rows for file in self.files.values())

    def oldest_first(self) -> list[LiveFile]:
        """The files by the time they were written."""
        return sorted(self.files.values(), key=lambda file: (file.modified_ms, file.path))


@dataclass(frozen=True)
class _Kept:
    """A state that this process keeps; the log's first file tells it from another in its place."""

    first: object
    state: TableState


_kept: dict[Place, _Kept] = {}
_locks: dict[Place, threading.Lock] = {}


def newest(folder: Place) -> TableState:
    """The newest version of a table, at least as new as any that was there before the call.

    Raises:
        StoreError: its log is not whole, or uses what s2d does not.
        OSError: it cannot be read.
    """
    with _locks.setdefault(folder, threading.Lock()):
        first = backend_of(folder).identity(folder / "_delta_log" / f"{0:020d}.json")
        kept = _kept.get(folder)
        if kept is None or kept.first != first:
            state = read(folder)
        else:
            state = _apply_after(folder, kept.state)
        _kept[folder] = _Kept(first, state)
        return state


def read(folder: Place, version: int | None = None) -> TableState:
    """A version of a table, the newest by default, from its log and nothing kept.

    Raises:
        NotFoundError: it has no such version.
        StoreError: its log is not whole, or uses what s2d does not.
        OSError: it cannot be read.
    """
    hint = checkpoint_file.hint(folder) if version is None else None
    torn: list[int] = []
    commits, checkpoints = delta_log.listing(folder, max(0, hint.version) if hint else 0)
    if hint and hint.version not in checkpoints:
        torn.append(hint.version)
        commits, checkpoints = delta_log.listing(folder)
    last = commits[-1] if commits else -1
    if version is None:
        version = last
    elif not 0 <= version <= last:
        raise NotFoundError(
            f"table {folder.name} has no version {version}",
            f"its newest version is {last}",
            "s2d info, to see the versions",
        )
    for at in sorted((v for v in checkpoints if v <= version), reverse=True):
        adds = checkpoint_file.read(folder, at, hint)
        if adds is not None:
            state = TableState(at, {file.path: file for file in map(live_file, adds)})
            return _apply(folder, state, range(at + 1, version + 1), commits, torn)
        torn.append(at)
    if hint is not None:
        commits, _ = delta_log.listing(folder)
    return _apply(folder, TableState(-1, {}), range(version + 1), commits, torn)


def _apply(
    folder: Place, state: TableState, wanted: range, commits: Sequence[int], torn: Sequence[int]
) -> TableState:
    there = set(commits)
    missing = next((v for v in wanted if v not in there), None)
    if missing is not None or (not wanted and state.version < 0):
        raise delta_log.missing_error(folder, missing or 0)
    state = _after(state, delta_log.read_commits(folder, wanted))
    return TableState(state.version, state.files, tuple(torn))


def _apply_after(folder: Place, state: TableState) -> TableState:
    """The newest version, from one that was kept; the same object where nothing was added."""
    return _after(state, delta_log.read_commits(folder, delta_log.after(folder, state.version)))


def _after(state: TableState, commits: Sequence[tuple[int, list[Action]]]) -> TableState:
    if not commits:
        return state
    files = dict(state.files)
    version = state.version
    for version, actions in commits:  # noqa: B007
        # A commit may replace a file by itself: what it removes goes first.
        for action in actions:
            if "remove" in action:
                files.pop(unquote(str(action["remove"]["path"])), None)
        for action in actions:
            if "add" in action:
                file = live_file(action["add"])
                files[file.path] = file
    return TableState(version, files, state.torn)


def live_file(add: Mapping[str, Any]) -> LiveFile:
    """What an `add` of the log says of its file."""
    raw = str(add["path"])
    path = unquote(raw)
    return LiveFile(
        path,
        int(add["size"]),
        int(add.get("modificationTime") or 0),
        tuple(dict(add.get("partitionValues") or {}).items()),
        add.get("stats") or "",
        "" if raw == path else raw,
    )


def file_paths(folder: Place, state: TableState) -> tuple[str, ...]:
    """The files of a version with their folder, none of them outside of it, whatever its log says.

    Raises:
        StoreError: the log names a file that does not lie in the table's folder.
    """
    for path in state.files:
        if path.startswith("/") or "://" in path or ".." in path.split("/"):
            raise StoreError(
                f"the files of table {folder.name} cannot be read",
                f"its log names {path}, which is not in {folder}",
                "do not use this store: its log was not written by s2d",
            )
    real = backend_of(folder).real_path(folder)
    return tuple(f"{real}/{path}" for path in state.paths)


def forget_torn(folder: Place) -> None:
    """Torn checkpoints of a table were replaced."""
    with _locks.setdefault(folder, threading.Lock()):
        if folder in _kept:
            kept = _kept[folder]
            state = TableState(kept.state.version, kept.state.files)
            _kept[folder] = _Kept(kept.first, state)


def forget_folders(folders: Sequence[Place]) -> None:
    """Read these tables anew: their logs were repaired."""
    for folder in folders:
        _kept.pop(folder, None)


def forget(root: Place | None = None) -> None:
    """Read the tables anew, of all stores or of one: where nothing tells whether another store lies
    there by now, or as a new process would.
    """
    for folder, kept in list(_kept.items()):
        if root is None or (kept.first is None and folder.parent.parent == root):
            del _kept[folder]
