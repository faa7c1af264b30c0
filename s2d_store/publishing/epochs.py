"""A store's rows by epoch: what was there when each lock was built, and what came after.

A lock pins the versions of the tables that it was built on, and is built again on those. Facts are
only ever added, so the rows of a version are those of the one before and some more: an epoch holds
the more. Whoever commits the epochs in turn passes through every pinned state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import pyarrow as pa

from s2d_store.publishing.selection import LEFT_OUT, Selection
from s2d_store.schema import TABLES, without_encoding
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.tables.snapshot import Snapshot

BATCH_ROWS = 2_000


def snapshots(store: Store, selection: Selection) -> list[Snapshot]:
    """The state at the end of each epoch: of every lock, oldest first, and the newest."""
    pinned: list[Mapping[str, int]] = []
    for lock in selection.locks:
        if lock["versions"] not in pinned:
            pinned.append(lock["versions"])
    return [*(store.snapshot(versions) for versions in pinned), store.snapshot()]


def epoch_of(lock: Mapping[str, object], ends: Sequence[Snapshot]) -> int:
    """The epoch at whose end a lock was built."""
    return next(i for i, snap in enumerate(ends) if dict(snap.versions) == lock["versions"])


def tables_of(
    store: Store, selection: Selection, ends: Sequence[Snapshot]
) -> Iterator[tuple[int, str, Iterator[pa.RecordBatch]]]:
    """Yield epoch, table, and its rows that came with that epoch, streamed; top-k is plain.

    The rows must be used before the next table is asked for.
    """
    for epoch, (before, now) in enumerate(pairwise([None, *ends])):
        assert now is not None
        for name in TABLES:
            if name not in LEFT_OUT:
                yield epoch, name, _added(store, selection, name, before, now)


def _added(
    store: Store, selection: Selection, name: str, before: Snapshot | None, now: Snapshot
) -> Iterator[pa.RecordBatch]:
    # Names are those of the schema's declaration.
    declared = without_encoding(TABLES[name])
    key, columns = ", ".join(declared.key), ", ".join(f'"{c}"' for c in declared.column_names)
    unseen = f" ANTI JOIN _seen USING ({key})" if before is not None else ""
    text = f"SELECT {columns} FROM raw.{name}{unseen} WHERE {selection.condition(name)}"
    con = store.connect(now, text=text)
    selection.register(con)
    with connection.errors():
        if before is not None:
            seen = store.connect(before, text=name).sql(f"SELECT {key} FROM raw.{name}")
            con.register("_seen", seen.to_arrow_table())
        reader: pa.RecordBatchReader = con.sql(text).to_arrow_reader(BATCH_ROWS)
        yield from reader
