"""Which rows of an update go into which micro-batch, by their lengths alone.

Every process computes the same from the same lengths, and so does a run that is continued. The
gradient is the same for every choice, but for rounding: losses are sums, divided by counts of the
whole update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from s2d_store.numerics import Int64

Layout = Literal["packed", "padded"]
# Rows that are packed at a time, and between how many micro-batches that may be. Rows that lie
# together are then read together, however large the update; more fill the slots hardly better.
WINDOW_ROWS = 64
WINDOW_MICRO_BATCHES = (2, 32)


def row_groups(
    lengths: Int64, max_tokens: int, layout: Layout, selected: Sequence[int] | None = None
) -> Iterator[Int64]:
    """The rows of each micro-batch, by the lengths of all rows of the update.

    Args:
        lengths: int64 (R,), prompt and response tokens of each row.
        max_tokens: most token slots of a micro-batch; a longer row has one of its own.
        layout: packed without padding, or padded to the longest row.
        selected: rows to use; None uses all.

    Yields:
        Row numbers int64 (n,); packed ones rise.
    """
    chosen = np.arange(len(lengths)) if selected is None else np.asarray(selected, dtype=np.int64)
    if layout == "padded":
        chosen = chosen[np.argsort(-lengths[chosen], kind="stable")]
        for run in _padded(lengths[chosen], max_tokens):
            yield chosen[run]
        return
    yield from (chosen[group] for group in _packed(lengths[chosen], max_tokens))


def first_fit_decreasing(lengths: Int64, max_tokens: int, begun: int = 0) -> list[list[int]]:
    """Pack sequences into as few micro-batches as first-fit-decreasing finds.

    Longest first, each into the first micro-batch with room: at most 11/9 of the fewest possible
    and one more (Dosa 2007, "The tight bound of first fit decreasing bin-packing").

    Args:
        lengths: int64 (n,).
        max_tokens: slots of a micro-batch; a longer sequence has one of its own.
        begun: the first so many sequences are one micro-batch already, which others may fill.

    Returns:
        Indices of each micro-batch, in the order in which their first rows come.
    """
    room = np.empty(len(lengths), np.int64)
    groups = [list(range(begun))] if begun else []
    room[: len(groups)] = max_tokens - lengths[:begun].sum()
    for index in (np.argsort(-lengths[begun:], kind="stable") + begun).tolist():
        length = int(lengths[index])
        fits = room[: len(groups)] >= length
        at = int(fits.argmax()) if fits.any() else len(groups)
        if at == len(groups):
            groups.append([])
            room[at] = max_tokens
        groups[at].append(index)
        room[at] -= length
    return sorted(groups, key=min)


def _packed(lengths: Int64, max_tokens: int) -> Iterator[Int64]:
    """Pack sequences window by window, in their order; the emptiest micro-batch of a window is
    filled by the next.
    """
    if not len(lengths):
        return
    n = float(np.clip(WINDOW_ROWS * lengths.mean() / max_tokens, *WINDOW_MICRO_BATCHES))
    ends = np.cumsum(lengths)
    waiting, start = np.empty(0, np.int64), 0
    while start < len(lengths):
        read = int(ends[start - 1]) if start else 0
        most = read + n * max_tokens - int(lengths[waiting].sum())
        stop = max(start + 1, int(np.searchsorted(ends, most, side="right")))
        rows, start = np.concatenate([waiting, np.arange(start, stop)]), stop
        packed = first_fit_decreasing(lengths[rows], max_tokens, len(waiting))
        groups, waiting = [rows[group] for group in packed], np.empty(0, np.int64)
        if start < len(lengths) and len(groups) > 1:
            # Of several alike the last, whose rows lie nearest to the next window's.
            emptiest = min(range(len(groups)), key=lambda i: (lengths[groups[i]].sum(), -i))
            waiting = np.sort(groups.pop(emptiest))
        yield from map(np.sort, groups)


def _padded(lengths: Int64, max_tokens: int) -> Iterator[slice]:
    """Runs of sequences of falling length that fit one micro-batch."""
    start = 0
    for index in range(len(lengths)):
        if int(lengths[start]) * (index - start + 1) > max_tokens and index > start:
            yield slice(start, index)
            start = index
    if start < len(lengths):
        yield slice(start, len(lengths))
