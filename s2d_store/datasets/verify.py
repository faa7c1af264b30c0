"""Verify a locked dataset: its lock, its files, and a rebuild from the store agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from queries import Query
from s2d_store.datasets import folders, pinned_sql, reference
from s2d_store.datasets import plan as planning
from s2d_store.datasets.catalog import recorded
from s2d_store.datasets.fingerprint import Fingerprint, of_tables
from s2d_store.datasets.lock_file import dataset_id, folder_of, read_lock, tampered_error
from s2d_store.datasets.parts import described, tables
from s2d_store.datasets.plan import Plan
from s2d_store.errors import DatasetError, StoreError
from s2d_store.storage.backend import parquet_source
from s2d_store.storage.location import Place
from s2d_store.store import Store

# What planning reads besides the query itself.
READS = (
    "updates runs dataset_traits labels_used policy_sources training_runs "
    "policies rollouts topk prompts current_rewards datasets dataset_rows dataset_named "
    "plain_sampling"
)
# What may differ when a dropped dataset is built again; the seal guards these.
_OF_ONE_BUILD = (
    "built_at",
    "code_version",
    "content",
    "definitions",
    "duckdb_version",
    "files",
    "form",
    "format_version",
    "references",
    "seal",
    "sources",
    "versions",
)


@dataclass(frozen=True)
class Rebuilt:
    """What `verify` found: what is locked, what the files hold, and what a fresh rebuild gives.

    In parts these are fingerprints over every byte. By reference, they are the lock's fingerprint,
    that of the light rows beside it, and that of the rebuild's: the bytes of the tokens are those
    that the names of the store's files have the hash of, which was compared; a rebuild that finds
    them elsewhere is another one.

    Attributes:
        locked: what the lock says.
        files: what its files say.
        rebuilt: what the query gives at the pinned versions.
        hint: what else may explain a difference; empty for nothing known.
    """

    locked: str
    files: str
    rebuilt: str
    hint: str = ""

    @property
    def matches(self) -> bool:
        """Whether all three agree."""
        return self.locked == self.files == self.rebuilt


def verify(store: Store, name: str) -> Rebuilt:
    """Rebuild a dataset from the store at its pinned versions and compare fingerprints.

    Raises:
        DatasetError: the lock was edited, or a file of the dataset or of the pinned versions is
            gone or has other bytes.
    """
    lock = read_lock(store, name)
    _check_unchanged(store, lock)
    hint = pinned_sql.version_hint(lock)
    if lock.get("form") == "reference":
        return replace(_verify_reference(store, lock), hint=hint)
    # Reading, hashing and DuckDB all leave the interpreter free.
    with ThreadPoolExecutor(1, thread_name_prefix="hash-files") as pool:
        files = pool.submit(fingerprint_of_files, folder_of(store, name), lock)
        with _missing_files(lock):
            rebuilt = content_of(lock, plan_of(store, lock, lock["versions"]))
        return Rebuilt(locked_content(lock), files.result(), rebuilt, hint)


def _verify_reference(store: Store, lock: Mapping[str, Any]) -> Rebuilt:
    folder, root = folders.local_folder(store, lock["name"]), store.folder
    with ThreadPoolExecutor(1, thread_name_prefix="hash-files") as pool:
        checked = pool.submit(reference.check_files, root, lock)
        with _missing_files(lock):
            made = plan_of(store, lock, lock["versions"])
        checked.result()
    files = fingerprint_of_files(folder, lock)
    rebuilt = str(described(made)["fingerprint"])
    if rebuilt == files and not reference.same_references(folder, lock, made, root):
        rebuilt = f"{rebuilt}, in other places"
    return Rebuilt(lock["fingerprint"], files, rebuilt)


def locked_content(lock: Mapping[str, Any]) -> str:
    """Fingerprint over every byte that the parts of a dataset must have."""
    return str(lock.get("content", lock["fingerprint"]))


def content_of(lock: Mapping[str, Any], made: Plan) -> str:
    """Fingerprint over every byte of a rebuilt plan, in the types that the lock's columns have.

    The formats before stored rewards in 32 bits, and their datasets too.
    """
    types = dict(column.split(": ", 1) for column in lock["columns"])

    def as_locked() -> Iterator[pa.Table]:
        for table in tables(made):
            for index, field in enumerate(table.schema):
                if types.get(field.name) == "float" and pa.types.is_float64(field.type):
                    narrow = table.column(index).cast(pa.float32(), safe=False)
                    table = table.set_column(index, field.name, narrow)
            yield table

    return of_tables(as_locked())


@contextmanager
def _missing_files(lock: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except (StoreError, FileNotFoundError) as error:
        why = error.what if isinstance(error, StoreError) else f"{error.filename} is gone"
        kept = "; the locked files themselves are still there"
        raise DatasetError(
            f"dataset {lock['name']} cannot be rebuilt: files of its pinned versions are missing",
            why,
            "s2d doctor, which says how to repair them, or restore the folder tables/ from a copy"
            + (kept if lock.get("form") != "reference" else ""),
        ) from error


def plan_of(store: Store, lock: Mapping[str, Any], versions: Mapping[str, int]) -> Plan:
    """The lock's query run again at some versions of the tables, over the views that it holds.

    Raises:
        DatasetError: a view is anything but a view, or the rows do not fit.
    """
    query = Query(
        lock["query"], "datasets", "", "", (), (), lock["query_sql"], declared_kind=lock["kind"]
    )
    snap = store.snapshot(versions)
    con = store.connect(snap, text=READS, definitions=pinned_sql.definitions_of(lock))
    values, empty = lock["params"] | {"seed": lock["seed"]}, not lock["counts"]["rows"]
    made = planning.plan_dataset(con, snap, query, values, may_be_empty=empty)
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
    """Fingerprint of the rows that the locked files hold now; by reference, of the light rows.

    Raises:
        DatasetError: one of them cannot be read.
    """
    if lock.get("form") == "reference":
        try:
            return reference.fingerprint_of_rows(folder, lock)
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise _unreadable(lock, reference.ROWS, error) from error
    fingerprint: Fingerprint | None = None
    for file in lock["files"]:
        try:
            with pq.ParquetFile(parquet_source(folder / file["path"])) as part:
                fingerprint = fingerprint or Fingerprint(part.schema_arrow)
                for group in range(part.num_row_groups):
                    fingerprint.update(part.read_row_group(group))
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise _unreadable(lock, file["path"], error) from error
    assert fingerprint is not None, "a lock lists at least one file"
    return fingerprint.hexdigest()


def _unreadable(lock: Mapping[str, Any], path: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"a file of dataset {lock['name']} cannot be read",
        f"{path}: {error}",
        f"s2d dataset restore {lock['name']}",
    )
