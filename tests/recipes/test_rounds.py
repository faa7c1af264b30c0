"""Rounds: training that goes on where the run that made the student stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from s2d_store.errors import TrainingError
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.config import WarmupConfig
from trainers.schedule import lr_factor
from trainers.warmup import train_warmup

HALF, ROWS = 3, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds of HALF updates, and both as one dataset; a student stored in bfloat16."""
    place = tmp_path_factory.mktemp("rounds")
    save_tiny_model(place / "fp32")
    shutil.copytree(place / "fp32", place / "student")
    model = AutoModelForCausalLM.from_pretrained(place / "fp32", dtype=torch.bfloat16)
    model.save_pretrained(place / "student")
    updates = [1 + i // ROWS for i in range(2 * HALF * ROWS)]
    rows = bigram_rows(updates)
    write_locked(place / "whole", rows)
    first, second = rows[: HALF * ROWS], rows[HALF * ROWS :]
    write_locked(place / "first", first)
    write_locked(place / "second", [row | {"update": row["update"] - HALF} for row in second])
    return place


def trained(place: Path, output: Path, dataset: str, student: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "dataset": str(place / dataset),
        "student": str(student),
        "output": str(output),
        "lr": 3e-3,
        "lr_schedule": "cosine",
        "lr_warmup_updates": 2,
        "schedule_updates": 2 * HALF,
        "checkpoint_every_updates": 2,
    }
    train_warmup(WarmupConfig(**values | changes))
    return output / "final"


def weights(final: Path) -> dict[str, Tensor]:
    return load_file(final / "model.safetensors")


@pytest.fixture(scope="module")
def first(place: Path) -> Path:
    return trained(place, place / "round-0", "first", place / "student")


def test_two_rounds_give_the_weights_of_one_run(place: Path, first: Path, tmp_path: Path) -> None:
    whole = weights(trained(place, tmp_path / "whole", "whole", place / "student"))
    output = tmp_path / "round-1"
    rounds = weights(trained(place, output, "second", first, continue_optimizer=True))
    assert whole.keys() == rounds.keys()
    for name in whole:
        # Stored in bfloat16 between the rounds, and yet as if it had stayed in float32.
        assert whole[name].dtype == torch.bfloat16 and torch.equal(whole[name], rounds[name]), name
    rates = [json.loads(line)["lr"] for line in (output / "updates.jsonl").read_text().splitlines()]
    assert rates == [3e-3 * lr_factor(u, 2 * HALF, "cosine", 2) for u in range(4, 7)]
    apart = weights(trained(place, tmp_path / "apart", "second", first))
    assert any(not torch.equal(whole[name], apart[name]) for name in whole)


def test_a_round_of_fewer_updates_than_planned_ends_where_the_plan_said(
    place: Path, first: Path, tmp_path: Path
) -> None:
    def rates(output: Path, **told: int) -> list[float]:
        trained(place, output, "second", first, continue_optimizer=True, **told)
        return [
            json.loads(line)["lr"] for line in (output / "updates.jsonl").read_text().splitlines()
        ]

    def planned(*updates: float) -> list[float]:
        return [3e-3 * lr_factor(u, 12, "cosine", 2) for u in updates]

    # Six updates were planned before it, of which three were taken, and six for it.
    told = {"schedule_updates": 12, "schedule_start": 6, "schedule_span": 6}
    assert rates(tmp_path / "fewer", **told) == planned(8, 10, 12)
    told = {"schedule_updates": 12, "schedule_start": 3, "schedule_span": HALF}
    assert rates(tmp_path / "all", **told) == rates(tmp_path / "taken", schedule_updates=12)
    assert rates(tmp_path / "again", **told) == planned(4, 5, 6)


def test_a_round_resumes_at_its_own_place(place: Path, first: Path, tmp_path: Path) -> None:
    straight = weights(trained(place, tmp_path / "a", "second", first, continue_optimizer=True))
    trained(place, tmp_path / "b", "second", first, continue_optimizer=True)
    shutil.rmtree(tmp_path / "b" / "checkpoint-00000003")
    shutil.rmtree(tmp_path / "b" / "final")
    # The round before it may be gone by then.
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in first.parent.glob("checkpoint-*"):
        shutil.move(folder, moved / folder.name)
    try:
        again = weights(trained(place, tmp_path / "b", "second", first, continue_optimizer=True))
        with pytest.raises(TrainingError) as error:
            trained(place, tmp_path / "c", "second", first, continue_optimizer=True)
    finally:
        for folder in moved.glob("checkpoint-*"):
            shutil.move(folder, first.parent / folder.name)
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert str(first) in str(error.value) and "--continue-optimizer" in str(error.value)


def test_a_student_without_a_run_has_no_optimizer(place: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint to continue the optimizer of"):
        trained(place, tmp_path, "first", place / "student", continue_optimizer=True)


def test_the_rate_stays_where_the_schedule_ends() -> None:
    assert lr_factor(9, 4, "cosine", 0) == lr_factor(5, 4, "cosine", 0) == pytest.approx(0)
    assert lr_factor(9, 4, "constant", 0) == 1
