"""Compaction: the small files of a partition become few large ones, with the same rows.

An output is written beside its inputs and takes their place in one Delta commit, so a kill leaves
either the old files or the new one. Inputs stay on disk for older versions, until a vacuum.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from s2d_store.errors import InputError, StoreError
from s2d_store.schema import TABLES, Table
from s2d_store.storage import content_hash
from s2d_store.storage.backend import backend_of, parquet_source
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import Place
from s2d_store.store import Store
from s2d_store.tables import (
    data_files,
    delta_commit,
    file_statistics,
    journal,
    parquet_writer,
    rollout_files,
    table_state,
)
from s2d_store.tables.journal import NewFile
from s2d_store.tables.snapshot import table_path
from s2d_store.tables.table_state import LiveFile

TARGET_BYTES = 256 << 20
COMMIT_ATTEMPTS = 1000


@dataclass(frozen=True)
class Compacted:
    """What became of one table's small files.

    Attributes:
        table: its name.
        files: small files that were, or would be, rewritten.
        bytes: their size.
        new_files: files that hold their rows now; 0 where nothing was to do, or in a dry run.
        new_bytes: their size.
    """

    table: str
    files: int = 0
    bytes: int = 0
    new_files: int = 0
    new_bytes: int = 0


def compact(
    store: Store,
    tables: Sequence[str] = (),
    *,
    target_bytes: int = TARGET_BYTES,
    dry_run: bool = False,
) -> Iterator[Compacted]:
    """Rewrite small files, a table after another; yields what was done, of each table.

    A file is small below half of `target_bytes`. Writers and readers go on meanwhile. What another
    compaction has rewritten in the meantime is left to it. Memory: some tens of megabytes.

    Args:
        store: the store.
        tables: names; empty takes all.
        target_bytes: size from which an output is full.
        dry_run: only count.

    Raises:
        InputError: there is no such table, or the target is no size.
        StoreError: the disk is full or a file cannot be read; what is finished stays.
    """
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise InputError(f"no table {', '.join(unknown)}", f"tables are {', '.join(TABLES)}")
    if target_bytes < 1:
        raise InputError(f"a target of {target_bytes} bytes is no size", fix="--target-mb 256")
    if not dry_run:
        journal.recover(store.root)
    for name in tables or TABLES:
        yield _compact_table(store.root, TABLES[name], target_bytes, dry_run)


def _compact_table(root: Place, declared: Table, target_bytes: int, dry_run: bool) -> Compacted:
    folder = table_path(root, declared.name)
    groups = plan(table_state.newest(folder).oldest_first(), target_bytes // 2)
    if dry_run:
        planned = [file for group in groups for file in group]
        return Compacted(declared.name, len(planned), sum(file.size for file in planned))
    total = Compacted(declared.name)
    for group in groups:
        with backend_of(root).register_writer(root):
            done = list(_rewrite(root, declared, group, target_bytes))
        for files, made in done:
            total = Compacted(
                declared.name,
                total.files + len(files),
                total.bytes + sum(file.size for file in files),
                total.new_files + 1,
                total.new_bytes + made.size,
            )
    if total.new_files:
        delta_commit.checkpoint(folder)
    return total


def plan(files: Sequence[LiveFile], small_bytes: int) -> list[list[LiveFile]]:
    """Files below `small_bytes` by partition, in the order given; a lone one is left as it is."""
    groups: dict[tuple[tuple[str, str], ...], list[LiveFile]] = {}
    for file in files:
        if file.size < small_bytes:
            groups.setdefault(file.partition_values, []).append(file)
    return [group for group in groups.values() if len(group) > 1]


def _rewrite(
    root: Place, declared: Table, group: Sequence[LiveFile], target_bytes: int
) -> Iterator[tuple[list[LiveFile], NewFile]]:
    """Rewrite one partition's files; yields each committed output with the files it replaced.

    An output takes files until it is full, so only a partition's last can be small.
    """
    folder = table_path(root, declared.name)
    for schema, files in _by_schema(folder, group):
        left = deque(files)
        while len(left) > 1:
            values = dict(left[0].partition_values)
            taken: list[LiveFile] = []
            made = _write(root, declared, values, left, taken, schema, target_bytes)
            if made.rows != sum(file.rows for file in taken):
                raise StoreError(
                    f"files of table {declared.name} hold other rows than its log says",
                    f"{made.rows} rows were read, {sum(file.rows for file in taken)} are noted",
                    "restore the table's folder from a copy; nothing was replaced",
                )
            if replace_files(root, declared, taken, [made]):
                yield taken, made
            else:
                (folder / made.path).unlink()


def _by_schema(folder: Place, files: Sequence[LiveFile]) -> list[tuple[pa.Schema, list[LiveFile]]]:
    """Files that can be laid end to end: those of one schema."""
    found: list[tuple[pa.Schema, list[LiveFile]]] = []
    for file in files:
        with _reading(folder / file.path):
            schema = pq.read_schema(parquet_source(folder / file.path))
        for known, same in found:
            if known.equals(schema):
                same.append(file)
                break
        else:
            found.append((schema, [file]))
    return found


def _read(
    folder: Place, left: deque[LiveFile], taken: list[LiveFile], output: Path, target_bytes: int
) -> Iterator[pa.Table]:
    """Move files from `left` to `taken` until the output is full; yields their rows in order.

    Each table becomes a row group.
    """
    group_bytes = min(parquet_writer.ROW_GROUP_BYTES, target_bytes)
    waiting: list[pa.Table] = []
    n_bytes = 0
    while left and not (taken and output.stat().st_size >= target_bytes):
        taken.append(left.popleft())
        for part in _parts(folder / taken[-1].path, group_bytes // 8):
            part_bytes = parquet_writer.plain_bytes(part)
            if waiting and n_bytes + part_bytes > group_bytes:
                yield pa.concat_tables(waiting)
                waiting, n_bytes = [], 0
            waiting.append(part)
            n_bytes += part_bytes
    if waiting:
        yield pa.concat_tables(waiting)


def _parts(path: Place, n_bytes: int) -> Iterator[pa.Table]:
    """A file's rows in order, about `n_bytes` at a time."""
    # A damaged file's rows must not get a hash that fits.
    with _reading(path), content_hash.open_verified(path) as local, pq.ParquetFile(local) as file:
        # Encoded top-k takes several times as much once it is read.
        size = _bytes(file.metadata) * (4 if "rank_codes" in file.schema_arrow.names else 1)
        row_bytes = max(1, size // max(1, file.metadata.num_rows))
        for batch in file.iter_batches(max(1, n_bytes // row_bytes)):
            yield pa.Table.from_batches([batch])


@contextmanager
def _reading(path: Place) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"{path} cannot be read",
            f"{error}; nothing was replaced",
            "s2d doctor, which says what is lost and how to make it again",
        ) from error


def _bytes(metadata: pq.FileMetaData) -> int:
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _write(
    root: Place,
    declared: Table,
    values: dict[str, str],
    left: deque[LiveFile],
    taken: list[LiveFile],
    schema: pa.Schema,
    target_bytes: int,
) -> NewFile:
    """Write an output, which nobody sees yet, of files that move from `left` to `taken`."""
    folder = table_path(root, declared.name)
    rows = 0
    ends: list[file_statistics.Bounds] = []
    ids: list[str] = []

    def noted(output: Path) -> Iterator[pa.Table]:
        nonlocal rows
        for table in _read(folder, left, taken, output, target_bytes):
            rows += table.num_rows
            ends.append(file_statistics.bounds(declared, table))
            ids.append(rollout_files.note(declared, table))
            yield table

    with disk_errors(root):
        path, size = data_files.write(folder, values, noted, schema)
    now_ms = int(time.time() * 1000)
    bounds, noted_ids = file_statistics.merge_bounds(ends), rollout_files.merge(ids)
    return NewFile(declared.name, path, size, rows, values, now_ms, bounds, noted_ids)


def replace_files(
    root: Place,
    declared: Table,
    old: Sequence[LiveFile],
    new: Sequence[NewFile],
    *,
    data_change: bool = False,
) -> bool:
    """Commit that `new` stands for `old`; False if some of those were replaced already.

    `data_change` says that rows went with them.

    Delta lets two commits remove the same file, which would double its rows. So this commits only
    as the very next version after one that was seen to hold all of them, and looks again when
    another writer was quicker.
    """
    gone = [file.removal(data_change=data_change) for file in old]
    added = [file.action(data_change=data_change) for file in new]
    operation = "DELETE" if data_change else "OPTIMIZE"
    folder = table_path(root, declared.name)
    backend_of(root).sync_folders([(folder / file.path).parent for file in new])
    for attempt in range(COMMIT_ATTEMPTS):
        try:
            state = table_state.newest(folder)
            if not {file.path for file in old} <= set(state.files):
                return False
            backend_of(root).require_trust(root)
            if delta_commit.commit(folder, state.version + 1, [*added, *gone], operation):
                return True
        except (DeltaError, OSError) as error:
            raise _failed(declared, error) from error
        time.sleep(random.uniform(0, 0.001 * min(attempt, 50)))
    raise StoreError(
        f"table {declared.name} was never quiet for long enough to replace files of it",
        f"{COMMIT_ATTEMPTS} attempts; nothing was replaced",
        "run the same command again, when fewer writers are at work",
    )


def _failed(declared: Table, error: Exception) -> StoreError:
    return StoreError(
        f"the replacement of files of table {declared.name} did not go through",
        str(error).splitlines()[0],
        "free disk space or repair the folder's permissions, then run the command again: "
        "it continues where it stopped",
    )
