"""Which rows of a store are published: all, or what it takes to build a dataset again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

import queries
from s2d_store.datasets.lock_file import list_built, read_lock
from s2d_store.sql import connection
from s2d_store.store import Store

Lock = Mapping[str, Any]
_OF_ROLLOUTS = "rollout_id IN (SELECT rollout_id FROM rollouts SEMI JOIN _runs USING (run_id))"
# Of each table, the rows that belong to the registered _runs, _policies and _datasets.
_CONDITIONS: Mapping[str, str] = {
    "prompts": "prompt_id IN (SELECT prompt_id FROM rollouts SEMI JOIN _runs USING (run_id))",
    "policies": "policy_id IN (FROM _policies)",
    "relocations": "policy_id IN (FROM _policies)",
    "endpoints": "policy_id IN (FROM _policies)",
    "vocabularies": "tokenizer_fingerprint IN "
    "(SELECT tokenizer_fingerprint FROM policies SEMI JOIN _policies USING (policy_id))",
    "runs": "run_id IN (FROM _runs) OR run_id IN "
    "(SELECT run_id FROM policies SEMI JOIN _policies USING (policy_id)) "
    f"OR run_id IN (SELECT run_id FROM rewards WHERE {_OF_ROLLOUTS})",
    "rollouts": "run_id IN (FROM _runs)",
    "rewards": _OF_ROLLOUTS,
    "withdrawals": "true",
    "topk": _OF_ROLLOUTS,
    "datasets": "dataset_id IN (FROM _datasets)",
    "dataset_rows": "dataset_id IN (FROM _datasets)",
    "updates": "run_id IN (SELECT run_id FROM policies SEMI JOIN _policies USING (policy_id))",
}
_KEYS = {"_runs": "run_id", "_policies": "policy_id", "_datasets": "dataset_id"}
# Their rows are made anew where they are wanted.
LEFT_OUT = ("token_ranks",)


@dataclass(frozen=True)
class Selection:
    """What is published.

    Attributes:
        locks: locks of the datasets that go along, those that others are controls of first.
        ids: values of the registered lists by name; empty for a whole store.
    """

    locks: tuple[Lock, ...]
    ids: Mapping[str, list[str]] = field(default_factory=dict)

    def condition(self, table: str) -> str:
        """SQL condition on the rows of a table."""
        return _CONDITIONS[table] if self.ids else "true"

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the lists known to a connection."""
        for name, values in self.ids.items():
            con.register(name, pa.table({_KEYS[name]: pa.array(values, pa.string())}))


def of_store(store: Store) -> Selection:
    """All rows of a store, and every dataset whose files are there."""
    locks = [read_lock(store, name) for name in list_built(store)]
    return Selection(tuple(sorted(locks, key=_moment)))


def of_dataset(store: Store, name: str) -> Selection:
    """What it takes to build a dataset again: the runs that its rollouts come from, whole."""
    locks = _with_treatments(store, name)
    datasets = [str(lock["dataset_id"]) for lock in locks]
    con = store.connect(text=queries.texts("published_runs", "published_policies"))
    with connection.errors():
        runs = con.execute(queries.internal("published_runs"), {"datasets": datasets}).fetchall()
        given = sorted({str(v) for lock in locks for v in lock["params"].values()})
        con.register("_runs", pa.table({"run_id": pa.array([r for (r,) in runs], pa.string())}))
        policies = con.execute(queries.internal("published_policies"), {"given": given}).fetchall()
    ids = {
        "_runs": [run for (run,) in runs],
        "_policies": [policy for (policy,) in policies],
        "_datasets": datasets,
    }
    return Selection(tuple(sorted(locks, key=_moment)), ids)


def _with_treatments(store: Store, name: str) -> list[dict[str, Any]]:
    """The lock of a dataset, and those of the datasets that it is a control of, in turn."""
    lock = read_lock(store, name)
    control = lock.get("traits", {}).get("control")
    treatment = lock["params"].get(control) if control else None
    return [lock, *(_with_treatments(store, str(treatment)) if treatment else [])]


def _moment(lock: Lock) -> tuple[int, ...]:
    """Locks by what their versions hold: tables only grow."""
    return tuple(version for _, version in sorted(lock["versions"].items()))
