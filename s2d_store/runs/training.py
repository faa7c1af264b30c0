"""Training runs in the store: their optimizer updates and the policy they made."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

import queries
from s2d_store import ids
from s2d_store.errors import InputError, NotFoundError
from s2d_store.ids import check_name
from s2d_store.policies import registry
from s2d_store.policies.registry import Registered
from s2d_store.schema import TABLES
from s2d_store.store import Store

COMMIT_EVERY_S = 20.0


def check_student(student: Registered, lock: Mapping[str, Any]) -> None:
    """Refuse a student whose token ids mean something else than the dataset's.

    Raises:
        InputError: the tokenizer fingerprints differ.
    """
    if student.tokenizer_fingerprint != lock["tokenizer_fingerprint"]:
        raise InputError(
            f"student {student.name!r} has another tokenizer than dataset {lock['name']}",
            f"fingerprint {student.tokenizer_fingerprint}; the dataset's rollouts are in tokens of "
            f"{lock['tokenizer_fingerprint']}",
            "train a student that shares the teacher's tokenizer",
        )


def run_id(kind: str, lock: Mapping[str, Any], student: Registered, identity: object) -> str:
    """Identity of a training run: dataset, student and settings."""
    digest = ids.content_id(lock["dataset_id"], student.policy_id, json.dumps(identity))
    return f"train-{kind}-{student.name}-{digest[:8]}"


class UpdateRecorder:
    """Commits optimizer updates to the store as a run goes on, a batch at a time.

    Updates that are stored already add nothing, so a resumed run may report them again.
    """

    def __init__(self, store: Store, run: str, dataset_id: str) -> None:
        """Record for one run on one dataset."""
        self._store, self._run, self._dataset_id = store, run, dataset_id
        self._rows: list[dict[str, Any]] = []
        self._labels: dict[int, tuple[int, int]] | None = None
        self._last = time.monotonic()

    def add(self, record: Mapping[str, Any]) -> None:
        """Take one line of updates.jsonl."""
        self._rows.append(dict(record) | {"run_id": self._run, "dataset_id": self._dataset_id})
        if time.monotonic() - self._last > COMMIT_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Commit what is waiting."""
        if self._rows:
            schema = TABLES["updates"].schema
            rows = [self._counted(row, schema.names) for row in self._rows]
            self._store.commit({"updates": pa.Table.from_pylist(rows, schema=schema)})
        self._rows, self._last = [], time.monotonic()

    def _counted(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """A row of table updates: labels by the dataset's rows, trained tokens all where unsaid."""
        if self._labels is None:
            text = queries.internal("labels_by_update")
            found = self._store.sql(text, {"dataset_id": self._dataset_id}).fetchall()
            self._labels = {update: (labels, visits) for update, labels, visits in found}
        labels, visits = self._labels.get(row["update"], (0, 0))
        counted = {
            "trained_tokens": row["response_tokens"],
            **row,
            "labels": labels,
            "label_visits": visits,
        }
        return {name: counted.get(name) for name in names}

    def __enter__(self) -> UpdateRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.flush()


def require_name(store: Store, name: str, run: str) -> None:
    """Refuse a name that another run's policy has, before training takes its time.

    Raises:
        InputError: names that policy and where it comes from.
    """
    check_name(name, "policy")
    rows = store.sql("SELECT policy_id, run_id FROM policies WHERE name = $name", {"name": name})
    for policy_id, made_by in rows.fetchall():
        if made_by != run:
            raise InputError(
                f"policy name {name!r} is taken",
                f"it is policy {policy_id}, "
                + (f"made by run {made_by}" if made_by else "which no run here made"),
                "train under another --name, into another --output",
            )


def record_output(
    store: Store, output: Path, run: str, lock: Mapping[str, Any], student: Registered, name: str
) -> Registered:
    """Store every update in `output/updates.jsonl` and register `output/final` as a policy.

    Raises:
        NotFoundError: the run in that folder has not finished.
    """
    log = output / "updates.jsonl"
    if not log.is_file() or not (output / "final").is_dir():
        raise NotFoundError(
            f"no finished training run in {output}",
            "it needs updates.jsonl and final/",
            "run the training command again; it continues where it stopped",
        )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    with UpdateRecorder(store, run, lock["dataset_id"]) as recorder:
        for line in lines:
            recorder.add(line)
    # Training is reproducible: the same run into another folder makes a policy that is known.
    return registry.find_or_register(
        store,
        name,
        str(output / "final"),
        parent_policy_id=student.policy_id,
        run_id=run,
        update=lines[-1]["update"] if lines else 0,
    )
