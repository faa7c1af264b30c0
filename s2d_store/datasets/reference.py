"""A lock by reference: light rows, and in which row of which file of the store their tokens lie.

The files of pinned versions never change, carry the hash of their bytes in their names, and stay
until no lock pins them (`s2d vacuum`), so naming a row of one is as good as a copy of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2d_store.datasets.fingerprint import of_light_rows
from s2d_store.datasets.parts import described, file_entry
from s2d_store.datasets.plan import Plan
from s2d_store.errors import DatasetError
from s2d_store.storage.backend import parquet_source
from s2d_store.storage.checked_parquet import footer_hash
from s2d_store.storage.content_hash import hash_in_name, hash_of
from s2d_store.storage.location import Place
from s2d_store.tables import parquet_writer, rank_tables

ROWS = "rows.parquet"
# A trainer reads the rows of one update at a time.
GROUP_ROWS = 1 << 14
READERS = 4


def is_possible(made: Plan) -> bool:
    """Whether rows can be named where they lie: their files carry the hash of their bytes."""
    used = {
        made.files[origin.table][i]
        for origin in made.origins
        for i in pc.unique(made.rows.column(f"{origin.prefix}_file")).to_pylist()
    }
    return all(hash_in_name(file) for file in used)


def write_reference(folder: Path, made: Plan, root: Path) -> dict[str, Any]:
    """Write `rows.parquet`; returns the lock's form, files, sources and what `described` gives.

    Args:
        folder: the dataset's draft.
        made: its plan.
        root: the store's folder, which the lock's paths start at.
    """
    rows, sources = references(made, root)
    path = folder / ROWS
    groups = [rows.slice(first, GROUP_ROWS) for first in range(0, rows.num_rows, GROUP_ROWS)]
    size = parquet_writer.write(path, groups, rows.schema)
    entry = file_entry(path, rows.num_rows, size)
    return {**described(made), "form": "reference", "files": [entry], "sources": sources}


def references(made: Plan, root: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The light rows of a plan with where their tokens lie, and the files that these count."""
    columns = [*made.light_columns, "prompt_tokens", "response_tokens"]
    rows = {name: made.rows.column(name) for name in columns}
    sources: dict[str, Any] = {}
    for origin in made.origins:
        file = made.rows.column(f"{origin.prefix}_file").to_numpy()
        used, index = np.unique(file, return_inverse=True)
        rows[f"{origin.prefix}_file"] = pa.array(index.astype(np.int32))
        rows[f"{origin.prefix}_position"] = made.rows.column(f"{origin.prefix}_position").cast(
            pa.int64()
        )
        files = [made.files[origin.table][i] for i in used.tolist()]
        sources[origin.prefix] = {
            "table": origin.table,
            "columns": dict(origin.columns),
            "files": _within(root, files),
            "footers": [footer_hash(Path(file)) for file in files],
        }
        if origin.table == "topk":
            sources[origin.prefix]["ranks"] = _within(root, made.files[rank_tables.NAME])
    return pa.table(rows), sources


def _within(root: Path, files: Sequence[str]) -> list[str]:
    return [os.path.relpath(file, os.path.realpath(root)) for file in files]


def fingerprint_of_rows(folder: Place, lock: Mapping[str, Any]) -> str:
    """Fingerprint of the light rows that a lock's `rows.parquet` holds now."""
    rows = pq.read_table(parquet_source(folder / ROWS))
    return of_light_rows(rows.drop_columns(_places(lock)), lock["columns"])


def same_references(folder: Path, lock: Mapping[str, Any], made: Plan, root: Path) -> bool:
    """Whether a plan finds every row where the lock says that it lies."""
    rows, sources = references(made, root)
    # Locks from before lack the hashes of footers.
    for prefix, source in sources.items():
        if "footers" not in lock["sources"].get(prefix, {}):
            del source["footers"]
    if sources != lock["sources"]:
        return False
    held = pq.read_table(folder / ROWS)
    return bool(held.schema.equals(rows.schema)) and all(
        pc.all(pc.equal(held.column(name), rows.column(name)), min_count=0).as_py()
        for name in _places(lock)
    )


def _places(lock: Mapping[str, Any]) -> list[str]:
    return [f"{prefix}_{what}" for prefix in lock["sources"] for what in ("file", "position")]


def check_files(root: Path, lock: Mapping[str, Any]) -> None:
    """Read every file that a lock names, and compare its bytes with the hash in its name.

    Raises:
        DatasetError: one is missing, or has other bytes.
    """
    files = sorted(
        {
            file
            for source in lock["sources"].values()
            for file in (*source["files"], *source.get("ranks", ()))
        }
    )
    with ThreadPoolExecutor(READERS, thread_name_prefix="hash-files") as pool:
        for file, fault in zip(files, pool.map(lambda f: _fault(root / f), files), strict=True):
            if fault:
                raise DatasetError(
                    f"a file that dataset {lock['name']} reads is damaged",
                    f"{file}: {fault}",
                    f"s2d doctor, which says how to repair it; then s2d dataset restore "
                    f"{lock['name']}",
                )


def _fault(path: Path) -> str:
    try:
        if hash_in_name(path) not in (None, hash_of(path)):
            return "its bytes are not those that were written"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return ""
