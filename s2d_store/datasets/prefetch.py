"""Run an iterator one item ahead of its consumer, in a thread."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def prefetch(items: Generator[Item, None, None], name: str) -> Generator[Item, None, None]:
    """Yield the same items, the next one made in a thread while the caller uses this one.

    At most one item waits, so memory is bounded. The thread starts with the first item asked for,
    and ends, and `items` is closed, with the iteration, also one that is abandoned or failed.

    Args:
        items: runs in the thread, from its first item to its last.
        name: of the thread.

    Raises:
        Exception: whatever `items` raises, in its place among the items.
    """
    try:
        with ThreadPoolExecutor(1, thread_name_prefix=name) as thread:
            pending = thread.submit(next, items, _END)
            while (item := pending.result()) is not _END:
                pending = thread.submit(next, items, _END)
                yield item  # type: ignore[misc]
    finally:
        items.close()
