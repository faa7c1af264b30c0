"""Rows into a store: checked, encoded, written as files, and committed to all tables at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from s2d_store.ids import check_name
from s2d_store.schema import TABLES, Table
from s2d_store.sql.new_rows import lock_keys, new_rows
from s2d_store.storage.backend import backend_of
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import Place
from s2d_store.tables import (
    data_files,
    delta_commit,
    file_statistics,
    journal,
    rank_tables,
    rollout_files,
    snapshot,
)
from s2d_store.tables.batches import as_stored, partitions
from s2d_store.tables.rank_choice import RankChoice

__all__ = ["RankChoice", "commit", "create_tables"]


def create_tables(root: Place, properties: Mapping[str, str]) -> None:
    """Make the tables that are not there yet, empty."""
    for table in TABLES.values():
        delta_commit.create(snapshot.table_path(root, table.name), table, properties)


def commit(
    root: Place, tables: Mapping[str, pa.Table], ranks: RankChoice, *, fresh: bool
) -> dict[str, int]:
    """Append rows to one or several tables, all or nothing; see `Store.commit`."""
    files: list[journal.NewFile] = []
    added: dict[str, int] = {}
    names = (*tables, *({rank_tables.NAME} - set(tables) if "topk" in tables else ()))
    held = lock_keys(root, () if fresh else names)
    written: list[Place] = []
    with disk_errors(root, written), backend_of(root).register_writer(root), held:
        journal.recover(root)
        journal.check_logs(root, names)
        choose = ranks.beside(tables.get("policies"))
        for name, table in tables.items():
            rows = as_stored(TABLES[name], table, choose)
            if not fresh:
                rows = new_rows(root, TABLES[name], rows)
            added[name] = rows.num_rows
            for file in _write_files(root, TABLES[name], rows):
                files.append(file)
                written.append(snapshot.table_path(root, name) / file.path)
        built = choose.new()
        if built is not None and added.get("topk"):
            for file in _write_files(root, TABLES[rank_tables.NAME], built):
                files.append(file)
                written.append(snapshot.table_path(root, rank_tables.NAME) / file.path)
        if files:
            journal.commit(root, files)
        if built is not None and added.get("topk"):
            choose.keep()
    return added


def _write_files(root: Place, kind: Table, rows: pa.Table) -> list[journal.NewFile]:
    files = []
    folder = snapshot.table_path(root, kind.name)
    for values, part in partitions(rows, kind.partition_by):
        for name, value in values.items():
            check_name(value, name)
        path, size = data_files.write(folder, values, _only(part), part.schema)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        files.append(
            journal.NewFile(
                kind.name,
                path,
                size,
                part.num_rows,
                values,
                now_ms,
                file_statistics.bounds(kind, part),
                rollout_files.note(kind, part),
            )
        )
    return files


def _only(part: pa.Table) -> Callable[[Path], list[pa.Table]]:
    return lambda draft: [part]
