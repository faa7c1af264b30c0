"""A last update with fewer rows, and a dataset without any update."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from s2d_store.datasets.read import LockedDataset
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.config import GRPOConfig, SFTConfig
from trainers.grpo import train_grpo
from trainers.loop import TrainResult
from trainers.partial import share_of_last
from trainers.sft import train_sft

UPDATES = [1] * 6 + [2] * 6 + [3] * 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `student` and `data`, whose last update has a third of the others' rows."""
    place = tmp_path_factory.mktemp("partial")
    save_tiny_model(place / "student")
    write_locked(place / "data", bigram_rows(UPDATES), kind="sft")
    write_locked(place / "two", bigram_rows(UPDATES)[:12], kind="sft")
    return place


def run(
    place: Path, output: Path, data: str = "data", **changes: Any
) -> tuple[TrainResult, list[dict[str, Any]]]:
    told: dict[str, Any] = {"student": str(place / "student"), "lr": 1e-2, "lr_schedule": "linear"}
    told |= {"dataset": str(place / data), "output": str(output), **changes}
    result = train_sft(SFTConfig(**told))
    log = (output / "updates.jsonl").read_text()
    return result, [json.loads(line) for line in log.splitlines()]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "final" / "model.safetensors")


def test_it_is_kept_by_default(place: Path, tmp_path: Path) -> None:
    result, seen = run(place, tmp_path / "run")
    assert result.updates == 3 and result.rows == 14
    assert [record["lr"] for record in seen] == pytest.approx([1e-2, 2e-2 / 3, 1e-2 / 3])


def test_dropped_it_is_as_if_the_dataset_ended_before(place: Path, tmp_path: Path) -> None:
    result, seen = run(place, tmp_path / "run", partial_update="drop")
    assert [record["update"] for record in seen] == [1, 2]
    assert (result.updates, result.rows) == (2, 12)
    assert result.response_tokens == sum(record["response_tokens"] for record in seen)
    assert result.prompt_tokens == sum(record["prompt_tokens"] for record in seen)
    run(place, tmp_path / "two", "two")
    for name, tensor in weights(tmp_path / "two").items():
        assert torch.equal(tensor, weights(tmp_path / "run")[name]), name
    again, _ = run(place, tmp_path / "run", partial_update="drop")
    assert again.resumed_update == 2, "finished: nothing is done again"


def test_scaled_its_step_is_smaller_by_its_share(place: Path, tmp_path: Path) -> None:
    _, kept = run(place, tmp_path / "kept")
    _, scaled = run(place, tmp_path / "scaled", partial_update="scale")
    assert [x["lr"] for x in scaled[:2]] == [x["lr"] for x in kept[:2]]
    assert scaled[2]["lr"] == pytest.approx(kept[2]["lr"] / 3)
    assert scaled[2]["loss"] == kept[2]["loss"]
    run(place, tmp_path / "two", "two", schedule_updates=3)
    before, whole, part = (weights(tmp_path / name) for name in ("two", "kept", "scaled"))
    for name, tensor in before.items():
        torch.testing.assert_close(
            part[name] - tensor, (whole[name] - tensor) / 3, atol=2e-6, rtol=1e-2
        )


def test_a_full_last_update_is_never_dropped(place: Path, tmp_path: Path) -> None:
    result, seen = run(place, tmp_path / "run", "two", partial_update="drop")
    assert result.updates == len(seen) == 2


@pytest.mark.parametrize(
    ("updates", "params", "share"),
    [
        (UPDATES, {}, 1 / 3),
        ([1] * 4, {}, 1.0),
        ([1] * 4, {"rows_per_update": 16}, 0.25),
        ([1] * 4, {"prompts_per_update": 8}, 0.25),  # two rows per prompt
        ([1] * 6 + [2] * 6, {"prompts_per_update": 3}, 1.0),
        # All the prompts that were asked for, in smaller groups than before.
        ([1] * 6 + [2] * 4, {"prompts_per_update": 2}, 1.0),
    ],
)
def test_how_full_the_last_update_is(
    tmp_path: Path, updates: list[int], params: dict[str, Any], share: float
) -> None:
    data = write_locked(tmp_path / "data", bigram_rows(updates), params=params)
    assert share_of_last(LockedDataset.open(data)) == pytest.approx(share)


