"""Which whole steps give a row's logprobs back: what the encoder of top-k has to find out.

Dimensions: R rows, N tokens, E entries; see topk_codec.py for the formula that steps stand in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2d_store.encoding.arrays import Bools, Offsets
from s2d_store.encoding.topk_layout import Floats, Ints, Layout, layout_of, runs

# bfloat16 logits above 1/16 are multiples of the first, float16 logits above 1/128 of the second.
UNITS = (2.0**-12, 2.0**-18)
# Up to this many, their product with a unit is exact in float32.
MOST_STEPS = 1 << 24
# An entry kept by itself takes 8 bytes, one of a row of floats 3 more than one in steps.
_MOST_EXACT = 1 / 8
# From here on it is worth looking whether a finer unit leaves fewer.
_MANY_EXACT = 1 / 64
_COARSEST_EXPONENT = 20
# Numbers from this on are large: gaps, which take two bits, and steps, which take eight.
LARGE_GAP, LARGE_STEP = 3, 255

Positions = NDArray[np.int64]


@dataclass
class Steps:
    """What is found of R rows, N tokens and E entries.

    Attributes:
        units: float32 (R,); 0 where a row keeps its logprobs.
        descending: bool (R,), True where no entry of any token is above the one before it.
        tops_N: float32, what a token's steps count from: its largest entry, or one above.
        exponents_N: uint8: a token's unit is its row's times two to this.
        numbers_E: uint8: gaps of steps in rows that descend, else steps; LARGE_GAP or LARGE_STEP
            where they are that or more.
        large: int64 positions among E, ascending, of such numbers, and the numbers, int32.
        exact: int64 positions among E, ascending, of entries that steps do not give back.
    """

    units: Floats
    descending: Bools
    tops_N: Floats
    exponents_N: NDArray[np.uint8]
    numbers_E: NDArray[np.uint8]
    large: tuple[Positions, Ints]
    exact: Positions


@dataclass(frozen=True)
class _Part:
    """Rows of one layout, or some of a row's tokens: where they stand, and whether they descend."""

    tokens: slice
    entries: slice
    layout: Layout
    descending: bool


def below(tops: Floats, steps: Ints | Floats, units: np.float32 | Floats) -> Floats:
    """Logprobs: each product is exact, each difference rounded to float32 once."""
    made = steps.astype(np.float32)
    made *= units
    return np.subtract(tops, made, out=made)


def find(
    logprobs_E: Floats,
    kinds_R: Ints,
    counts_N: Ints | None,
    tokens: Offsets,
    entries: Offsets,
) -> Steps:
    """Find steps for the rows of some kind; see `topk_layout.runs` for the arguments."""
    n_rows = len(kinds_R)
    made = Steps(
        units=np.zeros(n_rows, np.float32),
        descending=np.zeros(n_rows, np.bool_),
        tops_N=np.zeros(tokens[-1], np.float32),
        exponents_N=np.zeros(tokens[-1], np.uint8),
        numbers_E=np.zeros(len(logprobs_E), np.uint8),
        large=(np.zeros(0, np.int64), np.zeros(0, np.int32)),
        exact=np.zeros(0, np.int64),
    )
    kinds_R = _without_floats(logprobs_E, kinds_R, counts_N, tokens, entries)
    for run in runs(kinds_R, made.descending.copy(), tokens, entries, counts_N):
        down_E = run.layout.descends(logprobs_E[run.entries])
        for row in range(run.rows.start, run.rows.stop):
            start = run.entries.start
            made.descending[row] = down_E[entries[row] - start : entries[row + 1] - start].all()
    exact: list[Positions] = []
    large = _Large()
    for run in runs(kinds_R, made.descending, tokens, entries, counts_N):
        descending = bool(made.descending[run.rows.start])
        whole = _Part(run.tokens, run.entries, run.layout, descending)
        bad = _fill(made, logprobs_E, whole, UNITS[0], large)
        made.units[run.rows] = UNITS[0]
        cuts = np.searchsorted(bad, entries[run.rows.start : run.rows.stop + 1])
        for i in np.flatnonzero(np.diff(cuts)).tolist():
            row = run.rows.start + i
            of_tokens = slice(int(tokens[row]), int(tokens[row + 1]))
            of_entries = slice(int(entries[row]), int(entries[row + 1]))
            layout = layout_of(int(kinds_R[row]), of_tokens, counts_N)
            part = _Part(of_tokens, of_entries, layout, descending)
            own = bad[cuts[i] : cuts[i + 1]]
            unit, rest = _best(made, logprobs_E, part, own, large)
            made.units[row] = unit
            exact.append(rest)
    if exact:
        made.exact = np.concatenate(exact)
    made.large = large.whole()
    return made


