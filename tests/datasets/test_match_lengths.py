"""Matching a control's rows with rollouts by length: properties, against a plain search."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_store.datasets.match_lengths import assign, nearest_slots

LENGTH = st.integers(1, 60)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows with lengths and updates, chances, and at least as many slots in order of length."""
    wanted = draw(st.lists(LENGTH, min_size=1, max_size=30))
    n = len(wanted)
    update = sorted(draw(st.lists(st.integers(1, 5), min_size=n, max_size=n)))
    chance = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=n, max_size=n))
    slots = sorted(draw(st.lists(LENGTH, min_size=n, max_size=n + 20)))
    return tuple(map(np.array, (wanted, update, chance, slots)))  # type: ignore[return-value]


@given(problems())
def test_each_row_has_a_slot_of_its_own(problem: tuple[np.ndarray, ...]) -> None:
    wanted, update, chance, lengths = problem
    slots = assign(wanted, update, chance, lengths)
    assert len(set(slots.tolist())) == len(wanted)
    assert slots.min() >= 0 and slots.max() < len(lengths)


@given(problems())
def test_longer_rows_get_longer_rollouts(problem: tuple[np.ndarray, ...]) -> None:
    wanted, _, chance, lengths = problem
    slots = nearest_slots(wanted.astype(float), chance, lengths)
    order = np.argsort(slots)
    near = np.abs(lengths[:, None] - wanted[order][None]).min(0)
    taken = wanted[order]
    # A row may pass another only where chance sent them to different lengths around both.
    for shorter, longer, gap in zip(taken[1:], taken[:-1], near[1:], strict=True):
        assert longer <= shorter or gap > 0


@given(problems())
def test_the_first_round_is_never_made_worse(problem: tuple[np.ndarray, ...]) -> None:
    wanted, update, chance, lengths = problem

    def worst(slots: np.ndarray) -> float:
        off = np.bincount(update, wanted - lengths[slots]) / np.maximum(
            1, np.bincount(update, wanted)
        )
        return float(np.abs(off).max())

    first = nearest_slots(wanted.astype(float), chance, lengths)
    assert worst(assign(wanted, update, chance, lengths)) <= worst(first)


@given(st.lists(LENGTH, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_same_lengths_match_exactly(lengths: list[int], random: object) -> None:
    wanted = np.array(lengths)
    np.random.default_rng(len(lengths)).shuffle(wanted)
    slots = assign(
        wanted, np.ones(len(wanted), int), np.zeros(len(wanted)), np.array(sorted(lengths))
    )
    np.testing.assert_array_equal(np.array(sorted(lengths))[slots], wanted)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5).map(sorted),
    st.integers(0, 2),
)
def test_no_assignment_moves_a_row_less_far(places: list[int], spare: int) -> None:
    """Slots of lengths 0, 1, 2, ..: a row's natural slot is its own length."""
    lengths = np.arange(7 + spare)
    asked = np.array(places, float)
    slots = nearest_slots(asked, np.zeros(len(places)), lengths)
    moved = np.abs(slots - asked).max()
    assert moved == min(
        np.abs(np.array(choice) - asked).max()
        for choice in permutations(range(len(lengths)), len(places))
    )


def test_what_cannot_be_assigned_is_refused() -> None:
    one = np.ones(1, int)
    with pytest.raises(ValueError, match="2 rows need as many slots, there are 1"):
        assign(np.ones(2, int), np.ones(2, int), np.zeros(2), one)
    with pytest.raises(ValueError, match="not in order of length"):
        assign(one, one, np.zeros(1), np.array([3, 2]))
    assert assign(one[:0], one[:0], np.zeros(0), one).tolist() == []
