"""NumPy arrays <-> Arrow list columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def list_array(
    arrays: Sequence[NDArray[np.generic] | None],
    value_type: pa.DataType,
    list_type: pa.DataType | None = None,
) -> pa.ListArray:
    """Stack arrays of any shape as one list column, one list an array, row-major; None is null."""
    offsets = np.zeros(len(arrays) + 1, dtype=np.int32)
    np.cumsum([0 if a is None else a.size for a in arrays], out=offsets[1:])
    flat = np.empty(offsets[-1], value_type.to_pandas_dtype())
    for array, start in zip(arrays, offsets.tolist(), strict=False):
        if array is not None:
            flat[start : start + array.size].reshape(array.shape)[...] = array
    values = pa.array(flat, type=value_type)
    null = np.array([a is None for a in arrays], dtype=np.bool_)
    mask = pa.array(null) if null.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), values, list_type, mask=mask)


def flat_lists(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Values of a list column end to end, and int64 offsets (R + 1,) from 0; a null is empty."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = array.flatten().to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, dtype=np.int64)
    if not array.null_count:
        return values, array.offsets.to_numpy().astype(np.int64) - array.offsets[0].as_py()
    lengths = array.value_lengths().fill_null(0).to_numpy()
    np.cumsum(lengths, out=offsets[1:])
    return values, offsets