def test_a_dataset_without_updates_leaves_the_student_and_its_optimizer(
    place: Path, tmp_path: Path
) -> None:
    """A GRPO round in which no group was mixed: the next round goes on as if it had not been."""
    rows = bigram_rows(UPDATES)[:6]
    first = write_locked(tmp_path / "first", rows, kind="grpo")
    none = write_locked(tmp_path / "none", [], kind="grpo")
    last = write_locked(tmp_path / "last", bigram_rows([1] * 6, seed=1), kind="grpo")
    told: dict[str, Any] = {"lr": 1e-2, "lr_schedule": "linear", "schedule_updates": 3}

    def round_on(data: Path, student: Path, output: Path, goes_on: bool) -> list[dict[str, Any]]:
        given: dict[str, Any] = {"continue_optimizer": goes_on, **told}
        given |= {"dataset": str(data), "student": str(student), "output": str(output)}
        result = train_grpo(GRPOConfig(**given))
        lines = (output / "updates.jsonl").read_text().splitlines()
        assert result.updates == len(lines)
        return [json.loads(line) for line in lines]

    round_on(first, place / "student", tmp_path / "a", False)
    assert round_on(none, tmp_path / "a" / "final", tmp_path / "b", True) == []
    for name, tensor in weights(tmp_path / "a").items():
        assert torch.equal(tensor, weights(tmp_path / "b")[name])
    with_gap = round_on(last, tmp_path / "b" / "final", tmp_path / "c", True)
    without = round_on(last, tmp_path / "a" / "final", tmp_path / "d", True)
    assert [x | {"seconds": 0} for x in with_gap] == [x | {"seconds": 0} for x in without]
    for name, tensor in weights(tmp_path / "c").items():
        assert torch.equal(tensor, weights(tmp_path / "d")[name])


@pytest.mark.parametrize(
    "told", [{"temperature": 0.7}, {"kl_coefficient": 0.1, "importance_cap": 2.0}]
)
def test_nothing_is_asked_of_a_dataset_without_updates(
    place: Path, tmp_path: Path, told: dict[str, Any]
) -> None:
    none = write_locked(tmp_path / "none", [], kind="grpo")
    given: dict[str, Any] = {"dataset": str(none), "student": str(place / "student"), **told}
    assert train_grpo(GRPOConfig(output=str(tmp_path / "a"), **given)).updates == 0


def test_dropping_the_only_update_takes_none(place: Path, tmp_path: Path) -> None:
    rows = bigram_rows([1] * 2)
    write_locked(tmp_path / "small", rows, kind="sft", params={"rows_per_update": 6})
    told = {"dataset": str(tmp_path / "small"), "partial_update": "drop"}
    result, seen = run(place, tmp_path / "run", **told)
    assert (result.updates, result.rows, result.response_tokens, seen) == (0, 0, 0, [])
    start = load_file(place / "student" / "model.safetensors")
    for name, tensor in weights(tmp_path / "run").items():
        assert torch.equal(tensor, start[name])


def test_a_first_round_without_updates(place: Path, tmp_path: Path) -> None:
    none = write_locked(tmp_path / "none", [], kind="grpo")
    data = write_locked(tmp_path / "data", bigram_rows([1] * 6), kind="grpo")
    told: dict[str, Any] = {"lr": 1e-2}
    empty = GRPOConfig(
        dataset=str(none), student=str(place / "student"), output=str(tmp_path / "a"), **told
    )
    assert train_grpo(empty).updates == 0
    assert train_grpo(empty).updates == 0, "finished: nothing is done again"
    after = GRPOConfig(
        dataset=str(data),
        student=str(tmp_path / "a" / "final"),
        output=str(tmp_path / "b"),
        continue_optimizer=True,
        **told,
    )
    assert train_grpo(after).updates == 1
    fresh = GRPOConfig(
        dataset=str(data), student=str(place / "student"), output=str(tmp_path / "c"), **told
    )
    train_grpo(fresh)
    for name, tensor in weights(tmp_path / "b").items():
        assert torch.equal(tensor, weights(tmp_path / "c")[name])
