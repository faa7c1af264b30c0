"""Where a policy comes from: training runs, datasets, rollouts, verdicts, scores, and back."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

import queries
from s2d_store.sql import connection, parameters
from s2d_store.store import Store

Record = dict[str, Any]
_LOCK_KEYS = (
    "query",
    "kind",
    "params",
    "seed",
    "versions",
    "fingerprint",
    "counts",
    "code_version",
    "built_at",
)
_STATEMENTS = (
    "lineage_sources",
    "lineage_reached",
    "lineage_datasets",
    "lineage_updates",
    "lineage_sampled",
    "lineage_verifiers",
    "lineage_scores",
)
_SAMPLING = ("engine", "engine_version", "temperature", "top_p", "top_k", "max_tokens", "round")


def trace(store: Store, policy: str) -> Record:
    """Everything behind a policy, as one nested record ready for JSON.

    A policy holds `run` (None where no training run is recorded) and `parent`; a run holds
    `datasets`; a dataset holds `generate_runs` with the policies that sampled, `verifiers`, and
    `score_runs` with the policies that scored. A policy stands in full where it is met first, and
    later as policy_id, name and `seen: true`.

    Args:
        store: the store.
        policy: name or id.

    Raises:
        NotFoundError: no such policy.

    Example:
        >>> from s2d_store.accounting.lineage import trace
        >>> found = trace(store, "student")
        >>> found["name"], found["parent"]["name"], found["run"]["datasets"][0]["name"]
        ('student', 'teacher', 'w')
    """
    con = store.connect(
        text="policies runs datasets " + queries.texts(*_STATEMENTS, "policy_names")
    )
    policy_id, _ = parameters.policy(con, policy)
    with connection.errors():
        return _Walk(con, policy_id).policy(policy_id)


class _Walk:
    """The facts behind one policy, and which policies the walk has met."""

    def __init__(self, con: duckdb.DuckDBPyConnection, policy_id: str) -> None:
        self._con = con
        con.execute(f"CREATE TEMP TABLE _sources AS {queries.internal('lineage_sources')}")
        con.execute(
            f"CREATE TEMP TABLE _reached AS {queries.internal('lineage_reached')}",
            {"id": policy_id},
        )
        con.execute(f"CREATE TEMP TABLE _datasets AS {queries.internal('lineage_datasets')}")
        self._policies = _by(
            self._rows("FROM policies SEMI JOIN _reached USING (policy_id)"), "policy_id"
        )
        self._runs = _by(self._rows("FROM runs"), "run_id")
        self._updates = _groups(self._rows(queries.internal("lineage_updates")), "run_id")
        self._datasets = _by(
            self._rows("FROM datasets SEMI JOIN _datasets USING (dataset_id)"), "dataset_id"
        )
        self._sampled = _groups(self._rows(queries.internal("lineage_sampled")), "dataset_id")
        self._verified = _groups(self._rows(queries.internal("lineage_verifiers")), "dataset_id")
        self._scored = _groups(self._rows(queries.internal("lineage_scores")), "dataset_id")
        self._met: set[str] = set()

    def policy(self, policy_id: str) -> Record:
        """A policy and what is behind it, or a mention where it was met before."""
        stored = self._policies.get(policy_id)
        if stored is None:
            return {"policy_id": policy_id, "name": None, "registered": False}
        short = {"policy_id": policy_id, "name": stored["name"]}
        if policy_id in self._met:
            return short | {"seen": True}
        self._met.add(policy_id)
        parent = stored["parent_policy_id"]
        return short | {
            "location": stored["location"],
            "revision": stored["revision"],
            "n_parameters": stored["n_parameters"],
            "tokenizer_fingerprint": stored["tokenizer_fingerprint"],
            "update": stored["update"],
            "created_at": _text(stored["created_at"]),
            "run": self._training_run(stored) if stored["run_id"] else None,
            "parent": self.policy(parent) if parent else None,
        }

    def _training_run(self, policy: Mapping[str, Any]) -> Record:
        run_id, until = policy["run_id"], policy["update"]
        taken = [
            row for row in self._updates[run_id] if until is None or row["first_update"] <= until
        ]
        return self._run(run_id) | {
            "updates": sum(
                min(row["last_update"], until or row["last_update"]) - row["first_update"] + 1
                for row in taken
            ),
            "datasets": [self._dataset(row["dataset_id"]) for row in taken],
        }

    def _dataset(self, dataset_id: str) -> Record:
        stored = self._datasets.get(dataset_id, {"name": None, "lock": "{}"})
        lock = json.loads(stored["lock"])
        verifiers = [
            {key: row[key] for key in ("verifier", "verifier_version", "rows", "withdrawn")}
            | {"run": self._run(row["run_id"])}
            for row in self._verified[dataset_id]
        ]
        return {
            "dataset_id": dataset_id,
            "name": stored["name"],
            **{key: lock.get(key) for key in _LOCK_KEYS},
            "generate_runs": [self._generate_run(row) for row in self._sampled[dataset_id]],
            "verifiers": verifiers,
            "score_runs": [
                {key: row[key] for key in ("support", "k", "rows")}
                | {"run": self._run(row["run_id"]), "scorer": self.policy(row["scorer_policy_id"])}
                for row in self._scored[dataset_id]
            ],
        }

    def _generate_run(self, row: Mapping[str, Any]) -> Record:
        shown = ("role", "purpose", "rows", "rollouts", "response_tokens", *_SAMPLING)
        return (
            self._run(row["run_id"])
            | {key: row[key] for key in shown}
            | {"policy": self.policy(row["policy_id"])}
        )

    def _run(self, run_id: str) -> Record:
        stored = self._runs.get(run_id)
        if stored is None:
            return {"run_id": run_id, "recorded": False}
        return {
            "run_id": run_id,
            "kind": stored["kind"],
            "stage": stored["stage"],
            "status": stored["status"],
            "started_at": _text(stored["started_at"]),
            "code_version": stored["code_version"],
            "config": json.loads(stored["config"]),
        }

    def _rows(self, text: str) -> list[Record]:
        relation = self._con.sql(text)
        return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def _by(rows: Sequence[Record], key: str) -> dict[str, Record]:
    return {row[key]: row for row in rows}


def _groups(rows: Sequence[Record], key: str) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return groups


def _text(moment: Any) -> str:
    return f"{moment.isoformat(timespec='seconds')}+00:00"
