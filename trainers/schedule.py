"""The learning rate as a pure function of the update's number, so nothing of it needs saving."""

from __future__ import annotations

import math

from trainers.config import LRSchedule


def lr_factor(update: float, n_updates: int, schedule: LRSchedule, warmup_updates: int) -> float:
    """Factor in [0, 1] on the peak learning rate.

    Args:
        update: 1-based; between two where a run takes fewer updates than were planned for it.
        n_updates: updates of the whole schedule; beyond it the factor stays where it ends.
        schedule: what follows the warmup; cosine and linear would reach 0 one update after the
            last, so that the last one still learns.
        warmup_updates: the factor rises linearly and is 1 at this update.
    """
    if update < warmup_updates:
        return update / warmup_updates
    if schedule == "constant":
        return 1.0
    peak = max(1, warmup_updates)
    progress = min(1.0, (update - peak) / max(1, n_updates + 1 - peak))
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
