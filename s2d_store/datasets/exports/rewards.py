"""Rewards of a dataset's rows, for formats that compare rollouts."""

from __future__ import annotations

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError


def require_rewards(dataset: LockedDataset, format_: str) -> None:
    """Refuse a dataset whose rows have no reward.

    Raises:
        DatasetError: it has no column `reward`, or only nulls in it.
    """
    fix = "build one with a query that reads rewards, as --query grpo does"
    if "reward" not in dataset.columns:
        raise DatasetError(
            f"dataset {dataset.lock.name} ({dataset.lock.kind}) has no column reward",
            f"{format_} compares rollouts by it",
            fix,
        )
    rewards = dataset.light(["reward"]).column("reward")
    if rewards.null_count == len(rewards):
        raise DatasetError(
            f"no row of dataset {dataset.lock.name} has a reward",
            f"{format_} compares rollouts by it, and no reward chose or weighed these",
            fix,
        )
