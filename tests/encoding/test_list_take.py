"""Rows in a given order: the same as Arrow's own take, down to the names inside types."""

import numpy as np
import pyarrow as pa
import pytest

from s2d_store.encoding.list_take import take

ROWS = [
    [4, 0, 0, 2, 1],
    [],
    [3],
    list(range(5)),
]


def table() -> pa.Table:
    """Five rows in three chunks, one of them empty and one a slice of something longer."""
    element = pa.list_(pa.field("element", pa.int32()))
    ids = [
        pa.array([[9], [1, 2], []], element).slice(1),
        pa.array([], element),
        pa.array([[3], [4, 5, 6], [7]], element),
    ]
    logprobs = [[-1.0], [-0.0, float("-inf")], [], [-2.0], [-3.0, -4.0]]
    return pa.table(
        {
            "ids": pa.chunked_array(ids),
            "logprobs": pa.array(logprobs, pa.list_(pa.float32())),
            "bytes": pa.chunked_array(
                [pa.array([b"a", b"bc", b""], pa.binary()).slice(1), [b"def", b"g", b"hi"]]
            ),
            "text": ["a", "b", "c", "d", "e"],
            "nulls": pa.array([[1], None, [2, None], [], [3]], pa.list_(pa.int32())),
        }
    )


@pytest.mark.parametrize("rows", ROWS)
def test_gives_what_arrow_gives(rows: list[int]) -> None:
    taken = take(table(), np.array(rows, np.int64))
    expected = table().take(pa.array(rows, pa.int64()))
    assert taken.schema.equals(expected.schema, check_metadata=True)
    assert taken.column("ids").type.value_field.name == "element"
    assert taken.equals(expected)
    assert all(column.num_chunks <= 1 for column in taken.drop("text").drop("nulls").columns)


def test_of_no_rows_gives_none() -> None:
    empty = table().slice(0, 0)
    assert take(empty, np.zeros(0, np.int64)).equals(empty)
