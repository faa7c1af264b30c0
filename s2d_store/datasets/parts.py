"""The rows of a planned dataset, streamed to Parquet parts in training order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store.datasets import plan as planning
from s2d_store.datasets.fingerprint import Fingerprint
from s2d_store.datasets.plan import Plan
from s2d_store.storage.content_hash import hash_of
from s2d_store.tables import parquet_writer
from s2d_store.tables.fetch_rows import fetch_rows

FILE_BYTES = 256 << 20
WRITERS = 3
LEAD = ("row", "update", "rollout_id", "prompt_id")


def tables(made: Plan) -> Iterator[pa.Table]:
    """The dataset's rows in training order, a bucket at a time."""
    tokens = made.rows.column("response_tokens").to_numpy().astype(np.int64)
    row_bytes = made.rows.column("prompt_tokens").to_numpy().astype(np.int64) * 4 + tokens * 8
    if made.has_topk:
        row_bytes += tokens * (made.rows.column("k").to_numpy().astype(np.int64) * 8 + 4)
    light_columns = [*LEAD, *(c for c in made.columns if c not in LEAD)]
    for start, heavy in fetch_rows(planning.sources(made), row_bytes):
        light = made.rows.slice(start, heavy.num_rows)
        columns = {name: light.column(name) for name in light_columns}
        columns |= {name: heavy.column(name) for name in heavy.column_names}
        yield pa.table(columns)


def write_parts(folder: Path, made: Plan) -> dict[str, Any]:
    """Write `part-NNNNN.parquet` files; returns the lock's fingerprint, files and columns."""
    files: list[dict[str, Any]] = []
    fingerprint: Fingerprint | None = None
    # Hashing and writing leave the interpreter free, so a bucket's parts and its hash go side by
    # side; the next bucket waits, so that no more than one is in memory.
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="write-parts") as pool:
        for table in tables(made):
            fingerprint = fingerprint or Fingerprint(table.schema)
            hashed = pool.submit(fingerprint.update, table)
            parts = [(f"part-{len(files) + i:05d}.parquet", p) for i, p in enumerate(_parts(table))]
            written = [pool.submit(_write, folder / name, part) for name, part in parts]
            files += [entry.result() for entry in written]
            hashed.result()
    assert fingerprint is not None, "a plan has rows"
    columns = [f"{field.name}: {field.type}" for field in fingerprint.schema]
    return {"fingerprint": fingerprint.hexdigest(), "files": files, "columns": columns}


def _write(path: Path, part: pa.Table) -> dict[str, Any]:
    """Write one part; returns its entry in the lock."""
    size = parquet_writer.write(path, [part], part.schema)
    return {"path": path.name, "rows": part.num_rows, "bytes": size, "sha256": hash_of(path)}


def _parts(table: pa.Table) -> list[pa.Table]:
    """The table cut into files of about equal size, at most FILE_BYTES in memory each."""
    n = min(table.num_rows, -(-table.nbytes // FILE_BYTES))
    cuts = [table.num_rows * i // n for i in range(n + 1)]
    return [table.slice(start, end - start) for start, end in pairwise(cuts)]


def fingerprint_of(made: Plan) -> str:
    """Fingerprint of a planned dataset, without writing it."""
    fingerprint: Fingerprint | None = None
    for table in tables(made):
        fingerprint = fingerprint or Fingerprint(table.schema)
        fingerprint.update(table)
    assert fingerprint is not None, "a plan has rows"
    return fingerprint.hexdigest()
