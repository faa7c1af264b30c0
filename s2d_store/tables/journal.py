"""Multi-table commits that survive a kill: a journal entry is written before the first table
is committed and removed after the last; what a dead writer left is rolled forward.

An entry is held under an advisory lock while its writer lives (on an object store it names its
writer's session), so nobody finishes a commit that is still under way.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from deltalake.exceptions import DeltaError

from s2d_store.errors import StoreError
from s2d_store.schema import TABLES
from s2d_store.storage import fault_points
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import delta_commit, delta_log, file_statistics, table_state
from s2d_store.tables.snapshot import table_path


@dataclass(frozen=True)
class NewFile:
    """A written Parquet file that waits to be committed.

    Attributes:
        table: its table.
        path: relative to its table.
        size: bytes.
        rows: how many it holds.
        partition_values: by partition column.
        modified_ms: when it was written, in milliseconds since 1970.
        bounds: minimum and maximum value by key column.
        rollout_ids: what to note of its rollouts' ids (tables/rollout_files.py); may be empty.
    """

    table: str
    path: str
    size: int
    rows: int
    partition_values: dict[str, str]
    modified_ms: int
    bounds: dict[str, Any] = field(default_factory=dict)
    rollout_ids: str = ""

    def action(self, *, data_change: bool = True) -> delta_commit.Action:
        """What the log says of it; without `data_change`, that its rows were there before."""
        stats = file_statistics.statistics(self.rows, self.bounds, self.rollout_ids)
        noted = {
            "path": self.path,
            "partitionValues": self.partition_values,
            "size": self.size,
            "modificationTime": self.modified_ms,
            "dataChange": data_change,
            "stats": json.dumps(stats),
        }
        return {"add": noted}


def commit(root: Place, files: Sequence[NewFile]) -> None:
    """Commit files of several tables as one, children's tables first."""
    backend = backend_of(root)
    backend.require_trust(root)
    backend.sync_folders([(table_path(root, f.table) / f.path).parent for f in files])
    with _entry(root, files) as path:
        made = _commit_tables(root, files, _append)
        fault_points.reach("remove entry")
        try:
            path.unlink()
        except OSError as error:
            # Not for the caller to see: it takes an OSError to mean that nothing is committed.
            raise StoreError(
                f"a finished commit's entry {path} cannot be removed",
                f"{error.strerror or error}; the commit itself is stored",
                "repair the folder's permissions, then run the command again",
            ) from error
    for folder, version in made:
        delta_commit.checkpoint_if_due(folder, version)


def check_logs(root: Place, tables: Iterable[str]) -> None:
    """Refuse to write to tables whose logs are not whole, or use what s2d does not.

    Raises:
        StoreError: one is.
        OSError: one cannot be read.
    """
    for name in tables:
        table_state.newest(table_path(root, name))


def recover(root: Place) -> int:
    """Finish the commits of dead writers; returns how many there were."""
    recovered = 0
    for path in pending(root):
        with backend_of(root).claim_entry(root, path) as data:
            if data is None:
                continue
            fault_points.reach("recover entry")
            _commit_tables(root, _files_in(path, data), _append_missing)
            fault_points.reach("remove entry")
            path.unlink()
            recovered += 1
    return recovered


def pending(root: Place) -> list[Place]:
    """Entries of commits that are under way, or whose writer died."""
    return [
        f.path
        for f in backend_of(root).list_files(root / "pending")
        if f.relative.endswith(".json")
    ]


def pending_files(root: Place) -> set[tuple[str, str]]:
    """Table and path of each file whose commit is under way."""
    found = set()
    for path in pending(root):
        with suppress(FileNotFoundError):  # finished meanwhile
            found |= {(f.table, f.path) for f in _files_in(path, path.read_bytes())}
    return found


def damaged_entries(root: Place) -> dict[Place, str]:
    """Entries that are not legible, and what is wrong with each, in a few words."""
    found = {}
    for path in pending(root):
        with suppress(FileNotFoundError):  # finished meanwhile
            try:
                _items_in(path.read_bytes())
            except ValueError as error:
                found[path] = str(error)
    return found


def _files_in(path: Place, data: bytes) -> list[NewFile]:
    """The files of an entry.

    Raises:
        StoreError: it is not as it was written.
    """
    try:
        return _items_in(data)
    except ValueError as error:
        raise StoreError(
            f"the entry {path} of an unfinished commit {error}",
            "it says which files the commit was adding; what is committed is safe, and can be read",
            "s2d doctor --drop-damaged, which sets it aside",
        ) from error


def _items_in(data: bytes) -> list[NewFile]:
    """The files of an entry; on an object store it names its writer's session too. A ValueError
    says what is wrong, to follow `the entry`.
    """
    try:
        entry = json.loads(data)
        items, said = entry["files"], entry["sha256"]
        whole = said == _hash(items)
        files = [NewFile(**item) for item in items] if whole else []
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("is empty" if not data else "is cut short or damaged") from None
    if not whole:
        raise ValueError("was changed after it was written")
    return files


def _hash(items: Any) -> str:
    return hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()


@contextmanager
def _entry(root: Place, files: Sequence[NewFile]) -> Iterator[Place]:
    items = [asdict(f) for f in files]

    def text(owner: Mapping[str, Any]) -> str:
        return json.dumps({**owner, "files": items, "sha256": _hash(items)})

    with backend_of(root).hold_entry(root, f"{uuid.uuid4().hex}.json", text) as path:
        yield path


def _commit_tables(
    root: Place, files: Sequence[NewFile], append: Callable[[Place, str, list[NewFile]], int]
) -> list[tuple[Place, int]]:
    """Commit each table's files; returns the tables' folders and the versions that were made."""
    made = []
    for name in reversed(TABLES):
        of_table = [f for f in files if f.table == name]
        if of_table:
            with _commit_errors(name):
                fault_points.reach(f"commit {name}")
                made.append((table_path(root, name), append(root, name, of_table)))
    return made


def _append(root: Place, name: str, files: list[NewFile]) -> int:
    # Who was stopped and taken for dead, and wakes up here, finds its version taken by whoever
    # finished this commit: it must look again before it takes another.
    actions = [f.action() for f in files]
    return delta_commit.append(
        table_path(root, name), actions, lambda: backend_of(root).require_trust(root)
    )


def _append_missing(root: Place, name: str, files: list[NewFile]) -> int:
    """Commit files that no version ever held; one that a compaction has replaced since was
    committed. Nothing comes between the look and the commit.
    """
    folder, version = table_path(root, name), -1
    known: set[str] = set()
    while True:
        version, added = delta_log.added_after(folder, version)
        known |= added
        actions = [f.action() for f in files if f.path not in known and _is_there(folder / f.path)]
        backend_of(root).require_trust(root)
        if not actions or delta_commit.commit(folder, version + 1, actions, "WRITE"):
            return version + 1


def _is_there(file: Place) -> bool:
    """On an object store, a vacuum may have swept what somebody wrote who then slept, was taken for
    dead and woke up to note it here.
    """
    backend = backend_of(file)
    return not backend.late_writers or backend.exists(file)


@contextmanager
def _commit_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as error:
        raise StoreError(
            f"the commit to table {name} did not go through",
            str(error).splitlines()[0],
            "free disk space or repair the folder's permissions, then run the command again: "
            "it continues where it stopped",
        ) from error
