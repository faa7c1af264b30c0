"""Columns as NumPy arrays without pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_store.encoding.list_columns import to_numpy


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 20), st.integers(0, 20))
def test_bits_of_any_slice(values: list[bool], start: int, length: int) -> None:
    array = pa.array(values, pa.bool_()).slice(min(start, len(values)), length)
    assert to_numpy(array).tolist() == array.to_pylist()


@pytest.mark.parametrize(
    "values,type_", [([1, 2, 3], pa.int32()), ([1.5, 2.5, 3.5], pa.float32()), ([], pa.int64())]
)
def test_numbers_of_slices_are_views(values: list[Any], type_: pa.DataType) -> None:
    array = pa.array(values, type_)
    for part in (array, array.slice(1), array.slice(1, 1), pa.chunked_array([array, array])):
        found = to_numpy(part)
        assert found.tolist() == part.to_pylist() and pa.from_numpy_dtype(found.dtype) == type_


def test_nulls_and_text() -> None:
    np.testing.assert_array_equal(to_numpy(pa.array([1.5, None])), [1.5, np.nan])
    assert to_numpy(pa.array(["a", None, "☃"])).tolist() == ["a", None, "☃"]
