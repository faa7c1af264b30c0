"""A table's Parquet files: how a new one gets its place and its name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from s2d_store.storage import content_hash, fault_points
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import parquet_writer


def write(
    folder: Place,
    values: Mapping[str, str],
    rows: Callable[[Path], Iterable[pa.Table]],
    schema: pa.Schema,
) -> tuple[str, int]:
    """Write one file that nobody sees until it is committed; a part of one is removed.

    Args:
        folder: the table's.
        values: of the partition columns.
        rows: gives the tables, told the local file that they go to.
        schema: theirs.

    Returns:
        Path within the table, and bytes.
    """
    within = "/".join(f"{name}={value}" for name, value in values.items())
    target = folder / within if within else folder
    with backend_of(target).draft_for(target) as drafts:
        draft = drafts / f"{uuid.uuid4().hex}.parquet"
        try:
            size = parquet_writer.write(draft, rows(draft), schema)
            fault_points.reach("seal file")
            sealed = content_hash.seal(draft)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        fault_points.reach("publish file")
        backend_of(target).publish(sealed, target)
        return f"{within}/{sealed.name}".lstrip("/"), size
