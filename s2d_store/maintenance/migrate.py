"""`s2d migrate`: a store of format 2 becomes one of format 3, in place.

Tables of format 3 that were made before one of its columns was added get that column, null.

Every file is rewritten one to one, the files that only locked datasets still pin included, and what
took whose place is noted: so locks verify as before. The old files stay until a vacuum. A table is
done by one commit; killed anywhere, the same command goes on with the tables that are left, and the
store is of format 2 until the last is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema

from s2d_store.append import create_tables
from s2d_store.datasets.lock_file import list_built, read_lock
from s2d_store.errors import NotFoundError, StoreError
from s2d_store.maintenance.format2 import upgraded
from s2d_store.schema import FORMAT_VERSION, TABLES, Table
from s2d_store.storage.backend import backend_of, parquet_source
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import Place, parse_location
from s2d_store.store import Store
from s2d_store.tables import (
    data_files,
    delta_commit,
    delta_log,
    file_statistics,
    journal,
    manifest,
    migrated_files,
    rank_tables,
    snapshot,
)
from s2d_store.tables.batches import as_stored
from s2d_store.tables.journal import NewFile
from s2d_store.tables.log_entry import Action
from s2d_store.tables.rank_choice import RankChoice

BEFORE = 2
Upgrade = Callable[[str, pa.Table], pa.Table]
"""Given a table's name, its rows as they lie in a file as rows of the current format."""


@dataclass(frozen=True)
class MigratedTable:
    """A table whose files were rewritten: files, rows, bytes before and after."""

    name: str
    files: int
    rows: int
    bytes_before: int
    bytes_after: int


def migrate(root: str | Place, watch: Callable[[MigratedTable], None] = lambda _: None) -> int:
    """Bring a store to the current format; returns how many tables were rewritten.

    A store that has it already is left as it is.

    Args:
        root: the store's folder or URL.
        watch: told each table when it is done.

    Raises:
        NotFoundError: there is no store.
        StoreError: another format, a writer at work, too little space, or a failing disk; tables
            that were done stay done.
        DatasetError: a lock cannot be read, so that nobody knows which files it pins.
    """
    path = parse_location(root)
    try:
        said = manifest.read(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"no store at {path}", f"it has no {manifest.MANIFEST}") from error
    version = said["format_version"]
    if version == FORMAT_VERSION and not any(_is_due(path, table) for table in TABLES.values()):
        return 0
    if version not in (BEFORE, FORMAT_VERSION):
        raise StoreError(
            f"{path} has format version {version}",
            f"stores of version {BEFORE} can be brought to version {FORMAT_VERSION}",
            "pip install --upgrade s2d" if version > FORMAT_VERSION else "make a new store",
        )
    backend = backend_of(path)
    with disk_errors(path), backend.try_block_writers(path) as quiet:
        if not quiet:
            raise StoreError(
                f"another process is writing to {path}",
                "a store is migrated while nobody writes",
                "wait for it to end, then run the command again",
            )
        journal.recover(path)
        done, upgrade = 0, upgraded if version == BEFORE else _unchanged
        said["format_version"] = FORMAT_VERSION
        properties = manifest.properties(said)
        ranks = TABLES[rank_tables.NAME]
        delta_commit.create(snapshot.table_path(path, ranks.name), ranks, properties)
        for table in TABLES.values():
            if _is_due(path, table):
                watch(_rewrite(path, table, properties, upgrade))
                done += 1
        create_tables(path, properties)
        backend.replace(path / manifest.MANIFEST, manifest.text(said))
    snapshot.forget(path)
    return done


def _is_due(root: Place, table: Table) -> bool:
    folder = snapshot.table_path(root, table.name)
    if not DeltaTable.is_deltatable(str(folder)):  # a table that format 2 did not have
        return False
    return bool(DeltaTable(str(folder)).schema() != Schema.from_arrow(table.schema))


