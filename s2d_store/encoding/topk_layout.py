"""The entries of a top-k by token: as many at each, or each its own number of them (ragged).

The codec works on runs of rows of one layout. A `Layout` takes arrays of a run's entries, laid flat
and in order of tokens, and says what is done per token. Dimensions: N tokens, E entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

# What is worked on at a time stays in a core's cache.
_BLOCK_ENTRIES = 1 << 15


class Layout(Protocol):
    """Entries by token; arrays of E entries are flat."""

    @property
    def n_tokens(self) -> int:
        """N."""

    def blocks(self) -> Iterator[tuple[slice, slice, Layout]]:
        """Parts that fit a core's cache: tokens, entries, and the part's own layout."""

    def first(self, values_E: Array) -> Array:
        """Each token's first entry, (N,)."""

    def largest(self, values_E: Array) -> Array:
        """Each token's largest entry, NaN where it has one; (N,)."""

    def any_bit(self, values_E: Array) -> Array:
        """Bitwise or of each token's entries, (N,)."""

    def spread(self, values_N: Array) -> Array:
        """A value per token, to compute with arrays shaped by `shaped`."""

    def shaped(self, values_E: Array) -> Array:
        """A view of the entries that `spread` broadcasts against."""

    def differences(self, values_E: Ints) -> Ints:
        """Each entry less the one before it in its token; the first stays. Flat (E,)."""

    def sums(self, values_E: Ints) -> Ints:
        """The inverse of `differences`; may be in place."""

    def running_max(self, values_E: Ints) -> Ints:
        """The largest of each entry and those before it in its token. Flat (E,)."""

    def descends(self, values_E: Array) -> NDArray[np.bool_]:
        """Whether an entry is no more than the one before it in its token, bool (E,)."""

    def first_token(self) -> tuple[Layout, int]:
        """The layout of the first token alone, and its number of entries."""


