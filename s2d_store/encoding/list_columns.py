"""NumPy arrays <-> Arrow list columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Arrow's names of floats; all other numbers are called as in NumPy.
_FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}


def numpy_dtype(type_: pa.DataType) -> np.dtype[Any]:
    """NumPy's type of an Arrow number; pyarrow's own `to_pandas_dtype` imports pandas."""
    return np.dtype(_FLOATS.get(str(type_), str(type_)))


def list_array(
    arrays: Sequence[NDArray[np.generic] | None],
    value_type: pa.DataType,
    list_type: pa.DataType | None = None,
) -> pa.ListArray:
    """Stack arrays of any shape as one list column, one list an array, row-major; None is null."""
    offsets = np.zeros(len(arrays) + 1, dtype=np.int32)
    np.cumsum([0 if a is None else a.size for a in arrays], out=offsets[1:])
    flat = np.empty(offsets[-1], numpy_dtype(value_type))
    for array, start in zip(arrays, offsets.tolist(), strict=False):
        if array is not None:
            flat[start : start + array.size].reshape(array.shape)[...] = array
    values = pa.array(flat, type=value_type)
    null = np.array([a is None for a in arrays], dtype=np.bool_)
    mask = pa.array(null) if null.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), values, list_type, mask=mask)


def to_numpy(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Values of a column, a view where possible: text as objects, a null among floats as NaN.

    pyarrow's own `to_numpy` imports pandas, which takes longer than to read an update's rows.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    type_, n = column.type, len(column)
    if pa.types.is_floating(type_) and column.null_count:
        column = column.fill_null(float("nan"))
    plain = pa.types.is_integer(type_) or pa.types.is_floating(type_)
    if n and pa.types.is_boolean(type_) and not column.null_count:
        bits = np.frombuffer(column.buffers()[1], np.uint8)
        first, last = column.offset, column.offset + n
        bits = np.unpackbits(bits[first // 8 : -(-last // 8)], bitorder="little")
        return bits[first % 8 : first % 8 + n].astype(np.bool_)
    if n and plain and not column.null_count:
        width = type_.bit_width // 8
        values: NDArray[Any] = np.frombuffer(
            column.buffers()[1], numpy_dtype(type_), n, column.offset * width
        )
        return values
    if not n and (plain or pa.types.is_boolean(type_)):
        return np.empty(0, numpy_dtype(type_))
    return np.array(column.to_pylist(), dtype=object)


def from_numpy(values: NDArray[Any]) -> pa.Array:
    """Numbers as an Arrow array that shares their memory; `pa.array` would import pandas."""
    type_ = pa.from_numpy_dtype(values.dtype)
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(type_, len(values), [None, buffer])


def flat_lists(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Values of a list column end to end, and int64 offsets (R + 1,) from 0; a null is empty."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = to_numpy(array.flatten())
    offsets = np.zeros(len(array) + 1, dtype=np.int64)
    if not array.null_count:
        return values, to_numpy(array.offsets).astype(np.int64) - array.offsets[0].as_py()
    lengths = to_numpy(array.value_lengths().fill_null(0))
    np.cumsum(lengths, out=offsets[1:])
    return values, offsets
