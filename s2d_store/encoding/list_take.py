"""Rows of a table in a given order; Arrow takes lists value by value, here each is one copy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.list_columns import from_numpy, to_numpy


def take(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """The table's rows in the order of `rows`, as `table.take` gives them, in one chunk a column.

    Args:
        table: any columns.
        rows: int64 (N,), row numbers; repeats are allowed.
    """
    indices = from_numpy(rows)
    columns = [
        _take_lists(column, rows) if _is_plain_list(column) else column.take(indices)
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)


def _is_plain_list(column: pa.ChunkedArray) -> bool:
    """Whether it holds lists of numbers without any null."""
    type_ = column.type
    return bool(
        pa.types.is_list(type_)
        and (pa.types.is_integer(type_.value_type) or pa.types.is_floating(type_.value_type))
        and not column.null_count
        and not any(chunk.flatten().null_count for chunk in column.chunks)
    )


def _take_lists(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.Array:
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    values = [to_numpy(chunk.flatten()) for chunk in chunks]
    # A chunk that is a slice has offsets into the whole; flatten() gives the slice's values alone.
    cuts = [to_numpy(c.offsets).astype(np.int64) - c.offsets[0].as_py() for c in chunks]
    if not len(rows):
        return pa.array([], column.type)
    starts = np.concatenate([cut[:-1] for cut in cuts])[rows]
    ends = np.concatenate([cut[1:] for cut in cuts])[rows]
    offsets = np.concatenate([[0], np.cumsum(ends - starts)])
    if offsets[-1] > np.iinfo(np.int32).max:  # one array of lists holds no more
        return column.take(from_numpy(rows))
    chunk_ends = np.cumsum([len(chunk) for chunk in chunks])
    where = np.searchsorted(chunk_ends, rows, side="right")
    pieces = zip(where.tolist(), starts.tolist(), ends.tolist(), strict=True)
    taken = np.concatenate([values[chunk][start:end] for chunk, start, end in pieces])
    return pa.ListArray.from_arrays(
        from_numpy(offsets.astype(np.int32)), from_numpy(taken), type=column.type
    )
