"""Build a locked dataset: query a pinned snapshot, stream the rows to Parquet, write the lock."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from queries import Query
from s2d_store import params as query_params
from s2d_store import parquet, runs
from s2d_store.datasets import plan as planning
from s2d_store.datasets.fingerprint import Fingerprint
from s2d_store.datasets.gather import gather
from s2d_store.datasets.plan import Plan
from s2d_store.errors import DatasetError, NotFoundError
from s2d_store.ids import check_name, content_id
from s2d_store.schema import FORMAT_VERSION
from s2d_store.store import Store, writing

FILE_BYTES = 512 << 20


@dataclass(frozen=True)
class Rebuilt:
    """What `verify` found: the lock's fingerprint, that of its files, and of a fresh rebuild."""

    locked: str
    files: str
    rebuilt: str

    @property
    def matches(self) -> bool:
        """Whether all three agree."""
        return self.locked == self.files == self.rebuilt


def build(
    store: Store, name: str, query: Query, given: Mapping[str, str], seed: int = 0
) -> dict[str, Any]:
    """Build and lock `datasets/NAME`; gives the lock.

    Building the same thing again changes nothing.

    Args:
        store: the store.
        name: folder under datasets/, and the name that trainers take.
        query: a dataset query.
        given: its parameters as text.
        seed: enters the query as `$seed`, for its order.

    Raises:
        DatasetError: the query's rows do not fit, or NAME holds another dataset.
        InputError: parameters that do not fit.
    """
    check_name(name, "dataset")
    target = store.root / "datasets" / name
    snap = store.snapshot()
    con = store.connect(snap.versions)
    values = query_params.resolve(query, given, con)
    made = planning.make(con, snap, query, values | {"seed": seed})
    draft = store.root / "datasets" / f".{name}.{uuid.uuid4().hex}.draft"
    try:
        with writing(store.root):
            draft.mkdir(parents=True)
            lock = _describe(name, query, values, seed, dict(snap.versions), made)
            lock |= _write_rows(draft, made)
            lock["dataset_id"] = dataset_id(lock)
            (draft / "lock.json").write_text(json.dumps(lock, indent=2) + "\n")
            same = _existing(target, lock)
            if not same:
                os.rename(draft, target)
        _record(store, same or lock, made)
        return same or lock
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def dataset_id(lock: Mapping[str, Any]) -> str:
    """Identity of a dataset: what it was asked to be, and what it turned out to be."""
    return content_id(
        "dataset", *(lock[k] for k in ("name", "query_sql", "params", "seed", "fingerprint"))
    )


def read_lock(store: Store, name: str) -> dict[str, Any]:
    """The lock of a dataset.

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: the lock is not readable JSON.
    """
    folder = store.root / "datasets"
    path = folder / name / "lock.json"
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError) as error:
        built = sorted(p.parent.name for p in folder.glob("[!.]*/lock.json"))
        raise NotFoundError(
            f"no dataset {name!r} in this store",
            f"built: {', '.join(built) or 'none'}",
            f"s2d dataset build {name} --query warmup --param teacher=NAME",
        ) from error
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"the lock of dataset {name} is not readable",
            str(error),
            "restore datasets/{name}/lock.json from a copy, or build under another name",
        ) from error


def verify(store: Store, name: str) -> Rebuilt:
    """Rebuild a dataset from the store at its pinned versions and compare fingerprints.

    Raises:
        DatasetError: the lock was edited, so that it no longer matches its own id.
    """
    lock = read_lock(store, name)
    if lock.get("dataset_id") != dataset_id(lock):
        raise DatasetError(
            f"the lock of dataset {name} was changed after it was written",
            f"its id {lock.get('dataset_id')} should be {dataset_id(lock)}",
            "restore the lock from a copy, or build under another name",
        )
    files = Fingerprint(_schema_of(store.root / "datasets" / name, lock))
    for file in lock["files"]:
        with pq.ParquetFile(store.root / "datasets" / name / file["path"]) as parquet_file:
            for batch in parquet_file.iter_batches():
                files.update(pa.Table.from_batches([batch]))
    snap = store.snapshot(lock["versions"])
    con = store.connect(lock["versions"])
    query = Query(lock["query"], "datasets", "", "", (), (), lock["query_sql"])
    made = planning.make(con, snap, query, lock["params"] | {"seed": lock["seed"]})
    rebuilt: Fingerprint | None = None
    for table in _tables(made):
        rebuilt = rebuilt or Fingerprint(table.schema)
        rebuilt.update(table)
    assert rebuilt is not None, "a plan has at least one row"
    return Rebuilt(lock["fingerprint"], files.hexdigest(), rebuilt.hexdigest())


