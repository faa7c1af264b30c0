"""Functions by which DuckDB reads top-k logprobs from their files: the same decoder as Python's.

SQL has no running total within a list, and looking up every id in a rank table costs it more than
reading one. So both are NumPy's work here, on the vectors that DuckDB hands over as Arrow; queries
get back ordinary lists, as if the files held them (queries/raw/topk.sql).
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from s2d_store.encoding import topk_codec
from s2d_store.encoding.topk_ranks import RankTable

if TYPE_CHECKING:
    import duckdb

# DuckDB's bindings complain on stderr of functions that are left when Python ends.
_open: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()


@atexit.register
def _close() -> None:
    for con in list(_open):
        con.close()


Column: TypeAlias = pa.Array | pa.ChunkedArray

IDS = (
    "topk_token_ids",
    ("VARCHAR", "BLOB", "BLOB", "INTEGER[]"),
    "INTEGER[]",
)
LOGPROBS = (
    "topk_logprobs",
    (
        "FLOAT[]",
        "INTEGER",
        "SMALLINT[]",
        "FLOAT[]",
        "FLOAT",
        "BOOLEAN",
        "BLOB",
        "BLOB",
        "INTEGER[]",
        'STRUCT("entry" INTEGER, logprob FLOAT)[]',
    ),
    "FLOAT[]",
)
SAMPLED = (
    "topk_sampled_logprobs",
    ("FLOAT[]", "FLOAT[]", "FLOAT", "INTEGER[]"),
    "FLOAT[]",
)


class _OnDemand(dict[str | None, RankTable]):
    """Rank tables by name, looked up at the first row that names one."""

    def __init__(self, find: Callable[[str | None], RankTable]) -> None:
        self._find = find

    def __missing__(self, name: str | None) -> RankTable:
        self[name] = self._find(name)
        return self[name]


def register(con: duckdb.DuckDBPyConnection, find: Callable[[str | None], RankTable]) -> None:
    """Define the functions that queries/raw/topk.sql calls.

    Args:
        con: an open connection; its cursors share the functions.
        find: returns the rank table of a name; called once a name, by a thread of DuckDB's, and so
            must not use `con`.
    """
    ranks = _OnDemand(find)

    # DuckDB counts a function's parameters, so each is written out.
    def ids(a: Column, b: Column, c: Column, d: Column) -> pa.Array:
        return topk_codec.token_ids(*map(_whole, (a, b, c, d)), ranks=ranks)

    def logprobs(
        a: Column, b: Column, c: Column, d: Column, e: Column,
        f: Column, g: Column, h: Column, i: Column, j: Column,
    ) -> pa.Array:  # fmt: skip
        return topk_codec.logprobs(*map(_whole, (a, b, c, d, e, f, g, h, i, j)))

    def sampled(a: Column, b: Column, c: Column, d: Column) -> pa.Array:
        return topk_codec.sampled_logprobs(*map(_whole, (a, b, c, d)))

    for (name, arguments, result), function in (
        (IDS, ids),
        (LOGPROBS, logprobs),
        (SAMPLED, sampled),
    ):
        # Its annotations know enumerations only, which stand elsewhere in older versions.
        create: Any = con.create_function
        create(name, function, list(arguments), result, type="arrow", null_handling="special")
    _open.add(con)


def _whole(column: Column) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
