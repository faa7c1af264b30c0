"""Rewards of a dataset's rows, for formats that compare rollouts or train on each alike."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from s2d_store.datasets.exports.base import Written
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


def count_wrong(dataset: LockedDataset, chosen: pa.Table, written: Written) -> None:
    """Note how many of the chosen rows have a reward of 0 or less, where the rows have rewards.

    Supervised training makes them as likely as the right ones: a GRPO dataset holds both.
    """
    if "reward" in dataset.columns:
        rewards = dataset.light(["reward"]).column("reward").take(chosen.column("row"))
        wrong = pc.sum(pc.less_equal(rewards, 0)).as_py()
        if wrong:
            written.facts["wrong"] = wrong
