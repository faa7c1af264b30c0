"""A snapshot: one version of every table, and the Parquet files that make it up."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote, urlparse

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from s2d_store.errors import InputError, NotFoundError, StoreError
from s2d_store.schema import TABLES
from s2d_store.storage import location
from s2d_store.storage.location import Place
from s2d_store.storage.object_path import ObjectPath

# How often a snapshot is taken of all tables at once before it is taken one by one.
ROUNDS = 3
# What refers before what it refers to, and what a commit writes last before what it writes first
# (the reverse of TABLES): whatever is committed meanwhile, nothing that is seen lacks its origin.
_READING_ORDER = (
    "updates",
    "datasets",
    "dataset_rows",
    "rollouts",
    "rewards",
    "withdrawals",
    "topk",
    "endpoints",
    "relocations",
    "policies",
    "vocabularies",
    "prompts",
    "runs",
)


@dataclass(frozen=True)
class Snapshot:
    """Versions and absolute file paths by table name. Files never change once written."""

    versions: Mapping[str, int]
    files: Mapping[str, tuple[str, ...]]


def table_path(root: Place, name: str) -> Place:
    """Folder of a table's Delta log and files."""
    return root / "tables" / name


def read(root: Place, as_of: datetime | Mapping[str, int] | None = None) -> Snapshot:
    """Resolve the newest snapshot, the one at a moment, or the one at given versions.

    Tables are read in _READING_ORDER, so a newest snapshot never shows a row without what it refers
    to, nor a rollout without the rewards and top-k that were committed with it.

    Raises:
        NotFoundError: a version that the table does not have.
        StoreError: an older version's files are gone, as after a vacuum.
    """
    if as_of is None:
        newest = _newest_of_all(root)
        return Snapshot(
            {name: newest[name][0] for name in TABLES}, {name: newest[name][1] for name in TABLES}
        )
    tables = {name: _load(root, name, as_of) for name in _READING_ORDER}
    versions = {name: tables[name].version() for name in TABLES}
    files = {name: _files(table_path(root, name), tables[name]) for name in TABLES}
    for name, paths in files.items():
        _check_present(name, versions[name], paths)
    return Snapshot(versions, files)


@dataclass
class _Opened:
    """A table kept open; its log's first file tells it from another one in its place."""

    first: object
    table: DeltaTable
    files: tuple[str, ...]


_opened: dict[Place, _Opened] = {}
_opening: dict[Place, threading.Lock] = {}


def forget(root: Place) -> None:
    """Open a store's tables anew at the next snapshot: another store may lie there by now."""
    for name in TABLES:
        _opened.pop(table_path(root, name), None)


def _newest_of_all(root: Place) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Newest version and files by table, as one moment had them or in _READING_ORDER.

    On an object store each table is some requests that wait for each other, so all tables are asked
    at once. What two rounds find alike was there, all of it, between them.
    """
    if isinstance(root, ObjectPath):
        folders = [table_path(root, name) for name in _READING_ORDER]
        with ThreadPoolExecutor(len(folders), thread_name_prefix="snapshot") as pool:
            before = list(pool.map(_newest, folders))
            for _ in range(ROUNDS):
                after = list(pool.map(_newest, folders))
                if after == before:
                    return dict(zip(_READING_ORDER, after, strict=True))
                before = after
    return {name: _newest(table_path(root, name)) for name in _READING_ORDER}


def _newest(folder: Place) -> tuple[int, tuple[str, ...]]:
    """Newest version and files of a table. Opening it reads the log since its last checkpoint, and
    every step of a run asks again: a table that is open reads what was added since.
    """
    with _opening.setdefault(folder, threading.Lock()):
        first = (
            None
            if isinstance(folder, ObjectPath)
            else location.file_identity(folder / "_delta_log" / f"{0:020d}.json")
        )
        kept = _opened.get(folder)
        if kept is None or kept.first != first:
            table = DeltaTable(str(folder))
            kept = _opened[folder] = _Opened(first, table, _files(folder, table))
        else:
            before = kept.table.version()
            kept.table.update_incremental()
            if kept.table.version() != before:
                kept.files = _files(folder, kept.table)
        return kept.table.version(), kept.files


def _check_present(name: str, version: int, files: tuple[str, ...]) -> None:
    gone = sum(not location.exists(file) for file in files)
    if gone:
        raise StoreError(
            f"version {version} of table {name} is not whole any more",
            f"{gone} of its {len(files)} files are gone: s2d vacuum --older-than removes files "
            "that a compaction replaced, unless a locked dataset pins them",
            "read a newer version (s2d info), or restore the files from a copy",
        )


def _files(folder: Place, table: DeltaTable) -> tuple[str, ...]:
    """The data files of a table, none of them outside its folder, whatever its log says."""
    if isinstance(folder, ObjectPath):
        files = tuple(sorted(unquote(uri) for uri in table.file_uris()))
        within = f"{folder}/"
    else:
        files = tuple(sorted(_local_path(uri) for uri in table.file_uris()))
        within = os.path.join(os.path.realpath(folder), "")
    for file in files:
        if not file.startswith(within) or "/../" in file:
            raise StoreError(
                f"the files of table {folder.name} cannot be read",
                f"its log names {file}, which is not in {within}",
                "do not use this store: its log was not written by s2d",
            )
    return files


def _load(root: Place, name: str, as_of: datetime | Mapping[str, int]) -> DeltaTable:
    path = table_path(root, name)
    if isinstance(as_of, datetime):
        table = DeltaTable(str(path))
        versions = [
            entry["version"]
            for entry in table.history()
            if datetime.fromtimestamp(entry["timestamp"] / 1000, UTC) <= as_of
        ]
        table.load_as_version(max(versions, default=0))
        return table
    if name not in as_of:
        return DeltaTable(str(path))
    try:
        return DeltaTable(str(path), version=as_of[name])
    except (DeltaError, ValueError, OSError) as error:
        newest = DeltaTable(str(path)).version()
        raise NotFoundError(
            f"table {name} has no version {as_of[name]}",
            f"its newest version is {newest}",
            "s2d info, to see the versions",
        ) from error


def _local_path(uri: str) -> str:
    # Without a scheme as well, a space in the store's own folder comes percent-encoded.
    return unquote(urlparse(uri).path if uri.startswith("file://") else uri)


def n_rows(root: Place, name: str) -> int:
    """Rows of a table's newest version, from the log alone."""
    actions = pa.table(DeltaTable(str(table_path(root, name))).get_add_actions(flatten=True))
    return sum(actions.column("num_records").to_pylist()) if actions.num_rows else 0


def parse_as_of(text: str) -> datetime | dict[str, int]:
    """Read `--as-of`: an ISO time (UTC unless it says otherwise) or `table=version,...`.

    Raises:
        InputError: neither form fits.
    """
    if "=" in text:
        pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        if set(pairs) <= set(TABLES) and all(v.strip().isdigit() for v in pairs.values()):
            return {name: int(version) for name, version in pairs.items()}
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    raise InputError(
        f"--as-of {text!r} is neither a time nor table versions",
        f"tables are {', '.join(TABLES)}",
        "--as-of 2026-01-31T12:00, or --as-of rollouts=12,rewards=9",
    )
