"""Percentile intervals of means by the bootstrap: resamples with replacement, the same anywhere.

Sizes: `S` samples of `N` values each, `R` resamples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 0.025, 0.975
# Draws that are held in memory at a time.
_BLOCK = 1 << 21
# Means are rounded, so that the order of a sum can never tip a digit that is shown.
_DIGITS = 9
Floats = NDArray[np.float64]


def mean_intervals(values_SN: Floats, resamples: int, seed: int) -> Floats:
    """The 2.5th and 97.5th percentile of each sample's mean over resamples of its N values.

    All samples are resampled alike, so that samples of the same things stay paired.

    Args:
        values_SN: the samples, (S, N), N at least 1.
        resamples: how many, R.
        seed: any whole number.

    Returns:
        low and high, (S, 2).
    """
    size = values_SN.shape[1]
    means = [counts_RN @ values_SN.T / size for counts_RN in draw_counts(size, resamples, seed)]
    means_RS = np.round(np.concatenate(means), _DIGITS)
    low_high_2S: Floats = np.quantile(means_RS, (LOW, HIGH), axis=0)
    return low_high_2S.T


def draw_counts(size: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each of `size` values is drawn in each resample, in blocks of resamples.

    A row is multinomial: `size` draws, each value alike. Draws are 32 bits of PCG64, whose stream
    NumPy keeps the same on any machine and version; bits x size / 2^32 is uniform to within
    size / 2^32. A resample's draws depend on seed and its number alone, never on the blocks.

    Yields:
        counts, (R', size), whole numbers as float64; the R' sum to `resamples`.
    """
    words = (size + 1) // 2
    stream = np.random.PCG64(seed % 2**64)
    at_once = max(1, _BLOCK // size)
    for first in range(0, resamples, at_once):
        block = min(at_once, resamples - first)
        raw = stream.random_raw(block * words).reshape(block, words)
        bits = np.concatenate((raw & 0xFFFFFFFF, raw >> 32), axis=1)[:, :size]
        place_RN = (bits * size >> 32).astype(np.int64)
        place_RN += np.arange(block)[:, None] * size
        counts = np.bincount(place_RN.ravel(), minlength=block * size)
        yield counts.reshape(block, size).astype(np.float64)
