"""What was done before a setting existed still counts as done with that setting's default."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from s2d_store.config_identity import defaults, diff_settings, non_default
from s2d_store.errors import TrainingError
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.config import SFTConfig
from trainers.sft import train_sft


@dataclass(frozen=True)
class Before:
    given: str
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    args: dict[str, int] = field(default_factory=dict)


def test_ids_are_made_of_what_is_not_a_default() -> None:
    unless = defaults(Before)
    assert unless == {"lr": 1e-3, "betas": [0.9, 0.95], "args": {}}
    values = {"given": "x", "lr": 1e-3, "betas": (0.9, 0.99), "args": {}, "other": None}
    assert non_default(values, unless) == {"given": "x", "betas": (0.9, 0.99), "other": None}


@pytest.mark.parametrize(
    ("stored", "now", "found"),
    [
        ({"lr": 1.0}, {"lr": 1.0, "later": 0}, {}),
        ({"lr": 1.0}, {"lr": 1.0, "later": 2}, {"later": (0, 2)}),
        ({"lr": 1.0, "later": 2}, {"lr": 1.0}, {"later": (2, 0)}),
        ({"lr": 1.0, "dropped": 5}, {"lr": 1.0}, {"dropped": (5, None)}),
        ({"betas": [1, 2]}, {"betas": (1, 2)}, {}),
        ({"train": {"lr": 1}}, {"train": {"lr": 1, "later": 3}}, {}),
        ({"train": {"lr": 1}}, {"train": {"lr": 2, "later": 4}},
         {"train.later": (3, 4), "train.lr": (1, 2)}),
        ({}, {"train": {"later": 3}}, {}),
        ({}, {"unknown": 1}, {"unknown": (None, 1)}),
    ],
)  # fmt: skip
def test_a_missing_setting_is_its_default(
    stored: dict[str, object], now: dict[str, object], found: dict[str, object]
) -> None:
    assert diff_settings(stored, now, {"later": 0, "train": {"later": 3}}) == found


@dataclass(frozen=True, kw_only=True)
class LaterConfig(SFTConfig):
    """As a later version might have it."""

    later: int = 0


def test_a_checkpoint_goes_on_when_a_setting_is_added(tmp_path: Path) -> None:
    student = save_tiny_model(tmp_path / "student")
    dataset = write_locked(tmp_path / "sft", bigram_rows([1, 1, 2, 2]), kind="sft")
    given: dict[str, Any] = {
        "dataset": str(dataset),
        "student": str(student),
        "output": str(tmp_path / "out"),
    }
    assert train_sft(SFTConfig(**given)).resumed_update == 0
    assert train_sft(LaterConfig(**given)).resumed_update == 2
    with pytest.raises(TrainingError, match="belongs to another run") as refused:
        train_sft(LaterConfig(**given, later=3))
    assert refused.value.why == "later was 0, is 3"
