"""The data files that a store answers for: those of every table's newest version, those of older
versions that a locked dataset pins, and the parts of the locked datasets. Is one whole?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.errors import S2DError
from s2d_store.storage import content_hash
from s2d_store.storage.backend import backend_of, parquet_source
from s2d_store.storage.location import Place
from s2d_store.store import Store
from s2d_store.tables import rollout_files, table_state
from s2d_store.tables.snapshot import table_path
from s2d_store.tables.table_state import LiveFile

# A flipped bit in a footer's text reaches Python as undecodable.
UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)


@dataclass(frozen=True)
class DataFile:
    """A Parquet file and what was written down about it.

    Attributes:
        path: absolute, or on the object store.
        name: relative to the store's folder.
        table: the table; empty for a part of a locked dataset.
        dataset: the locked dataset that it is a part of; empty for a table's file.
        size: bytes.
        rows: rows.
        digest: hash of its bytes; None where it was written without one.
        partition: values of the table's partition columns.
        noted: what the log says of it; None for a part of a dataset.
        live: as the newest version of its table holds it; None where that does not.
        pinned_by: locked datasets whose pinned versions read it.
    """

    path: Place
    name: str
    table: str
    dataset: str
    size: int
    rows: int
    digest: str | None
    partition: Mapping[str, str] = field(default_factory=dict)
    noted: LiveFile | None = None
    live: LiveFile | None = None
    pinned_by: tuple[str, ...] = ()


def of_table(
    store: Store, name: str, pins: Mapping[str, Mapping[str, int]]
) -> tuple[list[DataFile], list[str]]:
    """A table's files, and what is wrong with its log in words.

    Args:
        store: the store.
        name: the table.
        pins: the versions that each locked dataset pins, by dataset and table.
    """
    wanted: dict[int | None, set[str]] = {None: set()}
    for dataset, versions in pins.items():
        if name in versions:
            wanted.setdefault(versions[name], set()).add(dataset)
    found: dict[str, LiveFile] = {}
    newest: set[str] = set()
    pinned: dict[str, set[str]] = {}
    faults: list[str] = []
    folder = table_path(store.root, name)
    for version, users in wanted.items():
        try:
            files = table_state.read(folder, version).oldest_first()
        except (S2DError, OSError) as error:
            at = "" if version is None else f" at version {version}, pinned by {_names(users)}"
            faults.append(log_fault(name, error, at))
            continue
        for file in files:
            found.setdefault(file.path, file)
            pinned.setdefault(file.path, set()).update(users)
        if version is None:
            newest = {file.path for file in files}
    return [
        DataFile(
            path=folder / path,
            name=f"tables/{name}/{path}",
            table=name,
            dataset="",
            size=file.size,
            rows=file.rows,
            digest=content_hash.hash_in_name(path),
            partition=dict(file.partition_values),
            noted=file,
            live=file if path in newest else None,
            pinned_by=tuple(sorted(pinned[path])),
        )
        for path, file in found.items()
    ], faults


def of_dataset(store: Store, lock: Mapping[str, Any]) -> list[DataFile]:
    """The parts of a locked dataset."""
    folder = store.root / "datasets" / lock["name"]
    return [
        DataFile(
            path=folder / part["path"],
            name=f"datasets/{lock['name']}/{part['path']}",
            table="",
            dataset=lock["name"],
            size=part["bytes"],
            rows=part["rows"],
            digest=part.get("sha256"),
        )
        for part in lock["files"]
    ]


def fault(file: DataFile, *, full: bool) -> str | None:
    """What is wrong with a file, in a few words; None when it is whole.

    Args:
        file: the file.
        full: read it whole and compare its hash; one that was written without is decoded instead,
            which most flipped bits survive. Else look at size and footer alone.
    """
    try:
        size = backend_of(file.path).size(file.path)
        if size != file.size:
            return f"it has {size:,} bytes, {file.size:,} were written"
        hashed = full and file.digest is not None
        if hashed and content_hash.hash_of(file.path) != file.digest:
            return "its bytes are not those that were written"
        with pq.ParquetFile(parquet_source(file.path)) as parquet:
            rows = parquet.metadata.num_rows
            if rows != file.rows and (file.noted is None or "numRecords" in file.noted.statistics):
                return f"it has {rows:,} rows, {file.rows:,} were written"
            if file.noted is not None:
                outside = _outside_bounds(file.noted, parquet.metadata)
                if outside is not None:
                    return f"its {outside} lies outside of the bounds that the log notes"
                missed = _missed_id(file.noted, parquet) if full else None
                if missed is not None:
                    return f"the log's note of its ids lacks rollout {missed}"
            for group in range(parquet.num_row_groups if full and not hashed else 0):
                parquet.read_row_group(group).validate(full=True)
    except FileNotFoundError:
        return "it is missing"
    except UNREADABLE as error:
        return f"it cannot be read: {line(error)}"
    return None


def _outside_bounds(noted: LiveFile, metadata: pq.FileMetaData) -> str | None:
    """A key column whose values go beyond what the log notes: look-ups would miss them."""
    for i in range(metadata.num_columns):
        column = metadata.schema.column(i).path
        low, high = noted.bounds(column)
        for group in range(metadata.num_row_groups):
            found = metadata.row_group(group).column(i).statistics
            if found is None or not found.has_min_max:
                continue
            if isinstance(low, type(found.min)) and found.min < low:
                return str(column)
            if isinstance(high, type(found.max)) and found.max > high:
                return str(column)
    return None


def _missed_id(noted: LiveFile, file: pq.ParquetFile) -> str | None:
    """A rollout of a file that a look-up by id would miss."""
    if not noted.rollout_ids:
        return None
    ids = file.read(columns=[rollout_files.COLUMN]).column(0).to_pylist()
    return rollout_files.unnoted(noted.rollout_ids, ids)


def read_decodable_columns(path: Place, columns: Sequence[str]) -> pa.Table:
    """Those of a damaged file's columns that can still be decoded; a value may be wrong."""
    found: dict[str, pa.ChunkedArray] = {}
    for name in columns:
        try:
            with pq.ParquetFile(parquet_source(path)) as file:
                column = file.read(columns=[name]).column(name)
                column.validate(full=True)
        except (*UNREADABLE, KeyError):
            continue
        found[name] = column
    return pa.table(found)


def log_fault(table: str, error: BaseException, at: str = "") -> str:
    """What is wrong with a table's log, and what to do, in one line."""
    if isinstance(error, S2DError):
        return f"{error.what}{at}: {error.why}; repair: {error.fix}"
    return (
        f"the log of table {table} cannot be read{at}: {line(error)}; "
        f"repair: restore tables/{table}/_delta_log from a copy"
    )


def line(error: BaseException) -> str:
    """The first line of an error's text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _names(users: set[str]) -> str:
    return ", ".join(sorted(users))
