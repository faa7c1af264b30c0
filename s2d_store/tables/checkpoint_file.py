"""Checkpoints of a Delta log: all files of a version in one Parquet file, where readers begin.

delta-rs makes them, for every reader of Delta. They are then written again with a hash of what they
say and checksums of their pages, so that a flipped bit shows, and flushed, which delta-rs does not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from s2d_store.storage import fault_points
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import delta_log, delta_protocol

HINT = "_last_checkpoint"
# Where a checkpoint of s2d keeps the hash of what it says, in Parquet's own metadata.
_HASH = b"s2d.sha256"
_FIELDS = ("path", "size", "modificationTime", "partitionValues", "stats")


@dataclass(frozen=True)
class Hint:
    """What `_last_checkpoint` says.

    Attributes:
        version: of the newest checkpoint; -1 where it is not legible.
        rows: actions that it holds; None where it does not say.
    """

    version: int
    rows: int | None


def path_of(folder: Place, version: int) -> Place:
    """Where the checkpoint of a version lies."""
    return folder / "_delta_log" / f"{version:020d}.checkpoint.parquet"


def hint(folder: Place) -> Hint | None:
    """Where readers begin; None where nothing says so. Power loss can tear it."""
    try:
        data = (folder / "_delta_log" / HINT).read_bytes()
    except FileNotFoundError:
        return None
    try:
        said = json.loads(data)
        version, rows = int(said["version"]), said.get("size")
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return Hint(-1, None)
    return Hint(version, rows if isinstance(rows, int) else None)


def read(folder: Place, version: int, said: Hint | None = None) -> list[dict[str, Any]] | None:
    """The `add` actions of a checkpoint; None where it is not whole.

    Raises:
        StoreError: the table uses what s2d does not.
    """
    import pyarrow.parquet as pq

    try:
        with (
            backend_of(folder).local_copy(path_of(folder, version)) as local,
            pq.ParquetFile(local, page_checksum_verification=True) as file,
        ):
            n_rows = file.metadata.num_rows
            hashed = (file.metadata.metadata or {}).get(_HASH)
            content = _Content.of(version, file.read(columns=["add", "protocol", "metaData"]))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError):
        return None
    if said and said.version == version and said.rows not in (None, n_rows):
        return None
    if hashed is not None and hashed.decode(errors="replace") != content.sha256():
        return None
    for action in content.others:
        delta_protocol.check(folder.name, action)
    # A checkpoint without what was noted of the files would lose it; the commits have it.
    return None if any(not isinstance(add["stats"], str) for add in content.adds) else content.adds


@dataclass(frozen=True)
class _Content:
    """What a checkpoint says, as far as s2d reads it.

    Attributes:
        version: of the table.
        adds: its files, by field.
        others: its `protocol` and `metaData`, and the first `add` that has a deletion vector.
    """

    version: int
    adds: list[dict[str, Any]]
    others: list[dict[str, Any]]

    @classmethod
    def of(cls, version: int, table: pa.Table) -> _Content:
        """Read a checkpoint's table; a ValueError where it lacks what each checkpoint has."""
        adds = table.column("add").drop_null().combine_chunks()
        columns = [adds.field(name).to_pylist() for name in _FIELDS]
        others: list[dict[str, Any]] = []
        for name in ("protocol", "metaData"):
            (row,) = table.column(name).drop_null().to_pylist()
            others.append({name: row})
        vectors = adds.field("deletionVector").drop_null().to_pylist()
        others += [{"add": {"deletionVector": vector}} for vector in vectors[:1]]
        rows = [dict(zip(_FIELDS, values, strict=True)) for values in zip(*columns, strict=True)]
        return cls(version, rows, others)

    def sha256(self) -> str:
        """A hash of all of it."""
        rows = "\n".join("\0".join(map(str, add.values())) for add in self.adds)
        text = f"{self.version}\n{json.dumps(self.others, sort_keys=True, default=str)}\n{rows}"
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def write(folder: Place) -> int:
    """Make a checkpoint of the newest version; returns which that is.

    Raises:
        DeltaError: delta-rs cannot.
        OSError: the log cannot be written.
    """
    import pyarrow.parquet as pq
    from deltalake import DeltaTable

    fault_points.reach("make checkpoint")
    DeltaTable(str(folder)).create_checkpoint()
    _, there = delta_log.listing(folder)
    if not there:
        raise OSError(5, "delta-rs left no checkpoint", str(folder / "_delta_log"))
    version = there[-1]
    fault_points.reach("rewrite checkpoint")
    backend, path = backend_of(folder), path_of(folder, version)
    with backend.local_copy(path) as local:
        table = pq.read_table(local)
    content = _Content.of(version, table.select(["add", "protocol", "metaData"]))
    table = table.replace_schema_metadata({_HASH: content.sha256()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    backend.replace(path, sink.getvalue().to_pybytes())
    said = {"version": version, "size": table.num_rows, "numOfAddFiles": len(content.adds)}
    backend.replace(folder / "_delta_log" / HINT, json.dumps(said).encode())
    return version


def remove(folder: Place, versions: tuple[int, ...]) -> None:
    """Take torn checkpoints away, and the hint with them, so that every reader passes them over.

    Raises:
        OSError: the log cannot be written.
    """
    backend = backend_of(folder)
    backend.remove(folder / "_delta_log" / HINT)
    for version in versions:
        backend.remove(path_of(folder, version))
