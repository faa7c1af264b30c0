"""Rows of a table in a given order; Arrow takes lists value by value and joins binary chunks before
it takes of them, here each row is one copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.arrays import flat_binary, offsets_of
from s2d_store.encoding.list_columns import from_numpy, to_numpy


def take(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """The table's rows in the order of `rows`, as `table.take` gives them, in one chunk a column.

    Args:
        table: any columns.
        rows: int64 (N,), row numbers; repeats are allowed.
    """
    indices = from_numpy(rows)
    columns = [
        _take_slices(column, rows) if _is_plain(column) else column.take(indices)
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)


def _is_plain(column: pa.ChunkedArray) -> bool:
    """Whether it holds binary values, or lists of numbers, without any null."""
    type_ = column.type
    if column.null_count:
        return False
    if not pa.types.is_list(type_):
        return bool(pa.types.is_binary(type_))
    is_number = pa.types.is_integer(type_.value_type) or pa.types.is_floating(type_.value_type)
    return is_number and not any(chunk.flatten().null_count for chunk in column.chunks)


def _take_slices(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.Array:
    flat = flat_binary if pa.types.is_binary(column.type) else _flat_list
    chunks = [flat(chunk) for chunk in column.chunks if len(chunk)]
    if not len(rows):
        return pa.array([], column.type)
    starts = np.concatenate([cuts[:-1] for _, cuts in chunks])[rows]
    ends = np.concatenate([cuts[1:] for _, cuts in chunks])[rows]
    offsets = offsets_of(ends - starts)
    if offsets[-1] > np.iinfo(np.int32).max:  # one array holds no more
        return column.take(from_numpy(rows))
    chunk_ends = np.cumsum([len(cuts) - 1 for _, cuts in chunks])
    where = np.searchsorted(chunk_ends, rows, side="right")
    pieces = zip(where.tolist(), starts.tolist(), ends.tolist(), strict=True)
    taken = from_numpy(
        np.concatenate([chunks[chunk][0][start:end] for chunk, start, end in pieces])
    )
    cuts = from_numpy(offsets.astype(np.int32))
    if pa.types.is_list(column.type):
        return pa.ListArray.from_arrays(cuts, taken, type=column.type)
    buffers = [None, cuts.buffers()[1], taken.buffers()[1]]
    return pa.Array.from_buffers(column.type, len(rows), buffers)


def _flat_list(chunk: pa.ListArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    # A chunk that is a slice has offsets into the whole; flatten() gives the slice's values alone.
    cuts = to_numpy(chunk.offsets).astype(np.int64)
    return to_numpy(chunk.flatten()), cuts - cuts[0]
