from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from s2d_store.datasets.prefetch import prefetch


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("test-ahead")]


class Source:
    """Counts up in whatever thread runs it, and tells how far it came and whether it was closed."""

    def __init__(self, fails_at: int = 100) -> None:
        self.made: list[int] = []
        self.by: set[str] = set()
        self.closed = False
        self.fails_at = fails_at

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(10):
                if number == self.fails_at:
                    raise ValueError(f"item {number}")
                self.made.append(number)
                self.by.add(threading.current_thread().name)
                yield number
        finally:
            self.closed = True


def test_items_come_in_order_from_a_thread_at_most_one_ahead() -> None:
    source = Source()
    for number in prefetch(source.items(), "test-ahead"):
        assert len(source.made) <= number + 2
    assert source.made == list(range(10)) and source.closed
    assert all(name.startswith("test-ahead") for name in source.by)
    assert threads() == []


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    second = threading.Event()

    def items() -> Generator[int, None, None]:
        yield 1
        second.set()
        yield 2

    for _ in prefetch(items(), "test-ahead"):
        assert second.wait(30)


def test_an_error_comes_in_its_place() -> None:
    source, seen = Source(fails_at=3), []
    with pytest.raises(ValueError, match="item 3"):
        for number in prefetch(source.items(), "test-ahead"):
            seen.append(number)
    assert seen == [0, 1, 2] and source.closed and threads() == []


def test_abandoned_it_closes_its_source_and_its_thread() -> None:
    source = Source()
    items = prefetch(prefetch(source.items(), "test-ahead-inner"), "test-ahead-outer")
    assert next(items) == 0
    items.close()
    assert source.closed and threads() == []


def test_not_started_it_starts_no_thread() -> None:
    source = Source()
    prefetch(source.items(), "test-ahead")
    assert source.made == [] and threads() == []


def test_none_is_an_item() -> None:
    assert list(prefetch((None for _ in range(2)), "test-ahead")) == [None, None]