def _rewrite(
    root: Place, table: Table, properties: Mapping[str, str], upgrade: Upgrade
) -> MigratedTable:
    """Write every file anew that the newest or a pinned version holds, and commit the change."""
    folder = snapshot.table_path(root, table.name)
    store = Store(root)
    pinned = [read_lock(store, name)["versions"].get(table.name, 0) for name in list_built(store)]
    lives = delta_log.file_lifetimes(folder)
    there = {file.relative: file.size for file in backend_of(folder).list_files(folder)}
    old = [
        name
        for name, life in lives.items()
        if name in there and (life.removed is None or any(life.in_version(v) for v in pinned))
    ]
    _require_space(root, sum(there[name] for name in old))
    choose = RankChoice(root)
    new = {name: _rewritten(root, table, name, choose, upgrade) for name in old}
    migrated_files.write(folder, {name: file.path for name, file in new.items()})
    live = [name for name in old if lives[name].removed is None]
    _commit(
        folder,
        [
            _metadata(folder, table, properties),
            *(f.action(data_change=False) for f in new.values()),
            *(_removal(name, there[name]) for name in live),
        ],
    )
    # Files that only older versions hold are in the log, so that a vacuum knows them, and no more.
    rest = [new[name] for name in old if name not in live]
    if rest:
        _commit(folder, [_removal(file.path, file.size) for file in rest])
    delta_commit.checkpoint(folder)
    return MigratedTable(
        table.name,
        len(old),
        sum(file.rows for file in new.values()),
        sum(there[name] for name in old),
        sum(file.size for file in new.values()),
    )


def _rewritten(
    root: Place, table: Table, name: str, choose: RankChoice, upgrade: Upgrade
) -> NewFile:
    folder = snapshot.table_path(root, table.name)
    values = dict(part.split("=", 1) for part in name.split("/")[:-1])
    values = {key: unquote(value) for key, value in values.items()}
    bounds: list[file_statistics.Bounds] = []
    rows = 0
    schema = pa.schema([f for f in table.schema if f.name not in values])

    def tables(_: Path) -> Iterator[pa.Table]:
        nonlocal rows
        with pq.ParquetFile(parquet_source(folder / name)) as file:
            for group in range(file.num_row_groups):
                made = _upgraded_rows(table, file.read_row_group(group), values, choose, upgrade)
                _store_ranks(root, choose)
                rows += made.num_rows
                if made.num_rows:
                    bounds.append(file_statistics.bounds(table, made))
                yield made

    path, size = data_files.write(folder, values, tables, schema)
    now_ms = int(time.time() * 1000)
    merged = file_statistics.merge_bounds(bounds)
    return NewFile(table.name, path, size, rows, values, now_ms, merged)


def _upgraded_rows(
    table: Table,
    rows: pa.Table,
    values: Mapping[str, str],
    choose: RankChoice,
    upgrade: Upgrade,
) -> pa.Table:
    for key, value in values.items():
        rows = rows.append_column(key, pa.repeat(pa.scalar(value), rows.num_rows))
    return as_stored(table, upgrade(table.name, rows), choose).drop_columns(list(values))


def _unchanged(_: str, rows: pa.Table) -> pa.Table:
    """Rows of the current format, which lack at most columns that may be null."""
    return rows


def _store_ranks(root: Place, choose: RankChoice) -> None:
    """Commit the rank tables that rows were written with, before anything names them."""
    built = choose.new()
    if built is None:
        return
    table = TABLES[rank_tables.NAME]
    folder = snapshot.table_path(root, table.name)
    path, size = data_files.write(folder, {}, lambda _: [built], table.schema)
    now_ms = int(time.time() * 1000)
    ends = file_statistics.bounds(table, built)
    journal.commit(root, [NewFile(table.name, path, size, built.num_rows, {}, now_ms, ends)])
    choose.keep()


def _metadata(folder: Place, table: Table, properties: Mapping[str, str]) -> Action:
    """The table as it was made, with the columns of the current format."""
    before = DeltaTable(str(folder)).metadata()
    return {
        "metaData": {
            "id": str(before.id),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": Schema.from_arrow(table.schema).to_json(),
            "partitionColumns": list(table.partition_by),
            "configuration": {**before.configuration, **properties},
            "createdTime": before.created_time,
        }
    }


def _removal(path: str, size: int) -> Action:
    now_ms = int(time.time() * 1000)
    gone = {"path": path, "deletionTimestamp": now_ms, "dataChange": False, "size": size}
    return {"remove": gone}


def _commit(folder: Place, actions: list[Action]) -> None:
    version = delta_commit.newest(folder) + 1
    if not delta_commit.commit(folder, version, actions, "MIGRATE"):
        raise StoreError(
            f"another writer committed to table {folder.name} meanwhile",
            "nothing of this table was changed",
            "run the command again, when nobody writes",
        )


def _require_space(root: Place, needed: int) -> None:
    """Refuse before writing what does not fit; the new files are about as large as the old."""
    free = backend_of(root).free_bytes(root)
    if free is not None and free < needed:
        raise StoreError(
            f"{free:,} bytes are free at {root}, and about {needed:,} are needed",
            "the old files stay until s2d vacuum --older-than",
            "free space, then run the command again: tables that are done stay done",
        )
