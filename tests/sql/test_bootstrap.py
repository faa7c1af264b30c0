"""Bootstrap draws and intervals: properties, and the SQL function over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_store.sql import bootstrap, connection
from s2d_store.sql.bootstrap import draw_counts, mean_intervals
from s2d_store.store import Store

SEEDS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=1, max_size=40)


def counts(size: int, resamples: int, seed: int) -> np.ndarray:
    return np.concatenate(list(draw_counts(size, resamples, seed)))


@given(st.integers(1, 70), st.integers(1, 50), SEEDS)
def test_every_resample_has_as_many_draws_as_values(size: int, resamples: int, seed: int) -> None:
    drawn = counts(size, resamples, seed)
    assert drawn.shape == (resamples, size)
    assert (drawn.sum(1) == size).all() and (drawn >= 0).all()


@given(st.integers(1, 70), st.integers(2, 50), SEEDS, st.integers(1, 200))
def test_blocks_and_later_resamples_change_no_draw(
    size: int, resamples: int, seed: int, block: int
) -> None:
    whole = counts(size, resamples, seed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bootstrap, "_BLOCK", block)
        np.testing.assert_array_equal(counts(size, resamples, seed), whole)
    np.testing.assert_array_equal(counts(size, resamples - 1, seed), whole[:-1])


@settings(deadline=None)
@given(VALUES, st.integers(1, 60), SEEDS)
def test_intervals_lie_within_the_values(values: list[float], resamples: int, seed: int) -> None:
    sample = np.array([values])
    ((low, high),) = mean_intervals(sample, resamples, seed)
    assert sample.min() - 1e-8 <= low <= high <= sample.max() + 1e-8
    if len(set(values)) == 1:
        assert low == high == pytest.approx(values[0], abs=1e-8)


@settings(deadline=None)
@given(VALUES, st.floats(-10, 10), st.integers(1, 60), SEEDS)
def test_intervals_move_with_the_values(
    values: list[float], shift: float, resamples: int, seed: int
) -> None:
    """And turn round with their sign; each sample's interval is the one that it has alone."""
    sample = np.array(values)
    together = mean_intervals(np.stack([sample, sample + shift, -sample]), resamples, seed)
    np.testing.assert_allclose(together[1], together[0] + shift, atol=1e-7)
    np.testing.assert_allclose(together[2], -together[0][::-1], atol=1e-7)
    np.testing.assert_allclose(mean_intervals(sample[None], resamples, seed)[0], together[0])


def test_draws_are_these_for_ever() -> None:
    assert counts(5, 2, 7).astype(int).tolist() == DRAWN
    assert counts(5, 2, -7).astype(int).tolist() != DRAWN


DRAWN = [[0, 0, 1, 2, 2], [1, 3, 0, 0, 1]]


def test_the_sql_function(store: Store) -> None:
    con = store.connect()
    text = """
        SELECT name, bootstrap_interval(list(x ORDER BY place), $n, 3) AS bounds
        FROM (VALUES
            ('a', 0, 1.0), ('a', 1, 2.0), ('a', 2, 4.0), ('b', 0, 5.0), ('b', 1, NULL),
            ('c', 0, NULL), ('d', 0, 1.5)
        ) AS t (name, place, x)
        GROUP BY name ORDER BY name
    """
    for _ in range(2):
        connection.prepare(con, text)
    found = dict(con.execute(text, {"n": 100}).fetchall())
    ((low, high),) = mean_intervals(np.array([[1.0, 2.0, 4.0]]), 100, 3)
    assert found == {
        "a": {"low": low, "high": high},
        "b": {"low": 5.0, "high": 5.0},
        "c": None,
        "d": {"low": 1.5, "high": 1.5},
    }
    assert set(con.execute(text, {"n": None}).fetchall()) == {(name, None) for name in found}