def _schema_of(folder: Path, lock: Mapping[str, Any]) -> pa.Schema:
    try:
        return pq.read_schema(folder / lock["files"][0]["path"])
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(
            f"a file of dataset {lock['name']} cannot be read",
            str(error),
            f"s2d dataset drop {lock['name']}, then build it again",
        ) from error


def _describe(
    name: str,
    query: Query,
    values: Mapping[str, Any],
    seed: int,
    versions: dict[str, int],
    made: Plan,
) -> dict[str, Any]:
    rows = made.rows
    labels = 0
    if "labelled" in made.columns:
        labels = len(rows.filter(rows.column("labelled")).column("prompt_id").unique())
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "kind": query.name,
        "query": query.name,
        "query_sql": query.sql,
        "params": dict(values),
        "seed": seed,
        "versions": versions,
        "tokenizer_fingerprint": rows.column("tokenizer_fingerprint")[0].as_py(),
        "counts": {
            "rows": rows.num_rows,
            "updates": pc.max(rows.column("update")).as_py(),
            "prompt_tokens": pc.sum(rows.column("prompt_tokens")).as_py(),
            "response_tokens": pc.sum(rows.column("response_tokens")).as_py(),
            "labels": labels,
        },
        "code_version": runs.code_version(),
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _tables(made: Plan) -> Iterator[pa.Table]:
    """The dataset's rows in training order, a bucket at a time."""
    tokens = made.rows.column("response_tokens").to_numpy().astype(np.int64)
    row_bytes = made.rows.column("prompt_tokens").to_numpy().astype(np.int64) * 4 + tokens * 8
    if made.has_topk:
        row_bytes += tokens * (made.rows.column("k").to_numpy().astype(np.int64) * 8 + 4)
    lead = ["row", "update", "rollout_id", "prompt_id"]
    rest = [c for c in made.columns if c not in lead]
    for start, heavy in gather(planning.sources(made), row_bytes):
        light = made.rows.slice(start, heavy.num_rows)
        columns = {name: light.column(name) for name in lead + rest}
        columns |= {name: heavy.column(name) for name in heavy.column_names}
        yield pa.table(columns)


def _write_rows(folder: Path, made: Plan) -> dict[str, Any]:
    fingerprint: Fingerprint | None = None
    files: list[dict[str, Any]] = []
    pending: list[pa.Table] = []

    def flush() -> None:
        path = folder / f"part-{len(files):05d}.parquet"
        size = parquet.write(path, pending, pending[0].schema)
        rows = sum(table.num_rows for table in pending)
        files.append({"path": path.name, "rows": rows, "bytes": size})
        pending.clear()

    for table in _tables(made):
        fingerprint = fingerprint or Fingerprint(table.schema)
        fingerprint.update(table)
        pending.append(table)
        if sum(t.nbytes for t in pending) >= FILE_BYTES:
            flush()
    if pending:
        flush()
    assert fingerprint is not None, "a plan has at least one row"
    columns = [f"{field.name}: {field.type}" for field in fingerprint.schema]
    return {"fingerprint": fingerprint.hexdigest(), "files": files, "columns": columns}


def _existing(target: Path, lock: Mapping[str, Any]) -> dict[str, Any] | None:
    if not target.exists():
        return None
    old = dict(json.loads((target / "lock.json").read_text()))
    if old["dataset_id"] == lock["dataset_id"]:
        return old
    raise DatasetError(
        f"dataset {lock['name']} exists already and differs",
        f"its fingerprint is {old['fingerprint']}, this one's {lock['fingerprint']}; "
        "a locked dataset never changes",
        f"choose another name, or s2d dataset drop {lock['name']}",
    )


def _record(store: Store, lock: Mapping[str, Any], made: Plan) -> None:
    rows, n = made.rows, made.rows.num_rows
    labelled = (
        rows.column("labelled") if "labelled" in made.columns else pa.array([False] * n, pa.bool_())
    )
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
                    "dataset_id": pa.array([lock["dataset_id"]] * n),
                    "row": rows.column("row"),
                    "update": rows.column("update"),
                    "rollout_id": rows.column("rollout_id"),
                    "prompt_id": rows.column("prompt_id"),
                    "labelled": labelled,
                }
            ),
        }
    )


def drop(store: Store, name: str) -> None:
    """Delete a dataset's files; the record of what it was stays in the store's tables."""
    read_lock(store, name)
    shutil.rmtree(store.root / "datasets" / name)
