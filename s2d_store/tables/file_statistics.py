"""Which rows of a batch are stored already: looked up by key, in the files that may hold it.

A file's commit notes the minimum and maximum value of each key column, so a look-up of a new policy
or a run's next updates opens a few files, however many commits came before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2d_store.schema import Table

Bounds = Mapping[str, tuple[Any, Any]]


def bounds(declared: Table, rows: pa.Table) -> dict[str, tuple[Any, Any]]:
    """Minimum and maximum value by key column, of those columns that are text or whole numbers.

    Args:
        declared: the rows' table.
        rows: at least one row; columns that it lacks are left out.
    """
    found = {}
    for name in declared.key:
        if name in rows.column_names and _is_ordered(rows.schema.field(name).type):
            ends = pc.min_max(rows.column(name)).as_py()
            found[name] = (ends["min"], ends["max"])
    return found


def _is_ordered(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_integer(type_))


def merge_bounds(ends: Sequence[Bounds]) -> dict[str, tuple[Any, Any]]:
    """The bounds that hold all of these, which name the same columns."""
    return {
        name: (min(e[name][0] for e in ends), max(e[name][1] for e in ends))
        for name in (ends[0] if ends else ())
    }


def statistics(n_rows: int, ends: Bounds, rollout_ids: str = "") -> dict[str, Any]:
    """What a commit notes of a file, in Delta's form, and its rollouts' ids in a key of our own."""
    noted: dict[str, Any] = {"numRecords": n_rows}
    if ends:
        noted["minValues"] = {name: low for name, (low, _) in ends.items()}
        noted["maxValues"] = {name: high for name, (_, high) in ends.items()}
        noted["nullCount"] = dict.fromkeys(ends, 0)
    if rollout_ids:
        noted["s2d"] = {"rollout_ids": rollout_ids}
    return noted
