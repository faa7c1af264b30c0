"""What an audit is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from s2d_store.store import Store
from s2d_store.tables.snapshot import Snapshot


@dataclass(frozen=True)
class Scope:
    """What an audit works on.

    Attributes:
        store: the store.
        snap: the snapshot that every audit of one call reads.
        con: SQL over that snapshot.
        values: typed values of the audit's parameters.
        sample: offending rows wanted; all are counted.
    """

    store: Store
    snap: Snapshot
    con: duckdb.DuckDBPyConnection
    values: Mapping[str, Any]
    sample: int


@dataclass(frozen=True)
class Found:
    """What an audit found.

    Attributes:
        offending: number of offending rows.
        rows: the first of them, by column.
        figures: what was looked at, and the numbers behind the verdict, by name.
        examined: how many things were looked at; 0 means that there was nothing to audit, None
            that the audit does not say.
    """

    offending: int
    rows: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    examined: int | None
