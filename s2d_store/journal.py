"""Multi-table commits that survive a kill: a journal entry is written before the first table
is committed and removed after the last; what a dead writer left is rolled forward.

An entry is held under an advisory lock while its writer lives, so nobody finishes a commit that
is still under way.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from s2d_store.errors import StoreError
from s2d_store.schema import TABLES
from s2d_store.snapshot import table_path

COMMIT_RETRIES = 1000


@dataclass(frozen=True)
class NewFile:
    """A written Parquet file that waits to be committed; `path` is relative to its table."""

    table: str
    path: str
    size: int
    rows: int
    partition_values: dict[str, str]
    modified_ms: int


def commit(root: Path, files: Sequence[NewFile]) -> None:
    """Commit files of several tables as one, children's tables first."""
    with _entry(root, files) as path:
        _commit_tables(root, files)
        path.unlink()


def recover(root: Path) -> int:
    """Finish the commits of dead writers; gives how many there were."""
    recovered = 0
    for path in sorted((root / "pending").glob("*.json")):
        with path.open("r+b") as file:
            if not _lock(file) or not path.exists():
                continue
            entry = [NewFile(**item) for item in json.loads(file.read())]
            _commit_tables(root, [f for f in entry if not _is_committed(root, f)])
            path.unlink()
            recovered += 1
    return recovered


@contextmanager
def _entry(root: Path, files: Sequence[NewFile]) -> Iterator[Path]:
    folder = root / "pending"
    folder.mkdir(exist_ok=True)
    name = uuid.uuid4().hex
    draft, path = folder / f"{name}.draft", folder / f"{name}.json"
    with draft.open("x+b") as file:
        file.write(json.dumps([asdict(f) for f in files]).encode())
        file.flush()
        os.fsync(file.fileno())
        _lock(file)
        draft.rename(path)
        yield path


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_committed(root: Path, file: NewFile) -> bool:
    table = DeltaTable(table_path(root, file.table))
    return any(uri.endswith(f"/{file.path}") for uri in table.file_uris())


def _commit_tables(root: Path, files: Sequence[NewFile]) -> None:
    for name in reversed(TABLES):
        actions = [
            AddAction(
                path=f.path,
                size=f.size,
                partition_values=f.partition_values,
                modification_time=f.modified_ms,
                data_change=True,
                stats=json.dumps({"numRecords": f.rows}),
            )
            for f in files
            if f.table == name
        ]
        if actions:
            _append(root, name, actions)


def _append(root: Path, name: str, actions: list[AddAction]) -> None:
    declared = TABLES[name]
    try:
        DeltaTable(table_path(root, name)).create_write_transaction(
            actions,
            mode="append",
            schema=Schema.from_arrow(declared.schema),
            partition_by=list(declared.partition_by) or None,
            commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
    except (DeltaError, OSError) as error:
        raise StoreError(
            f"the commit to table {name} did not go through",
            str(error).splitlines()[0],
            "free disk space or mend the folder's permissions, then run the command again: "
            "it continues where it stopped",
        ) from error
