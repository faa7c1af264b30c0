"""Verify a locked dataset: its lock, its files, and a rebuild from the store agree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from queries import Query
from s2d_store.datasets import plan as planning
from s2d_store.datasets.catalog import recorded
from s2d_store.datasets.fingerprint import Fingerprint
from s2d_store.datasets.lock_file import dataset_id, folder_of, read_lock, tampered_error
from s2d_store.datasets.parts import fingerprint_of
from s2d_store.datasets.plan import Plan
from s2d_store.errors import DatasetError, StoreError
from s2d_store.storage.backend import parquet_source
from s2d_store.storage.location import Place
from s2d_store.store import Store

# What may differ when a dropped dataset is built again; the seal guards these.
_OF_ONE_BUILD = ("built_at", "code_version", "files", "seal", "versions")


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


def verify(store: Store, name: str) -> Rebuilt:
    """Rebuild a dataset from the store at its pinned versions and compare fingerprints.

    Raises:
        DatasetError: the lock was edited, or a file of the dataset or of the pinned versions is
            gone.
    """
    lock = read_lock(store, name)
    _check_unchanged(store, lock)
    # Reading, hashing and DuckDB all leave the interpreter free.
    with ThreadPoolExecutor(1, thread_name_prefix="hash-files") as pool:
        files = pool.submit(fingerprint_of_files, folder_of(store, name), lock)
        rebuilt = _rebuild(store, lock)
        return Rebuilt(lock["fingerprint"], files.result(), rebuilt)


def _rebuild(store: Store, lock: Mapping[str, Any]) -> str:
    """Fingerprint of the lock's query run again at its pinned versions."""
    try:
        return fingerprint_of(plan_of(store, lock, lock["versions"]))
    except (StoreError, FileNotFoundError) as error:
        why = error.what if isinstance(error, StoreError) else f"{error.filename} is gone"
        raise DatasetError(
            f"dataset {lock['name']} cannot be rebuilt: files of its pinned versions are missing",
            why,
            "s2d doctor, which says how to repair them, or restore the folder tables/ from a copy; "
            "the locked files themselves are still there",
        ) from error


def plan_of(store: Store, lock: Mapping[str, Any], versions: Mapping[str, int]) -> Plan:
    """The lock's query run again at some versions of the tables."""
    query = Query(
        lock["query"], "datasets", "", "", (), (), lock["query_sql"], declared_kind=lock["kind"]
    )
    snap, con = store.snapshot(versions), store.connect(versions)
    made = planning.plan_dataset(con, snap, query, lock["params"] | {"seed": lock["seed"]})
    return replace(made, rows=_as_recorded(made.rows, lock["columns"]))


def _as_recorded(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Rows with the float types that the lock records: format 2 had rewards in single precision."""
    types = dict(column.split(": ", 1) for column in columns)
    for name in rows.column_names:
        if types.get(name) == "float" and rows.schema.field(name).type == pa.float64():
            at = rows.column_names.index(name)
            rows = rows.set_column(at, name, rows.column(name).cast(pa.float32()))
    return rows


def _check_unchanged(store: Store, lock: Mapping[str, Any]) -> None:
    """Compare the lock with its own id, and with what the store recorded when it was written."""
    try:
        identity = dataset_id(lock)
    except KeyError as error:
        raise tampered_error(lock, f"it lacks {error}") from error
    if lock.get("dataset_id") != identity:
        raise tampered_error(lock, f"its id {lock.get('dataset_id')} should be {identity}")
    for text in recorded(store, identity):
        before = json.loads(text)
        keys = sorted(
            key
            for key in (before.keys() | lock.keys()) - set(_OF_ONE_BUILD)
            if before.get(key) != lock.get(key)
        )
        if keys:
            raise tampered_error(lock, f"the store recorded another {', '.join(keys)}")


def fingerprint_of_files(folder: Place, lock: Mapping[str, Any]) -> str:
    """Fingerprint of the rows that the locked files hold now.

    Raises:
        DatasetError: one of them cannot be read.
    """
    fingerprint: Fingerprint | None = None
    for file in lock["files"]:
        try:
            with pq.ParquetFile(parquet_source(folder / file["path"])) as part:
                fingerprint = fingerprint or Fingerprint(part.schema_arrow)
                for group in range(part.num_row_groups):
                    fingerprint.update(part.read_row_group(group))
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise DatasetError(
                f"a file of dataset {lock['name']} cannot be read",
                f"{file['path']}: {error}",
                f"s2d dataset restore {lock['name']}",
            ) from error
    assert fingerprint is not None, "a lock lists at least one file"
    return fingerprint.hexdigest()
