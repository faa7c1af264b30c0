"""The writer's chunks: full at some rows or bytes, larger in a long run."""

from __future__ import annotations

import pytest

from s2d_store.rollouts import chunk_writer
from s2d_store.rollouts.chunk_writer import CHUNK_BYTES, GROWS_AFTER, LARGEST, ChunkWriter


def sizes(rows: int, row_bytes: int, max_rows: int) -> list[int]:
    """Rows of each chunk."""
    found: list[int] = []
    with ChunkWriter[int](lambda chunk: found.append(len(chunk)), max_rows) as writer:
        for row in range(rows):
            writer.add(row, row_bytes)
    assert sum(found) == rows
    return found


def test_short_runs_keep_their_chunks() -> None:
    assert sizes(10, 1, 4) == [4, 4, 2]
    assert sizes(4, CHUNK_BYTES // 2, 100) == [2, 2]


@pytest.mark.parametrize(("row_bytes", "max_rows"), [(CHUNK_BYTES // 4, 1000), (1 << 20, 16)])
def test_chunks_grow_with_what_is_written(row_bytes: int, max_rows: int) -> None:
    least = min(max_rows, CHUNK_BYTES // row_bytes)
    found = sizes(5 * GROWS_AFTER // row_bytes, row_bytes, max_rows)
    assert found[: GROWS_AFTER // (least * row_bytes)] == [least] * (
        GROWS_AFTER // (least * row_bytes)
    )
    assert found[-2] == LARGEST * least and max(found) == LARGEST * least
    assert found[:-1] == sorted(found[:-1])
    assert all(size % least == 0 for size in found[:-1])


def test_an_error_of_the_write_reaches_the_producer() -> None:
    def fails(chunk: list[int]) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), ChunkWriter[int](fails, 1) as writer:
        for row in range(100):
            writer.add(row, chunk_writer.CHUNK_BYTES)
