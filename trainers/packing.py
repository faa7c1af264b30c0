"""Which rows of an update go into which micro-batch, by their lengths alone.

Every process computes the same from the same lengths, and so does a run that is continued. The
gradient is the same for every choice, but for rounding: losses are sums, divided by counts of the
whole update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from s2d_store.numerics import Int64

Layout = Literal["packed", "padded"]
# Micro-batches that rows are packed into at a time. Rows that lie together are then read together,
# however large the update; more fill the slots hardly better.
WINDOW = 32


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
    for window in _windows(lengths[chosen], max_tokens * WINDOW):
        rows = chosen[window]
        for group in first_fit_decreasing(lengths[rows], max_tokens):
            yield np.sort(rows[group])


def first_fit_decreasing(lengths: Int64, max_tokens: int) -> list[list[int]]:
    """Pack sequences into as few micro-batches as first-fit-decreasing finds.

    Longest first, each into the first micro-batch with room: at most 11/9 of the fewest possible
    and one more (Dosa 2007, "The tight bound of first fit decreasing bin-packing").

    Args:
        lengths: int64 (n,).
        max_tokens: slots of a micro-batch; a longer sequence has one of its own.

    Returns:
        Indices of each micro-batch, in the order in which their first rows come.
    """
    room = np.empty(len(lengths), np.int64)
    groups: list[list[int]] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        fits = room[: len(groups)] >= length
        at = int(fits.argmax()) if fits.any() else len(groups)
        if at == len(groups):
            groups.append([])
            room[at] = max_tokens
        groups[at].append(index)
        room[at] -= length
    return sorted(groups, key=min)


def _windows(lengths: Int64, tokens: int) -> Iterator[slice]:
    """Cut sequences, in their order, into windows of about so many tokens; about equal ones."""
    ends = np.cumsum(lengths)
    if not len(ends):
        return
    n = max(1, round(int(ends[-1]) / tokens))
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, n) // n) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(ends)]):
        if first < last:
            yield slice(first, last)


def _padded(lengths: Int64, max_tokens: int) -> Iterator[slice]:
    """Runs of sequences of falling length that fit one micro-batch."""
    start = 0
    for index in range(len(lengths)):
        if int(lengths[start]) * (index - start + 1) > max_tokens and index > start:
            yield slice(start, index)
            start = index
    if start < len(lengths):
        yield slice(start, len(lengths))
