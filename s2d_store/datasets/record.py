"""What the store's own tables remember of locked datasets, also once their files are gone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2d_store.store import Store


def record(store: Store, lock: Mapping[str, Any], rows: pa.Table) -> None:
    """Append a dataset's lock and light rows to the store; one that is recorded stays as it is.

    Args:
        store: the store; the caller holds the dataset's lock, so nobody else records it.
        lock: the dataset's lock.
        rows: row, update, rollout_id, prompt_id, and labelled where there is any.
    """
    if recorded(store, lock["dataset_id"]):
        return
    n = rows.num_rows
    has_labels = "labelled" in rows.column_names
    store.commit(
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
                    "labelled": (
                        rows.column("labelled") if has_labels else pa.repeat(pa.scalar(False), n)
                    ),
                }
            ),
        },
        fresh=True,
    )


def recorded(store: Store, dataset_id: str) -> list[str]:
    """The lock that the store holds of a dataset, as JSON; empty for none.

    Read without SQL, which would need the files of every other table.
    """
    texts: list[str] = []
    for file in store.snapshot().files["datasets"]:
        rows = pq.read_table(file, columns=["dataset_id", "lock"])
        mine = rows.filter(pc.equal(rows.column("dataset_id"), dataset_id))
        texts += mine.column("lock").to_pylist()
    return texts
