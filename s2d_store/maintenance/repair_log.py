"""Give up a damaged commit: its text goes to the trash, what is certain of it is committed anew.

An added file has the hash of its bytes in its name, so one that the damaged text names and that no
other commit does is certain. What else the text may have named is given up, and its rows are made
again by the commands that made them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from s2d_store.errors import StoreError
from s2d_store.maintenance.log_health import damaged_commits
from s2d_store.schema import TABLES
from s2d_store.storage import content_hash
from s2d_store.storage.location import Place
from s2d_store.store import Store
from s2d_store.tables import (
    delta_commit,
    delta_log,
    file_statistics,
    journal,
    log_entry,
    manifest,
    table_state,
    trash,
)
from s2d_store.tables.journal import NewFile
from s2d_store.tables.log_entry import Action
from s2d_store.tables.snapshot import table_path


def repair_logs(store: Store) -> list[str]:
    """Replace damaged commits and set damaged entries aside; returns what was done, in words.

    Raises:
        StoreError: somebody is writing, or a damaged commit replaced files, so that nobody knows
            which of them hold its rows; that table is as it was.
    """
    done = []
    with store.backend.try_block_writers(store.root) as quiet:
        if not quiet:
            raise StoreError(
                "another command is writing to this store",
                "a damaged log is repaired while nobody else works on it",
                "wait for it to end, then run the same command again",
            )
        for path in journal.damaged_entries(store.root):
            trash.discard(store.root, path)
            done.append(f"the entry {path} of an unfinished commit was set aside in the trash")
        for name in TABLES:
            folder = table_path(store.root, name)
            for version in damaged_commits(folder):
                done.append(_replace(store, folder, version))
    table_state.forget_folders([table_path(store.root, name) for name in TABLES])
    return done


def _replace(store: Store, folder: Place, version: int) -> str:
    path = delta_log.commit_path(folder, version)
    is_there = store.backend.exists(path)
    data = path.read_bytes() if is_there else b""
    if version == 0:
        if is_there:
            trash.discard(store.root, path)
        said = manifest.properties(manifest.read(store.root))
        delta_commit.create(folder, TABLES[folder.name], said)
        return f"the first commit of table {folder.name} was written again"
    added, removed = _others(store, folder)
    if b'"remove"' in data or b"OPTIMIZE" in data or removed - added:
        raise StoreError(
            f"version {version} of table {folder.name} cannot be given up",
            "it, or a commit after it, replaced files, so that its rows would stand twice",
            f"restore {path} from a copy",
        )
    adds = list(_certain(store, folder, data, added))
    if is_there:
        trash.discard(store.root, path)
    delta_commit.commit(folder, version, adds, "WRITE")
    return (
        f"version {version} of table {folder.name} was written again with the {len(adds)} files "
        "that are certain"
    )


def _others(store: Store, folder: Place) -> tuple[set[str], set[str]]:
    """Files that the whole commits of a table add, and those that they remove."""
    added: set[str] = set()
    removed: set[str] = set()
    commits, _ = delta_log.listing(folder)
    for path in (delta_log.commit_path(folder, version) for version in commits):
        data = path.read_bytes()
        if log_entry.damage(data) is None:
            for action in map(json.loads, data.decode().splitlines()):
                added |= {action["add"]["path"]} if "add" in action else set()
                removed |= {action["remove"]["path"]} if "remove" in action else set()
    return added, removed


def _certain(store: Store, folder: Place, data: bytes, known: set[str]) -> Iterator[Action]:
    """The files that a damaged text names, that no other commit does, and that are whole."""
    declared = TABLES[folder.name]
    for file in store.backend.list_files(folder):
        named = file.relative.encode() in data and file.relative not in known
        if not named or content_hash.hash_in_name(file.relative) is None:
            continue
        try:
            with content_hash.open_verified(file.path) as local, pq.ParquetFile(local) as parquet:
                keys = [name for name in declared.key if name in parquet.schema_arrow.names]
                rows = parquet.read(columns=keys)
                n_rows = parquet.metadata.num_rows
        except OSError:
            continue
        values: dict[str, Any] = dict(
            part.split("=", 1) for part in file.relative.split("/")[:-1] if "=" in part
        )
        bounds = file_statistics.bounds(declared, rows) if n_rows else {}
        made_ms = int(file.modified * 1000)
        yield NewFile(
            declared.name, file.relative, file.size, n_rows, values, made_ms, bounds
        ).action()
