"""Give each row of a control's treatment a stored rollout of nearly its length.

Both sides are sorted by length. A row's natural slot is where its length stands among the rollouts
(between two lengths, chance decides, so that sums are kept); slots that collide are moved apart by
as few places as possible. Where lengths run out, an update misses tokens: the next round asks each
of its rows for its share of them. The round whose worst update is best counts.

Sizes: `N` rows of the treatment, `S` slots.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 4
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def assign(wanted_N: Ints, update_N: Ints, chance_N: Floats, lengths_S: Ints) -> Ints:
    """A slot of its own for each row, so that lengths match row by row and in each update.

    Args:
        wanted_N: response tokens of the treatment's rows, in order of `row`.
        update_N: the update of each row, any numbers.
        chance_N: between 0 and 1; breaks ties and rounds.
        lengths_S: response tokens of the slots, ascending; at least N of them.

    Returns:
        slots, 0-based, (N,), each at most once.

    Raises:
        ValueError: fewer slots than rows, or lengths that fall.
    """
    if len(lengths_S) < len(wanted_N):
        raise ValueError(f"{len(wanted_N)} rows need as many slots, there are {len(lengths_S)}")
    if np.any(np.diff(lengths_S) < 0):
        raise ValueError("slots are not in order of length")
    _, group_N = np.unique(update_N, return_inverse=True)
    size_U = np.bincount(group_N)
    wanted_U = np.bincount(group_N, wanted_N)
    asked_N = wanted_N.astype(np.float64)
    best, least = np.empty(0, np.int64), np.inf
    for _ in range(ROUNDS if len(wanted_N) else 0):
        slot_N = nearest_slots(asked_N, chance_N, lengths_S)
        missed_U = np.bincount(group_N, wanted_N - lengths_S[slot_N])
        worst = float((np.abs(missed_U) / np.maximum(wanted_U, 1)).max())
        if worst < least:
            best, least = slot_N, worst
        asked_N = asked_N + (missed_U / size_U)[group_N]
    return best


def nearest_slots(asked_N: Floats, chance_N: Floats, lengths_S: Ints) -> Ints:
    """A slot of its own for each row, as near as possible to the length that it asks for.

    The largest distance between a row's slot and its natural one is as small as it can be:
    isotonic regression of the ranks in the maximum norm, which is the mean of a running maximum
    from the left and a running minimum from the right.
    """
    natural_N, order_N = _natural_slots(asked_N, chance_N, lengths_S)
    place_N = np.arange(len(asked_N))
    moved_N = natural_N[order_N] - place_N
    left_N = np.maximum.accumulate(moved_N)
    right_N = np.minimum.accumulate(moved_N[::-1])[::-1]
    spare = len(lengths_S) - len(asked_N)
    slot_N = np.empty(len(asked_N), np.int64)
    slot_N[order_N] = place_N + np.clip((left_N + right_N) // 2, 0, spare)
    return slot_N


def _natural_slots(asked_N: Floats, chance_N: Floats, lengths_S: Ints) -> tuple[Ints, Ints]:
    """Where each row's length stands among the slots, and the rows in that order."""
    tokens_L, first_L, count_L = np.unique(lengths_S, return_index=True, return_counts=True)
    step_N = np.clip(np.floor(asked_N), tokens_L[0], tokens_L[-1])
    below_N = np.searchsorted(tokens_L, step_N, side="right") - 1
    above_N = np.minimum(below_N + 1, len(tokens_L) - 1)
    low_N, high_N = tokens_L[below_N], tokens_L[above_N]
    near_N = np.where(asked_N - low_N > chance_N * (high_N - low_N), above_N, below_N)
    order_N = np.lexsort((np.arange(len(asked_N)), chance_N, asked_N, near_N))
    # Rows that are nearest to one length spread evenly over its slots.
    rows_L = np.bincount(near_N, minlength=len(tokens_L))
    rank_N = np.empty(len(asked_N), np.int64)
    rank_N[order_N] = np.arange(len(asked_N)) - (np.cumsum(rows_L) - rows_L)[near_N[order_N]]
    spread_N = (2 * rank_N + 1) * count_L[near_N] // (2 * rows_L[near_N])
    return first_L[near_N] + spread_N, order_N
