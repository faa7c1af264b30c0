"""Rewards of a dataset's rows, for formats that compare rollouts."""

from __future__ import annotations

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError


def require_rewards(dataset: LockedDataset, format_: str) -> None:
    """Refuse a dataset whose rows have no reward.

    Raises:
        DatasetError: it has no column `reward`.
    """
    if "reward" not in dataset.columns:
        raise DatasetError(
            f"dataset {dataset.lock.name} ({dataset.lock.kind}) has no column reward",
            f"{format_} compares rollouts by it",
            "build one with a query that gives reward, as grpo and sft do",
        )
