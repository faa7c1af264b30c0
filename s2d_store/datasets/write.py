"""The rows of a planned dataset, streamed to Parquet parts in training order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store import parquet
from s2d_store.datasets import plan as planning
from s2d_store.datasets.fingerprint import Fingerprint
from s2d_store.datasets.gather import gather
from s2d_store.datasets.plan import Plan

FILE_BYTES = 512 << 20
LEAD = ("row", "update", "rollout_id", "prompt_id")


def tables(made: Plan) -> Iterator[pa.Table]:
    """The dataset's rows in training order, a bucket at a time."""
    tokens = made.rows.column("response_tokens").to_numpy().astype(np.int64)
    row_bytes = made.rows.column("prompt_tokens").to_numpy().astype(np.int64) * 4 + tokens * 8
    if made.has_topk:
        row_bytes += tokens * (made.rows.column("k").to_numpy().astype(np.int64) * 8 + 4)
    light_columns = [*LEAD, *(c for c in made.columns if c not in LEAD)]
    for start, heavy in gather(planning.sources(made), row_bytes):
        light = made.rows.slice(start, heavy.num_rows)
        columns = {name: light.column(name) for name in light_columns}
        columns |= {name: heavy.column(name) for name in heavy.column_names}
        yield pa.table(columns)


def write_parts(folder: Path, made: Plan) -> dict[str, Any]:
    """Write `part-NNNNN.parquet` files; gives the lock's fingerprint, files and columns."""
    rows = tables(made)
    first = next(rows)
    fingerprint = Fingerprint(first.schema)
    files: list[dict[str, Any]] = []
    waiting: pa.Table | None = first
    # Hashing and writing both leave the interpreter free, so they run side by side.
    with ThreadPoolExecutor(1, thread_name_prefix="fingerprint") as pool:

        def part() -> Iterator[pa.Table]:
            """Tables of one file, each hashed while it is written."""
            nonlocal waiting
            size = 0
            while waiting is not None and size < FILE_BYTES:
                table, size = waiting, size + waiting.nbytes
                files[-1]["rows"] += table.num_rows
                hashed = pool.submit(fingerprint.update, table)
                yield table
                hashed.result()
                waiting = next(rows, None)

        while waiting is not None:
            name = f"part-{len(files):05d}.parquet"
            files.append({"path": name, "rows": 0, "bytes": 0})
            files[-1]["bytes"] = parquet.write(folder / name, part(), first.schema)
    columns = [f"{field.name}: {field.type}" for field in first.schema]
    return {"fingerprint": fingerprint.hexdigest(), "files": files, "columns": columns}


def fingerprint_of(made: Plan) -> str:
    """Fingerprint of a planned dataset, without writing it."""
    rows = tables(made)
    first = next(rows)
    fingerprint = Fingerprint(first.schema)
    fingerprint.update(first)
    for table in rows:
        fingerprint.update(table)
    return fingerprint.hexdigest()
