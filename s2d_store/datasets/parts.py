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
from s2d_store.datasets.fingerprint import Fingerprint, of_light_rows, of_tables, type_name
from s2d_store.datasets.plan import Plan
from s2d_store.datasets.token_columns import TYPES, fill_unknown
from s2d_store.storage.checked_parquet import footer_hash
from s2d_store.storage.content_hash import hash_of
from s2d_store.tables import parquet_writer
from s2d_store.tables.fetch_rows import SPILL_MARGIN, Spill, fetch_rows, is_direct, stored_bytes
from s2d_store.tables.spill import require_space

FILE_BYTES = 256 << 20
WRITERS = 3
# Parts hold logprobs as floats, where the store has steps.
PARTS_MARGIN = 1.3


def tables(made: Plan, spill: Spill | None = None) -> Iterator[pa.Table]:
    """The dataset's rows in training order, a bucket at a time."""
    for start, heavy in fetch_rows(planning.sources(made), planning.row_bytes(made), spill=spill):
        light = made.rows.slice(start, heavy.num_rows)
        heavy = fill_unknown(heavy, light.column("response_tokens").to_numpy().astype(np.int64))
        columns = {name: light.column(name) for name in made.light_columns}
        columns |= {name: heavy.column(name) for name in heavy.column_names}
        yield pa.table(columns)
        del heavy, columns  # the next bucket takes their place


def described(made: Plan) -> dict[str, Any]:
    """The lock's fingerprint, facts and columns, which cost no heavy byte.

    Facts: a fingerprint over when each rollout and score was made. A rollout that was lost and
    sampled again has its old id and perhaps other tokens, but another time.
    """
    light = made.rows.select(made.light_columns)
    columns = [f"{field.name}: {type_name(field.type)}" for field in light.schema]
    columns += [f"{name}: {type_name(TYPES[name])}" for name in made.heavy_columns]
    keyed = made.rows.select([*made.light_columns, "prompt_tokens", "response_tokens"])
    made_at = [f"{origin.prefix}_created_at" for origin in made.origins]
    return {
        "fingerprint": of_light_rows(keyed, columns),
        "facts": of_tables([made.rows.select(made_at)]),
        "columns": columns,
    }


def write_parts(folder: Path, made: Plan, spill: Spill | None = None) -> dict[str, Any]:
    """Write `part-NNNNN.parquet` files.

    Returns:
        The lock's form, files, content (fingerprint over every byte) and what `described` gives.

    Raises:
        StoreError: the disk has too little room; known before anything is written.
    """
    _require_space(folder, made, spill)
    files: list[dict[str, Any]] = []
    fingerprint: Fingerprint | None = None
    # Hashing and writing leave the interpreter free, so a bucket's parts and its hash go side by
    # side; the next bucket waits, so that no more than one is in memory.
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="write-parts") as pool:
        for table in tables(made, spill):
            fingerprint = fingerprint or Fingerprint(table.schema)
            hashed = pool.submit(fingerprint.update, table)
            parts = [(f"part-{len(files) + i:05d}.parquet", p) for i, p in enumerate(_parts(table))]
            written = [pool.submit(_write, folder / name, part) for name, part in parts]
            files += [entry.result() for entry in written]
            hashed.result()
            del table, parts  # the next bucket takes their place
    assert fingerprint is not None, "a plan has rows"
    return {
        **described(made),
        "form": "parts",
        "files": files,
        "content": fingerprint.hexdigest(),
    }


def _require_space(folder: Path, made: Plan, spill: Spill | None) -> None:
    sources = planning.sources(made)
    needed = stored_bytes(sources) * PARTS_MARGIN
    # What waits meanwhile lies on the same disk, unless it was sent to another.
    if spill is None or spill.folder is None or spill.folder.is_relative_to(folder.parent):
        dealt = [source for source in sources if not is_direct(source)]
        needed += stored_bytes(dealt) * SPILL_MARGIN
    name = folder.name.removeprefix(".").split(".")[0]
    require_space(
        folder,
        int(needed),
        f"writing the rows of dataset {name} as parts",
        "free disk space there, send what waits to another disk with --spill DIR, or build without "
        "--materialise: a lock by reference copies nothing",
    )


def _write(path: Path, part: pa.Table) -> dict[str, Any]:
    """Write one part; returns its entry in the lock."""
    size = parquet_writer.write(path, [part], part.schema)
    return file_entry(path, part.num_rows, size)


def file_entry(path: Path, rows: int, size: int) -> dict[str, Any]:
    """What a lock says of one of its files; sha256 and footer in hex, 128 bits each."""
    return {
        "path": path.name,
        "rows": rows,
        "bytes": size,
        "sha256": hash_of(path),
        "footer": footer_hash(path),
    }


def _parts(table: pa.Table) -> list[pa.Table]:
    """The table cut into files of about equal size, at most FILE_BYTES in memory each."""
    n = min(table.num_rows, -(-table.nbytes // FILE_BYTES))
    cuts = [table.num_rows * i // n for i in range(n + 1)]
    return [table.slice(start, end - start) for start, end in pairwise(cuts)]
