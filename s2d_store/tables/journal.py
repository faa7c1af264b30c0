"""Multi-table commits that survive a kill: a journal entry is written before the first table
is committed and removed after the last; what a dead writer left is rolled forward.

An entry is held under an advisory lock while its writer lives (on an object store it names its
writer's session), so nobody finishes a commit that is still under way.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from deltalake.exceptions import DeltaError

from s2d_store.errors import StoreError
from s2d_store.schema import TABLES
from s2d_store.storage import leases, locks
from s2d_store.storage.location import Place, list_files
from s2d_store.storage.object_path import ObjectPath
from s2d_store.tables import delta_commit, delta_log, file_statistics
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
    """

    table: str
    path: str
    size: int
    rows: int
    partition_values: dict[str, str]
    modified_ms: int
    bounds: dict[str, Any] = field(default_factory=dict)

    def action(self, *, data_change: bool = True) -> delta_commit.Action:
        """What the log says of it; without `data_change`, that its rows were there before."""
        noted = {
            "path": self.path,
            "partitionValues": self.partition_values,
            "size": self.size,
            "modificationTime": self.modified_ms,
            "dataChange": data_change,
            "stats": json.dumps(file_statistics.statistics(self.rows, self.bounds)),
        }
        return {"add": noted}


def commit(root: Place, files: Sequence[NewFile]) -> None:
    """Commit files of several tables as one, children's tables first."""
    leases.require_trust(root)
    with _entry(root, files) as path:
        made = _commit_tables(root, files, _append)
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


def recover(root: Place) -> int:
    """Finish the commits of dead writers; returns how many there were."""
    recovered = 0
    for path in pending(root):
        with _claim_orphan(root, path) as text:
            if text is None:
                continue
            _commit_tables(root, [NewFile(**item) for item in _files_in(text)], _append_missing)
            path.unlink()
            recovered += 1
    return recovered


def pending(root: Place) -> list[Place]:
    """Entries of commits that are under way, or whose writer died."""
    return [f.path for f in list_files(root / "pending") if f.relative.endswith(".json")]


def pending_files(root: Place) -> set[tuple[str, str]]:
    """Table and path of each file whose commit is under way."""
    found = set()
    for path in pending(root):
        with suppress(FileNotFoundError):  # finished meanwhile
            found |= {(f["table"], f["path"]) for f in _files_in(path.read_text())}
    return found


def _files_in(text: str) -> list[dict[str, Any]]:
    """The files of an entry; on an object store it names its writer's session too."""
    entry = json.loads(text)
    return list(entry["files"] if isinstance(entry, dict) else entry)


@contextmanager
def _entry(root: Place, files: Sequence[NewFile]) -> Iterator[Place]:
    items = [asdict(f) for f in files]
    name = uuid.uuid4().hex
    if isinstance(root, ObjectPath):
        with leases.hold_lease(root) as session:
            entry = root / "pending" / f"{name}.json"
            entry.write_text(json.dumps({"session": session, "files": items}))
            yield entry
        return
    folder = root / "pending"
    folder.mkdir(exist_ok=True)
    draft, path = folder / f"{name}.draft", folder / f"{name}.json"
    with draft.open("x+b") as file:
        file.write(json.dumps(items).encode())
        file.flush()
        os.fsync(file.fileno())
        _lock(file)
        draft.rename(path)
        yield path


@contextmanager
def _claim_orphan(root: Place, path: Place) -> Iterator[str | None]:
    """The text of a dead writer's entry, which nobody else takes up meanwhile; None for others."""
    if isinstance(root, ObjectPath):
        with ExitStack() as held:
            try:
                session = json.loads(path.read_text())["session"]
                mine = leases.is_dead(root, session, wait=False) and held.enter_context(
                    locks.exclusive_lock(root, f".entry.{path.stem}", wait=False)
                )
                text = path.read_text() if mine else None
            except FileNotFoundError:  # its writer, or who took it up first, has finished it
                text = None
            yield text
        return
    assert isinstance(path, Path)
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file.read().decode() if _lock(file) and path.exists() else None


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _commit_tables(
    root: Place, files: Sequence[NewFile], append: Callable[[Place, str, list[NewFile]], int]
) -> list[tuple[Place, int]]:
    """Commit each table's files; returns the tables' folders and the versions that were made."""
    made = []
    for name in reversed(TABLES):
        of_table = [f for f in files if f.table == name]
        if of_table:
            with _commit_errors(name):
                made.append((table_path(root, name), append(root, name, of_table)))
    return made


def _append(root: Place, name: str, files: list[NewFile]) -> int:
    # Who was stopped and taken for dead, and wakes up here, finds its version taken by whoever
    # finished this commit: it must look again before it takes another.
    actions = [f.action() for f in files]
    return delta_commit.append(table_path(root, name), actions, lambda: leases.require_trust(root))


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
        leases.require_trust(root)
        if not actions or delta_commit.commit(folder, version + 1, actions, "WRITE"):
            return version + 1


def _is_there(file: Place) -> bool:
    """On an object store, a vacuum may have swept what somebody wrote who then slept, was taken for
    dead and woke up to note it here.
    """
    return not isinstance(file, ObjectPath) or file.exists()


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
