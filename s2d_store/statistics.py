"""Intervals of means and tests of differences over independent units: prompts, or training seeds.

Each function takes one value per unit. Several rollouts of a prompt are one unit, whose value is
their mean: they share the prompt, so they are not independent. Intervals are at 95%, and
tests/evaluation/test_statistics.py measures how often they hold the truth. scipy is imported when
the first t quantile is asked for.

References:
    Hall (1992), On the removal of skewness by transformation, J. R. Statist. Soc. B 54.
    Zhou and Gao (2000), One-sided confidence intervals for means of positively skewed
    distributions, The American Statistician 54: the same with Student's t.
    Schuirmann (1987): two one-sided tests of equivalence (TOST).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
_UPPER = (1 + LEVEL) / 2


class Interval(NamedTuple):
    """The standard error of a mean and its 95% interval; None where one unit says nothing."""

    standard_error: float | None
    low: float | None
    high: float | None


class PairedTest(NamedTuple):
    """What paired differences say of their mean.

    Attributes:
        standard_error: of the mean difference.
        low, high: its 95% interval.
        p: two-sided, of the hypothesis that the mean difference is 0.
        p_equivalent: of the hypothesis that it lies outside -margin .. margin; small where the
            two are equivalent. None without a margin.
    """

    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None
    p_equivalent: float | None


_UNKNOWN = Interval(None, None, None)


def standard_error(values_N: Floats) -> float:
    """Sample standard deviation over sqrt(N), N at least 2."""
    return float(np.std(values_N, ddof=1) / np.sqrt(len(values_N)))


def mean_interval(values_N: Floats, *, bounded: bool = False) -> Interval:
    """The mean's 95% interval: Student's t after Hall's transformation, which removes skewness.

    Pass rates near 0 or 1 are skewed: at 30 prompts and a mean of 0.1 a plain t interval or a
    bootstrap covers 89%. Where all values are 0, or all are 1, and `bounded`, the other end is
    Clopper and Pearson's: other units may differ without one of them being among these.

    Args:
        values_N: one value per unit; of none or one, the interval is unknown.
        bounded: the values are shares: nothing lies below 0 or above 1.
    """
    size = len(values_N)
    if size < 2:
        return _UNKNOWN
    mean, deviation = float(values_N.mean()), float(values_N.std(ddof=1))
    if np.ptp(values_N) == 0:
        unseen = 1 - (1 - _UPPER) ** (1 / size) if bounded else 0.0
        low = mean - unseen if mean == 1 else mean
        return Interval(0.0, low, mean + unseen if mean == 0 else mean)
    centred_N = values_N - mean
    skewness = float(np.mean(centred_N**3) / np.mean(centred_N**2) ** 1.5)
    quantile = student_quantile(_UPPER, size - 1)
    low = mean - deviation * _unskewed(quantile, skewness, size)
    high = mean - deviation * _unskewed(-quantile, skewness, size)
    if bounded:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(deviation / np.sqrt(size), low, high)


def _unskewed(t: float, skewness: float, size: int) -> float:
    """Hall's inverse transformation of a t quantile, over sqrt(size)."""
    shifted = (t - skewness / (6 * np.sqrt(size))) / np.sqrt(size)
    if abs(skewness) < 1e-6:
        return float(shifted)
    return float((np.cbrt(1 + skewness * shifted) - 1) * 3 / skewness)


def t_interval(values_N: Floats) -> Interval:
    """The mean's 95% interval by Student's t, for values without skewness or too few to tell."""
    size = len(values_N)
    if size < 2:
        return _UNKNOWN
    mean, error = float(values_N.mean()), standard_error(values_N)
    half = student_quantile(_UPPER, size - 1) * error
    return Interval(error, mean - half, mean + half)


def paired_test(differences_N: Floats, margin: float | None = None) -> PairedTest:
    """Student's t over paired differences: interval, p-value, and equivalence within `margin`.

    Equal differences have no spread to judge by. Other than 0, their p is a sign test's, 2^(1 - N),
    and their equivalence is unknown. All 0, the p of equivalence is (1 - margin)^N, which holds for
    values between 0 and 1.

    Args:
        differences_N: one difference per unit that both sides have.
        margin: differences up to it do not matter; above 0.
    """
    size, interval = len(differences_N), t_interval(differences_N)
    error, mean = interval.standard_error, float(differences_N.mean()) if size else 0.0
    if error is None:
        return PairedTest(*interval, None, None)
    if np.ptp(differences_N) == 0:
        if mean != 0:
            return PairedTest(0.0, mean, mean, 2.0 ** (1 - size), None)
        alike = None if margin is None else max(0.0, 1 - margin) ** size
        return PairedTest(0.0, 0.0, 0.0, 1.0, alike)
    p = 2 * student_tail(abs(mean) / error, size - 1)
    equivalent = None
    if margin is not None:
        equivalent = student_tail((margin - abs(mean)) / error, size - 1)
    return PairedTest(*interval, p, equivalent)


def student_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t with that many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def student_tail(t: float, degrees: int) -> float:
    """The probability that Student's t with that many degrees of freedom lies above `t`."""
    from scipy.special import stdtr

    return float(stdtr(degrees, -t))
