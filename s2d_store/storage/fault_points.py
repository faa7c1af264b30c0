"""Named points on the way of a write at which a test can kill, delay or look.

`reach` costs a comparison. Tests set a hook, which is told the name of each point in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_hook: Callable[[str], None] | None = None


def reach(point: str) -> None:
    """Say that a write has come this far."""
    if _hook is not None:
        _hook(point)


@contextmanager
def watched(hook: Callable[[str], None]) -> Iterator[None]:
    """Call `hook` at each point until the block ends; what it raises ends the write there."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before
