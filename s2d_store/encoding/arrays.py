"""Flat NumPy arrays <-> columns of binary values and of lists, copied only where it is needed.

A value of a column is a slice of the flat array; a null is an empty slice. Buffers are taken as
they are: pyarrow's own conversions from and to NumPy import pandas, which takes 0.15 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.list_columns import numpy_dtype

Offsets = NDArray[np.int64]
Bools = NDArray[np.bool_]


def offsets_of(lengths_R: NDArray[Any]) -> Offsets:
    """Offsets (R + 1,) of slices that lie end to end."""
    made = np.zeros(len(lengths_R) + 1, np.int64)
    np.cumsum(lengths_R, out=made[1:])
    return made


def kept_slices(
    flat: NDArray[Any], offsets: Offsets, keep_R: Bools
) -> tuple[NDArray[Any], Offsets]:
    """The slices of the rows to keep, end to end; the others are empty."""
    if keep_R.all():
        return flat, offsets
    if not keep_R.any():
        return flat[:0], np.zeros_like(offsets)
    lengths = np.diff(offsets)
    return flat[np.repeat(keep_R, lengths)], offsets_of(np.where(keep_R, lengths, 0))


def number_array(values: NDArray[Any], valid_R: Bools | None = None) -> pa.Array:
    """Numbers or bools as a column, null where they are not valid."""
    data = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else values
    buffers = [_bitmap(valid_R), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def binary_array(flat: NDArray[np.uint8], offsets: Offsets, valid_R: Bools) -> pa.BinaryArray:
    """Slices as binary values, null where they are not valid (and then empty)."""
    cuts, data = pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(flat))
    return pa.Array.from_buffers(pa.binary(), len(valid_R), [_bitmap(valid_R), cuts, data])


def list_column(values: pa.Array, offsets: Offsets, valid_R: Bools) -> pa.ListArray:
    """Slices as lists, null where they are not valid (and then empty)."""
    buffers = [_bitmap(valid_R), pa.py_buffer(offsets.astype(np.int32))]
    return pa.Array.from_buffers(pa.list_(values.type), len(valid_R), buffers, children=[values])


def _bitmap(valid_R: Bools | None) -> pa.Buffer | None:
    if valid_R is None or valid_R.all():
        return None
    return pa.py_buffer(np.packbits(valid_R, bitorder="little"))


def valid(array: pa.Array) -> Bools:
    """Which values are not null, bool (R,)."""
    bits = array.buffers()[0]
    if bits is None or not array.null_count:
        return np.full(len(array), array.type != pa.null(), np.bool_)
    return _bits(bits, array.offset, len(array))


def numbers(array: pa.Array, null: float = 0) -> NDArray[Any]:
    """Values of a column of numbers or of bools, (R,); `null` where they are null."""
    data, dtype = array.buffers()[1], numpy_dtype(array.type)
    if pa.types.is_boolean(array.type):
        made = _bits(data, array.offset, len(array))
    elif data is None:
        return np.full(len(array), null, dtype)
    else:
        made = np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]
    return np.where(valid(array), made, dtype.type(null)) if array.null_count else made


def _bits(buffer: pa.Buffer, offset: int, length: int) -> Bools:
    """Bits of a buffer of Arrow's."""
    packed = np.frombuffer(buffer, np.uint8)
    return np.unpackbits(packed, count=offset + length, bitorder="little")[offset:].view(np.bool_)


def flat_binary(array: pa.Array) -> tuple[NDArray[np.uint8], Offsets]:
    """Bytes of a binary column end to end, and offsets (R + 1,) from 0; a null is empty."""
    array = array if pa.types.is_binary(array.type) else array.cast(pa.binary())
    data = array.buffers()[2]
    ends = _ends(array)
    if data is None:
        return np.zeros(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    return _without_nulls(array, np.frombuffer(data, np.uint8)[ends[0] : ends[-1]], ends - ends[0])


def flat_list(array: pa.Array) -> tuple[NDArray[Any], Offsets]:
    """Numbers of a list column end to end, and offsets (R + 1,) from 0; a null is empty."""
    if not pa.types.is_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    ends = _ends(array)
    values = numbers(array.values.slice(ends[0], ends[-1] - ends[0]))
    return _without_nulls(array, values, ends - ends[0])


def _ends(array: pa.Array) -> Offsets:
    cuts = array.buffers()[1]
    if not len(array) or cuts is None:
        return np.zeros(len(array) + 1, np.int64)
    ends = np.frombuffer(cuts, np.int32)[array.offset : array.offset + len(array) + 1]
    return ends.astype(np.int64)


def _without_nulls(
    array: pa.Array, flat: NDArray[Any], offsets: Offsets
) -> tuple[NDArray[Any], Offsets]:
    """Arrow lets a null have values; nearly nobody writes any."""
    if array.null_count:
        keep = valid(array)
        if np.diff(offsets)[~keep].any():
            return kept_slices(flat, offsets, keep)
    return flat, offsets


def row_counts(mask_E: Bools, offsets: Offsets) -> NDArray[np.int64]:
    """Trues of each row's slice, (R,)."""
    rows = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return np.array([np.count_nonzero(mask_E[a:b]) for a, b in rows], np.int64)
