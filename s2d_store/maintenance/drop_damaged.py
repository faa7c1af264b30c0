"""Take damaged files out of their tables, and with lost rollouts the rows that hang on them.

A reward or a score belongs to tokens. The rollout that comes back has the same id but, on another
engine or card, perhaps other tokens; so what was said of the lost ones goes with them. So do scores
whose ids were written with a rank table that is lost: nothing else says which ids they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2d_store.errors import StoreError
from s2d_store.maintenance.compact import replace_files
from s2d_store.maintenance.examine import Damage
from s2d_store.maintenance.file_health import DataFile
from s2d_store.maintenance.reopen_rounds import reopen_rounds, runs_of
from s2d_store.schema import TABLES, TOKEN_RANKS, TOPK
from s2d_store.sql import connection
from s2d_store.storage import content_hash
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import Place
from s2d_store.store import Store
from s2d_store.tables import data_files, file_statistics, journal, rollout_files, table_state
from s2d_store.tables.snapshot import Snapshot, table_path
from s2d_store.tables.table_state import LiveFile

CHILD_TABLES = ("rewards", "topk")
# Scores go before the rank tables that they are written with.
_ORDER = (*(name for name in reversed(TABLES) if name != TOKEN_RANKS.name), TOKEN_RANKS.name)


@dataclass(frozen=True)
class Dropped:
    """Files taken out of their tables, and rows that went with them, by table."""

    files: int
    rows: Mapping[str, int]


def without_damaged_files(snap: Snapshot, damages: Iterable[Damage]) -> Snapshot:
    """The snapshot without its damaged files."""
    damaged = {str(damage.file.path) for damage in damages}
    files = {
        name: tuple(path for path in paths if path not in damaged)
        for name, paths in snap.files.items()
    }
    return Snapshot(snap.versions, files)


def drop_damaged(store: Store, damages: Sequence[Damage], *, lost: bool = False) -> Dropped:
    """Remove damaged files from the newest versions; locks that pin older ones still read them.

    The files themselves stay where they are. Killed on the way, the same command goes on.

    Args:
        store: the store.
        damages: from `examine`.
        lost: a log was repaired, so rows may hang on rollouts that it lost.

    Raises:
        StoreError: another command is writing; nothing has changed.
    """
    by_table: dict[str, list[DataFile]] = {name: [] for name in TABLES}
    for damage in damages:
        if damage.file.live is not None:
            by_table[damage.file.table].append(damage.file)
    rows = {name: sum(f.rows for f in files) for name, files in by_table.items() if files}
    damaged_runs = runs_of(file for files in by_table.values() for file in files)
    with ExitStack() as held, disk_errors(store.root), store.backend.register_writer(store.root):
        for run_id in sorted({f.partition["run_id"] for f in by_table["rollouts"]}):
            held.enter_context(store.run_lock(run_id))
        journal.recover(store.root)
        # In this order: a commit under way that has reached rewards or topk either still stands in
        # its journal, or its rollouts are there by now.
        children = {
            name: without_damaged_files(store.snapshot(), damages).files[name]
            for name in CHILD_TABLES
        }
        _refuse_writers(store)
        snap = without_damaged_files(store.snapshot(), damages)
        # Children first: a reader never sees a rollout without what belongs to it.
        orphaning = bool(lost or by_table["rollouts"])
        for name in _ORDER:
            taken = [file.live for file in by_table[name] if file.live]
            replacements: list[journal.NewFile] = []
            unranked = name == TOPK.name and bool(by_table[TOKEN_RANKS.name])
            if name in CHILD_TABLES and (orphaning or unranked):
                gone, old, replacements = _without_orphaned(store, snap, name, children[name])
                taken += old
                if gone:
                    rows[name] = rows.get(name, 0) + gone
            if taken and not replace_files(
                store.root, TABLES[name], taken, replacements, data_change=True
            ):
                raise StoreError(
                    f"files of table {name} were replaced by another command meanwhile",
                    "what was dropped before stays dropped",
                    "run the same command again",
                )
    reopen_rounds(store, damaged_runs)
    return Dropped(sum(map(len, by_table.values())), rows)


def _refuse_writers(store: Store) -> None:
    if journal.pending(store.root):
        raise StoreError(
            "another command is committing to this store",
            "rows that it has not finished writing would look as if they hung on lost ones",
            "wait for it to end, then run the same command again",
        )


def _without_orphaned(
    store: Store, snap: Snapshot, name: str, files: Sequence[str]
) -> tuple[int, list[LiveFile], list[journal.NewFile]]:
    """Rows of a table whose rollout or rank table is gone: their number, the files that hold them,
    and those files written anew without them.
    """
    if not files:
        return 0, [], []
    origins = ("rollouts", TOKEN_RANKS.name)
    con = connection.connect_raw(store.root, {origin: snap.files[origin] for origin in origins})
    paths = ", ".join(connection.file_literal(file) for file in files)
    source = (
        f"read_parquet([{paths}], filename = true, file_row_number = true, "
        "hive_partitioning = false)"
    )
    columns = f"SELECT filename, file_row_number AS row FROM {source}"
    text = f"{columns} ANTI JOIN raw.rollouts USING (rollout_id)"
    if name == TOPK.name:
        text += f" UNION {columns} WHERE ranks_id NOT IN (SELECT ranks_id FROM raw.token_ranks)"
    with connection.errors():
        lost = con.sql(text).to_arrow_table()
    folder = table_path(store.root, name)
    state = table_state.newest(folder)
    paths_there = table_state.file_paths(folder, state)
    known = {at: state.files[path] for at, path in zip(paths_there, state.paths, strict=True)}
    replaced: list[LiveFile] = []
    replacements: list[journal.NewFile] = []
    for file in lost.column("filename").unique().to_pylist():
        rows = lost.filter(pc.equal(lost.column("filename"), file)).column("row")
        replaced.append(known[file])
        replacements += _rewrite(folder, name, known[file], rows)
    return lost.num_rows, replaced, replacements


def _rewrite(
    folder: Place, name: str, file: LiveFile, lost: pa.ChunkedArray
) -> Iterable[journal.NewFile]:
    """A file's other rows in a file beside it; none where nothing is left."""
    with content_hash.open_verified(folder / file.path) as local, pq.ParquetFile(local) as old:
        table = old.read()
    rows = pa.array(range(table.num_rows), lost.type)
    kept = table.filter(pc.invert(pc.is_in(rows, value_set=lost)))
    if kept.num_rows == 0:
        return
    values = dict(file.partition_values)
    path, size = data_files.write(folder, values, lambda draft: [kept], kept.schema)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    bounds = file_statistics.bounds(TABLES[name], kept)
    noted_ids = rollout_files.note(TABLES[name], kept)
    yield journal.NewFile(name, path, size, kept.num_rows, values, now_ms, bounds, noted_ids)
