"""SQL functions in Python, made on the connections whose SQL calls them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

import queries
from s2d_store.sql.bootstrap import mean_intervals

_INTERVAL = pa.struct([("low", pa.float64()), ("high", pa.float64())])


class _Function(NamedTuple):
    """A function over whole columns: its parameters' and result's SQL types."""

    call: Callable[..., pa.Array]
    parameters: tuple[str, ...]
    returns: str


def bootstrap_interval(
    values: pa.ChunkedArray, resamples: pa.ChunkedArray, seed: pa.ChunkedArray
) -> pa.Array:
    """The 95% bootstrap interval of the mean of each list of numbers.

    Nulls inside a list are left out; null, and a list without numbers, have a null interval. Lists
    of one length are resampled alike.
    """
    samples = [
        np.array([x for x in row or () if x is not None], np.float64) for row in values.to_pylist()
    ]
    keys = [
        (len(sample), *how)
        for sample, *how in zip(samples, resamples.to_pylist(), seed.to_pylist(), strict=True)
    ]
    found: list[dict[str, float] | None] = [None] * len(samples)
    for key in set(keys):
        size, times, start = key
        if not size or times is None or start is None:
            continue
        rows = [i for i, other in enumerate(keys) if other == key]
        intervals = mean_intervals(np.stack([samples[i] for i in rows]), times, start)
        for i, (low, high) in zip(rows, intervals.tolist(), strict=True):
            found[i] = {"low": low, "high": high}
    return pa.array(found, _INTERVAL)


FUNCTIONS = {
    "bootstrap_interval": _Function(
        bootstrap_interval,
        ("DOUBLE[]", "BIGINT", "BIGINT"),
        "STRUCT(low DOUBLE, high DOUBLE)",
    ),
}


def create_functions(con: duckdb.DuckDBPyConnection, text: str) -> None:
    """Make the functions that SQL calls, unless the connection has them."""
    for name, function in FUNCTIONS.items():
        if re.search(rf"\b{name}\s*\(", text) and not _exists(con, name):
            con.create_function(
                name,
                function.call,
                list[Any](function.parameters),
                function.returns,
                type="arrow",
                null_handling="special",
            )


def _exists(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    text = queries.internal("function_named")
    return bool(con.execute(text, {"name": name}).fetchall())
