"""Build a locked dataset: query a pinned snapshot, name or copy the tokens, write the lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from queries import Query
from s2d_store.accounting import charges
from s2d_store.accounting.guard import Guard
from s2d_store.datasets import (
    catalog,
    control_match,
    folders,
    labels_spent,
    pinned_sql,
    reference,
    teacher_routes,
)
from s2d_store.datasets import plan as planning
from s2d_store.datasets.dataset_lock import FORMAT_VERSION
from s2d_store.datasets.labels_spent import Spent
from s2d_store.datasets.lock_file import dataset_id, folder_of, read_lock, with_checksum
from s2d_store.datasets.parts import write_parts
from s2d_store.datasets.plan import Plan
from s2d_store.datasets.purpose_check import check_purpose
from s2d_store.datasets.sampling_check import check_sampling
from s2d_store.datasets.verify import READS, Rebuilt, plan_of, verify
from s2d_store.errors import DatasetError
from s2d_store.runs import record
from s2d_store.sql import parameters as query_params
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.store import Store

__all__ = ["Rebuilt", "build", "dataset_id", "drop", "materialise", "read_lock", "verify"]


def build(
    store: Store,
    name: str,
    query: Query,
    given: Mapping[str, str],
    seed: int = 0,
    budget: str = "",
    copy_rows: bool = False,
    spill: Path | None = None,
    may_be_empty: bool = False,
) -> dict[str, Any]:
    """Build and lock `datasets/NAME`; returns the lock.

    Building the same thing again changes nothing. The lock names where the rows' tokens lie in the
    store, which copies none of them; on an object store, whose trainers read a local copy, and
    where files have no hash in their names, they are copied in any case.

    Args:
        store: the store.
        name: folder under datasets/, and the name that trainers take.
        query: a dataset query.
        given: its parameters as text.
        seed: enters the query as `$seed`, for its order.
        budget: budget file; empty takes the store's own budget.toml, if any.
        copy_rows: copy the rows' tokens to parts in training order.
        spill: folder for rows that wait for their place in the parts; None: under the store.
        may_be_empty: lock a dataset without rows where the query selects none, as where no group of
            a GRPO round has rewards that differ; refused otherwise.

    Raises:
        DatasetError: the query's rows do not fit, or NAME holds another dataset.
        InputError: a name or parameters that do not fit.
        BudgetError: training on it would go over what is left.
        StoreError: another process builds NAME, or the disk is full, or has too little room.
    """
    folder_of(store, name)
    snap = store.snapshot()
    definitions = pinned_sql.reached_by(query.sql)
    con = store.connect(snap, text=READS, definitions=definitions)
    values = control_match.follow(con, query, query_params.resolve(query, given, con))
    routed = teacher_routes.routed(con, query, values, definitions)
    if routed:
        definitions |= routed
        con = store.connect(snap, text=READS, definitions=definitions)
    made = planning.plan_dataset(
        con, snap, query, values | {"seed": seed}, may_be_empty=may_be_empty
    )
    check_purpose(con, query, values, made.rows)
    check_sampling(con, query, values, made.rows)
    labels = labels_spent.find(con, query, values | {"seed": seed}, definitions, made)
    control_match.check_labels(con, query, values, labels.prompts)
    if not folders.is_there(store, name):
        charges.before_building(
            Guard.open(store, budget),
            name,
            query.kind,
            made.rows,
            labels.prompts,
            labels_spent.labelled_rows(labels.as_locked(), made.rows),
        )
    # Names are at most 100 letters; two that share their first 92 only wait for each other.
    held = store.run_lock(f"dataset-{name}"[:100])
    with (
        held,
        folders.draft(store, name) as draft,
        disk_errors(store.root),
        store.backend.register_writer(store.root),
    ):
        draft.mkdir(parents=True, exist_ok=True)
        lock = _describe(name, query, values, seed, dict(snap.versions), made, labels)
        lock |= {"definitions": definitions, "duckdb_version": duckdb.__version__}
        if (
            store.backend.local_path(store.root) is not None
            and reference.is_possible(made)
            and not (copy_rows and made.rows.num_rows)
        ):
            lock |= reference.write_reference(draft, made, store.folder)
        else:
            lock |= write_parts(draft, made, folders.spill(store, spill))
        lock["dataset_id"] = dataset_id(lock)
        lock = with_checksum(lock)
        folders.write_lock(draft, lock)
        same = _existing(store, lock)
        _check_facts(store, lock)
        if not same:
            folders.publish(store, name, draft)
        catalog.record(store, same or lock, made.rows)
    return same or lock


def _describe(
    name: str,
    query: Query,
    values: Mapping[str, Any],
    seed: int,
    versions: dict[str, int],
    made: Plan,
    labels: Spent,
) -> dict[str, Any]:
    rows = made.rows
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "kind": query.kind,
        "traits": query.traits.traits(),
        "query": query.name,
        "query_sql": query.sql,
        "params": dict(values),
        "seed": seed,
        "versions": versions,
        "tokenizer_fingerprint": made.tokenizer_fingerprint,
        "scorers": _policies(rows, "scorer_policy_id") if made.has_topk else [],
        "references": _policies(rows, "ref_policy_id"),
        "counts": {
            "rows": rows.num_rows,
            "updates": pc.max(rows.column("update")).as_py() or 0,
            "prompt_tokens": pc.sum(rows.column("prompt_tokens"), min_count=0).as_py(),
            "response_tokens": pc.sum(rows.column("response_tokens"), min_count=0).as_py(),
            "labels": len(labels.prompts),
        },
        **labels.as_locked(),
        "code_version": record.code_version(),
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _policies(rows: pa.Table, column: str) -> list[str]:
    """The policies that a column names; none where the rows lack it."""
    return sorted(pc.unique(rows.column(column)).to_pylist()) if column in rows.column_names else []


def _existing(store: Store, lock: Mapping[str, Any]) -> dict[str, Any] | None:
    if not folders.is_there(store, lock["name"]):
        return None
    old = read_lock(store, lock["name"])
    if old.get("dataset_id") == lock["dataset_id"]:
        return old
    raise DatasetError(
        f"dataset {lock['name']} exists already and differs",
        f"its fingerprint is {old['fingerprint']}, this one's {lock['fingerprint']}; "
        "a locked dataset never changes",
        f"choose another name, or s2d dataset drop {lock['name']}",
    )


def _check_facts(store: Store, lock: Mapping[str, Any]) -> None:
    """Refuse a dataset whose rollouts were lost and made again, otherwise, since it was recorded.

    Of copied rows every byte is compared; else only when the rollouts were made.
    """
    for text in catalog.recorded(store, lock["dataset_id"]):
        before = json.loads(text)
        known = "content" if {"content"} <= before.keys() & lock.keys() else "facts"
        if before.get(known, lock[known]) != lock[known]:
            raise DatasetError(
                f"dataset {lock['name']} was recorded with the same rows and other tokens",
                "rollouts or scores of it were lost since and made again, under the same ids",
                "choose another name",
            )


def drop(store: Store, name: str) -> None:
    """Delete a dataset's files; the record of what it was stays in the store's tables.

    Raises:
        NotFoundError: there is none of that name.
    """
    if not (folder_of(store, name) / "lock.json").exists():
        read_lock(store, name)
    folders.remove(store, name)


def materialise(store: Store, name: str, spill: Path | None = None) -> dict[str, Any]:
    """Copy the tokens that a lock by reference names to parts beside it; returns the new lock.

    The dataset stays the same, by id and fingerprint; one that has parts stays as it is.

    Args:
        store: the store.
        name: a dataset of it.
        spill: folder for rows that wait for their place in the parts; None: under the store.

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: its lock was changed, or its rows are not where the lock says.
        StoreError: the disk has too little room; another process works on the dataset.
    """
    with store.run_lock(f"dataset-{name}"[:100]), store.backend.register_writer(store.root):
        lock = read_lock(store, name)
        if lock.get("form", "parts") != "reference":
            return lock
        made = plan_of(store, lock, lock["versions"])
        folder = folders.local_folder(store, name)
        if not reference.same_references(folder, lock, made, store.folder):
            raise DatasetError(
                f"dataset {name} is not what its lock says",
                "the query gives other rows, or finds them elsewhere",
                f"s2d dataset verify {name}",
            )
        with folders.draft(store, name) as draft, disk_errors(store.root):
            draft.mkdir(parents=True, exist_ok=True)
            kept = {key: value for key, value in lock.items() if key != "sources"}
            new = with_checksum(kept | write_parts(draft, made, folders.spill(store, spill)))
            folders.write_lock(draft, new)
            folders.publish(store, name, draft)
        return new