class _Large:
    """Large numbers and where they stand, as they are found; a part that is filled again counts as
    it was filled last.
    """

    def __init__(self) -> None:
        self._at: list[Positions] = []
        self._numbers: list[Ints] = []
        self._again = False

    def add(self, at: Positions, numbers: Ints) -> None:
        self._at.append(at)
        self._numbers.append(numbers)

    def replace(self, entries: slice, found: _Large) -> None:
        """Put other numbers in place of all that were found there."""
        self._again = True
        for i, at in enumerate(self._at):
            if len(at) and at[0] < entries.stop and at[-1] >= entries.start:
                kept = (at < entries.start) | (at >= entries.stop)
                self._at[i], self._numbers[i] = at[kept], self._numbers[i][kept]
        self.add(*found.whole())

    def whole(self) -> tuple[Positions, Ints]:
        """All of them by position."""
        at = np.concatenate([np.zeros(0, np.int64), *self._at])
        numbers = np.concatenate([np.zeros(0, np.int32), *self._numbers])
        if self._again:
            order = np.argsort(at, kind="stable")
            at, numbers = at[order], numbers[order]
        return at, numbers


def _without_floats(
    logprobs_E: Floats, kinds_R: Ints, counts_N: Ints | None, tokens: Offsets, entries: Offsets
) -> Ints:
    """The kinds, 0 too at rows of logits that were never rounded: their first token tells them
    apart, at next to no cost.
    """
    rows = np.flatnonzero((kinds_R != 0) & (np.diff(entries) > 0))
    sizes = kinds_R[rows].astype(np.int64)
    if counts_N is not None:
        sizes = np.where(sizes < 0, counts_N[tokens[rows]], sizes)
    if not len(rows):
        return kinds_R
    places = np.arange(sizes.max())
    has = places < sizes[:, None]
    firsts = logprobs_E[entries[rows][:, None] + np.where(has, places, 0)]
    tops = firsts.max(axis=1)[:, None]
    some = np.zeros(len(rows), np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.rint((tops - firsts) * np.float32(1 / UNITS[0]))
        # As near as can be if the top was rounded too; one in 60 float32 logits is by chance.
        near = np.abs(tops - steps * UNITS[0] - firsts) <= 2 * np.spacing(np.abs(firsts))
        some |= 2 * (near & has).sum(axis=1) >= sizes
        steps = np.rint((tops - firsts) * np.float32(1 / UNITS[1]))
        # Half of float32 logits are multiples of this unit by chance.
        good = below(tops, steps, np.float32(UNITS[1])) == firsts
        some |= 4 * (good & has).sum(axis=1) >= 3 * sizes
    kinds = kinds_R.copy()
    kinds[rows[~some]] = 0
    return kinds


def _fill(
    made: Steps, logprobs_E: Floats, part: _Part, unit: float, large: _Large, exact: bool = True
) -> Positions:
    """Write a part's tops, exponents and numbers in steps of `unit`, the large ones to `large`.

    Returns:
        positions of entries that this does not give back, ascending; where not `exact`, none.
    """
    bad: list[Positions] = []
    tops_N, exponents_N = made.tops_N[part.tokens], made.exponents_N[part.tokens]
    numbers_E, wanted_E = made.numbers_E[part.entries], logprobs_E[part.entries]
    with np.errstate(invalid="ignore", over="ignore"):  # infinities: not given back
        for of_tokens, of_entries, layout in part.layout.blocks():
            wanted = wanted_E[of_entries]
            tops = layout.first(wanted) if part.descending else layout.largest(wanted)
            steps = _steps(layout, wanted, tops, unit)
            if exact:
                good = _given_back(layout, wanted, tops, steps, unit)
                if not part.descending and not good.all():
                    tops = _finer_tops(layout, wanted, tops, steps, good, unit)
                    steps = _steps(layout, wanted, tops, unit)
                    good = _given_back(layout, wanted, tops, steps, unit)
                if not good.all() or steps.max() > MOST_STEPS:
                    good &= (steps >= 0) & (steps <= MOST_STEPS)
                    at = np.flatnonzero(~good.reshape(-1))
                    bad.append(at + (part.entries.start + of_entries.start))
                    # What is kept by itself repeats the entry before it: gaps stay at least 0.
                    steps.reshape(-1)[at] = 0
                    if part.descending:
                        steps = layout.running_max(steps.reshape(-1))
                    tops = np.where(np.isfinite(tops), tops, np.float32(0))
            steps = steps.reshape(-1)
            bits = layout.any_bit(steps)
            exponents = np.full(len(bits), _COARSEST_EXPONENT, np.uint8)
            np.log2(bits & -bits, out=exponents, where=bits != 0, casting="unsafe")
            np.minimum(exponents, _COARSEST_EXPONENT, out=exponents)
            if part.descending:
                steps = layout.differences(steps)
            shaped = layout.shaped(steps)
            shaped >>= layout.spread(exponents.astype(np.int32))
            limit = LARGE_GAP if part.descending else LARGE_STEP
            at = np.flatnonzero(steps >= limit)
            large.add(at + (part.entries.start + of_entries.start), steps[at])
            numbers_E[of_entries] = np.minimum(steps, limit, out=steps)
            tops_N[of_tokens], exponents_N[of_tokens] = tops, exponents
    return np.concatenate(bad) if bad else np.zeros(0, np.int64)


def _steps(layout: Layout, wanted_E: Floats, tops_N: Floats, unit: float) -> Ints:
    """The nearest whole steps below the tops, shaped as the layout says."""
    gaps = layout.spread(tops_N) - layout.shaped(wanted_E)
    gaps *= np.float32(1 / unit)
    steps: Ints = np.rint(gaps, out=gaps).astype(np.int32)
    return steps


def _given_back(
    layout: Layout, wanted_E: Floats, tops_N: Floats, steps: Ints, unit: float
) -> Bools:
    """Which entries come back in every bit, shaped as the layout says."""
    back = below(layout.spread(tops_N), steps, np.float32(unit))
    return np.asarray(back.view(np.int32) == layout.shaped(wanted_E).view(np.int32))


def _finer_tops(
    layout: Layout, wanted_E: Floats, tops_N: Floats, steps: Ints, good: Bools, unit: float
) -> Floats:
    """What the steps of tokens that are not given back should count from instead.

    Where a model's likeliest token is not among the ids, the largest entry was itself rounded. Each
    entry says within half a unit in its last place what it was rounded from; what all agree on is
    kept, moved up by whole steps to where float32 is fine enough to hold it.
    """
    exact = layout.shaped(wanted_E).astype(np.float64)
    half = np.spacing(np.abs(layout.shaped(wanted_E))).astype(np.float64) / 2
    exact += steps * unit
    low_N = layout.largest((exact - half).reshape(-1))
    high_N = -layout.largest((-exact - half).reshape(-1))
    middle_N, width_N = (low_N + high_N) / 2, high_N - low_N
    bits_N = layout.any_bit(steps.reshape(-1)).astype(np.int64)
    grid_N = np.maximum(bits_N & -bits_N, 1) * unit
    # A float32 this far from 0 lies within a quarter of the width of any number.
    far_N = np.maximum(np.abs(middle_N) - width_N * 2.0**22, 0)
    found_N = (middle_N + np.ceil(far_N / grid_N) * grid_N).astype(np.float32)
    bad_N = layout.any_bit(~good.reshape(-1)) & (width_N > 0) & np.isfinite(found_N)
    return np.where(bad_N, found_N, tops_N)


def _best(
    made: Steps,
    logprobs_E: Floats,
    row: _Part,
    bad: Positions,
    large: _Large,
) -> tuple[float, Positions]:
    """Write the steps of a row that UNITS[0] does not give back as a whole.

    Args:
        made: the row's steps of UNITS[0] stand in it.
        logprobs_E: every entry.
        row: the row.
        bad: what UNITS[0] does not give back.
        large: large numbers so far, the row's among them.

    Returns:
        its unit, 0 where it is to keep its logprobs, and positions of entries kept by themselves.
    """
    unit, size = UNITS[0], row.entries.stop - row.entries.start
    most = size * _MOST_EXACT
    if len(bad) > size * _MANY_EXACT:
        # One token tells apart logits that were never rounded, at next to no cost.
        if not len(_fill(made, logprobs_E, _first_token(row), UNITS[1], _Large())):
            finer_large = _Large()
            finer = _fill(made, logprobs_E, row, UNITS[1], finer_large)
            if len(finer) < len(bad):
                unit, bad = UNITS[1], finer
                large.replace(row.entries, finer_large)
        if unit == UNITS[0] and len(bad) <= most:
            _fill(made, logprobs_E, row, unit, _Large())
    if len(bad) <= most:
        return unit, bad
    large.replace(row.entries, _Large())
    return 0.0, np.zeros(0, np.int64)


def _first_token(row: _Part) -> _Part:
    layout, size = row.layout.first_token()
    tokens = slice(row.tokens.start, row.tokens.start + 1)
    entries = slice(row.entries.start, row.entries.start + size)
    return _Part(tokens, entries, layout, row.descending)
