"""What the store's own tables remember of locked datasets, also once their files are gone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.datasets.labels_spent import labelled_rows
from s2d_store.storage.backend import parquet_source
from s2d_store.store import Store


def record(store: Store, lock: Mapping[str, Any], rows: pa.Table, *, again: bool = False) -> bool:
    """Append a dataset's lock and light rows to the store; one that is recorded stays as it is.

    Gives whether anything was appended.

    Args:
        store: the store; the caller holds the dataset's lock, so nobody else records it.
        lock: the dataset's lock.
        rows: row, update, rollout_id, prompt_id, and the query's own labelled where it gives any.
        again: part of the record may be lost: look for every row.
    """
    if not again and recorded(store, lock["dataset_id"]):
        return False
    n = rows.num_rows
    added = store.commit(
        {
            "datasets": pa.table(
                {
                    "dataset_id": [lock["dataset_id"]],
                    "name": [lock["name"]],
                    "query": [lock["query"]],
                    "fingerprint": [lock["fingerprint"]],
                    "lock": [json.dumps(lock)],
                    "created_at": pa.array([datetime.now(UTC)], pa.timestamp("us", tz="UTC")),
                }
            ),
            "dataset_rows": pa.table(
                {
                    "dataset_id": pa.repeat(pa.scalar(lock["dataset_id"]), n),
                    "row": rows.column("row"),
                    "update": rows.column("update"),
                    "rollout_id": rows.column("rollout_id"),
                    "prompt_id": rows.column("prompt_id"),
                    "labelled": labelled_rows(lock, rows),
                }
            ),
        },
        fresh=not again,
    )
    return any(added.values())


def recorded(store: Store, dataset_id: str) -> list[str]:
    """The lock that the store holds of a dataset, as JSON; empty for none."""
    return [lock for found, _, lock in _records(store) if found == dataset_id]


def recorded_as(store: Store, name: str) -> dict[str, Any] | None:
    """The lock of the dataset recorded last under a name; None where there was none."""
    locks = [lock for _, found, lock in _records(store) if found == name]
    return json.loads(locks[-1]) if locks else None


def _records(store: Store) -> list[tuple[str, str, str]]:
    """Id, name and lock of every dataset ever built, oldest first.

    Read without SQL, which would need the files of every other table.
    """
    rows: list[tuple[Any, str, str, str]] = []
    for path in store.snapshot().files["datasets"]:
        table = pq.read_table(
            parquet_source(path), columns=["created_at", "dataset_id", "name", "lock"]
        )
        rows += [tuple(row.values()) for row in table.to_pylist()]
    return [(dataset_id, name, lock) for _, dataset_id, name, lock in sorted(rows)]