@dataclass(frozen=True)
class Even:
    """`k` entries at each of `n_tokens` tokens; both at least 1."""

    n_tokens: int
    k: int

    def blocks(self) -> Iterator[tuple[slice, slice, Layout]]:
        """See `Layout`."""
        step = max(1, _BLOCK_ENTRIES // self.k)
        for a in range(0, self.n_tokens, step):
            b = min(self.n_tokens, a + step)
            yield slice(a, b), slice(a * self.k, b * self.k), Even(b - a, self.k)

    def shaped(self, values_E: Array) -> Array:
        """See `Layout`."""
        return values_E.reshape(self.n_tokens, self.k)

    def spread(self, values_N: Array) -> Array:
        """See `Layout`."""
        return values_N[:, None]

    def first(self, values_E: Array) -> Array:
        """See `Layout`."""
        return values_E[:: self.k]

    def largest(self, values_E: Array) -> Array:
        """See `Layout`."""
        return np.asarray(self.shaped(values_E).max(axis=1))

    def any_bit(self, values_E: Array) -> Array:
        """See `Layout`."""
        return np.asarray(np.bitwise_or.reduce(self.shaped(values_E), axis=1))

    def differences(self, values_E: Ints) -> Ints:
        """See `Layout`."""
        made_E = np.empty_like(values_E)
        np.subtract(values_E[1:], values_E[:-1], out=made_E[1:])
        made_E[:: self.k] = values_E[:: self.k]
        return made_E

    def sums(self, values_E: Ints) -> Ints:
        """See `Layout`."""
        # One running total over all tokens, less what it was before each: twice as fast as one a
        # token. It may wrap around; what it grows by within a token does not.
        totals_E = np.cumsum(values_E, dtype=np.int32)
        totals_NK = self.shaped(totals_E)
        totals_NK -= totals_NK[:, :1] - values_E[:: self.k, None]
        return totals_E

    def running_max(self, values_E: Ints) -> Ints:
        """See `Layout`."""
        return np.maximum.accumulate(self.shaped(values_E), axis=1).reshape(-1)

    def descends(self, values_E: Array) -> NDArray[np.bool_]:
        """See `Layout`."""
        made_E = np.ones(len(values_E), np.bool_)
        np.less_equal(values_E[1:], values_E[:-1], out=made_E[1:])
        made_E[:: self.k] = True
        return made_E

    def first_token(self) -> tuple[Layout, int]:
        """See `Layout`."""
        return Even(1, self.k), self.k


@dataclass(frozen=True)
class Ragged:
    """`counts_N` entries at each token, int64 (N,), each at least 1."""

    counts_N: NDArray[np.int64]

    @property
    def n_tokens(self) -> int:
        """N."""
        return len(self.counts_N)

    @property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.counts_N) - self.counts_N

    def blocks(self) -> Iterator[tuple[slice, slice, Layout]]:
        """See `Layout`."""
        ends_N = np.cumsum(self.counts_N)
        cuts = np.flatnonzero(np.diff(ends_N // _BLOCK_ENTRIES)) + 1
        for a, b in pairwise([0, *cuts.tolist(), self.n_tokens]):
            start = int(ends_N[a] - self.counts_N[a])
            yield slice(a, b), slice(start, int(ends_N[b - 1])), Ragged(self.counts_N[a:b])

    def shaped(self, values_E: Array) -> Array:
        """See `Layout`."""
        return values_E

    def spread(self, values_N: Array) -> Array:
        """See `Layout`."""
        return np.repeat(values_N, self.counts_N)

    def first(self, values_E: Array) -> Array:
        """See `Layout`."""
        return values_E[self._starts]

    def largest(self, values_E: Array) -> Array:
        """See `Layout`."""
        return np.maximum.reduceat(values_E, self._starts)

    def any_bit(self, values_E: Array) -> Array:
        """See `Layout`."""
        return np.bitwise_or.reduceat(values_E, self._starts)

    def differences(self, values_E: Ints) -> Ints:
        """See `Layout`."""
        made_E = np.diff(values_E, prepend=np.int32(0))
        starts = self._starts
        made_E[starts] = values_E[starts]
        return made_E

    def sums(self, values_E: Ints) -> Ints:
        """See `Layout`."""
        # A total may wrap around; what it grows by within a token does not.
        totals_E = np.cumsum(values_E, dtype=np.int32)
        starts = self._starts
        totals_E -= self.spread(totals_E[starts] - values_E[starts])
        return totals_E

    def running_max(self, values_E: Ints) -> Ints:
        """See `Layout`."""
        # No step reaches 2^32, so no token's entries reach the next one's.
        level_E = self.spread(np.arange(self.n_tokens) << 32)
        return (np.maximum.accumulate(values_E + level_E) - level_E).astype(np.int32)

    def descends(self, values_E: Array) -> NDArray[np.bool_]:
        """See `Layout`."""
        made_E = np.ones(len(values_E), np.bool_)
        np.less_equal(values_E[1:], values_E[:-1], out=made_E[1:])
        made_E[self._starts] = True
        return made_E

    def first_token(self) -> tuple[Layout, int]:
        """See `Layout`."""
        return Ragged(self.counts_N[:1]), int(self.counts_N[0])


@dataclass(frozen=True)
class Run:
    """Rows `first` to `last` of a table, of one layout; their tokens and entries lie in one piece.

    Attributes:
        rows: the rows.
        tokens: where they stand in the per-token arrays.
        entries: where they stand in the flat entries.
        layout: of all of them.
    """

    rows: slice
    tokens: slice
    entries: slice
    layout: Layout


def layout_of(kind: int, tokens: slice, counts_N: Ints | None) -> Layout:
    """The layout of some tokens of one kind; see `runs`."""
    if kind > 0:
        return Even(tokens.stop - tokens.start, kind)
    if counts_N is None:
        raise ValueError("a ragged row has no counts")
    return Ragged(counts_N[tokens].astype(np.int64))


def runs(
    kinds_R: Ints,
    flags_R: NDArray[np.bool_],
    tokens: NDArray[np.int64],
    entries: NDArray[np.int64],
    counts_N: Ints | None,
) -> Iterator[Run]:
    """Neighbouring rows of one layout and one flag.

    Args:
        kinds_R: 0 = left out, above 0 = that many entries at each token, -1 = ragged.
        flags_R: whatever else rows of one run must agree in.
        tokens: int64 (R + 1,), offsets of rows among tokens.
        entries: int64 (R + 1,), offsets of rows among entries.
        counts_N: int32 (N,), entries at each token; read for ragged rows alone.
    """
    changes = (np.diff(kinds_R) != 0) | (np.diff(flags_R.astype(np.int8)) != 0)
    for a, b in pairwise([0, *(np.flatnonzero(changes) + 1).tolist(), len(kinds_R)]):
        kind = int(kinds_R[a]) if a < b else 0
        if kind == 0 or tokens[a] == tokens[b]:
            continue
        of_tokens = slice(int(tokens[a]), int(tokens[b]))
        layout = layout_of(kind, of_tokens, counts_N)
        yield Run(slice(a, b), of_tokens, slice(int(entries[a]), int(entries[b])), layout)
