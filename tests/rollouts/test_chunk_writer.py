"""The writer's chunks: full at some rows or bytes, larger in a long run."""

from __future__ import annotations

import time

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


def test_the_producer_waits_so_that_two_chunks_are_held_at_most() -> None:
    added, written, held = 0, 0, []

    def write(chunk: list[int]) -> None:
        nonlocal written
        time.sleep(0.01)  # time for a producer that does not wait to run ahead
        held.append(added - written)
        written += len(chunk)

    with ChunkWriter[int](write, 1) as writer:
        for row in range(6):
            added += 1
            writer.add(row, 1)
    assert written == 6
    assert max(held) == 2


def test_an_error_of_the_producer_is_the_one_that_is_raised() -> None:
    def fails(chunk: list[int]) -> None:
        raise OSError("full")

    with pytest.raises(ValueError, match="of the engine"), ChunkWriter[int](fails, 2) as writer:
        writer.add(0, 1)
        writer.add(0, 1)
        raise ValueError("of the engine")
