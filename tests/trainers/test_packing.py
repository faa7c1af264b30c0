"""First-fit-decreasing packing fills micro-batches, and changes no gradient."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.numerics import Int64
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers import update as updates
from trainers.batches import sequence_lengths
from trainers.config import WarmupConfig
from trainers.losses.forward_kl import forward_kl
from trainers.packing import WINDOW_ROWS, first_fit_decreasing, row_groups
from trainers.student import Student
from trainers.support_kl import SupportKLObjective

RNG = np.random.default_rng(0)
LONG_ROWS = {
    "uniform": RNG.integers(800, 7200, 256),
    "skewed": np.minimum(RNG.lognormal(8.1, 0.6, 256), 16_384).astype(np.int64),
}


def in_the_given_order(lengths: Int64, max_tokens: int) -> int:
    """How many micro-batches there are where rows are packed as they come."""
    groups, slots = 1, 0
    for length in lengths.tolist():
        slots += length
        if slots > max_tokens:
            groups, slots = groups + 1, length
    return groups


def test_the_longest_rows_go_first() -> None:
    assert first_fit_decreasing(np.array([6, 5, 5, 4]), 10) == [[0, 3], [1, 2]]
    assert first_fit_decreasing(np.array([1, 30, 2]), 10) == [[2, 0], [1]], "too long: alone"


@pytest.mark.parametrize("name", list(LONG_ROWS))
def test_long_rows_fill_their_slots(name: str) -> None:
    lengths = LONG_ROWS[name]
    groups = list(row_groups(lengths, 16_384, "packed"))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert all(lengths[group].sum() <= 16_384 for group in groups)
    assert lengths.sum() / (16_384 * len(groups)) > 0.96
    assert len(groups) < 0.9 * in_the_given_order(lengths, 16_384)


def test_a_micro_batch_reaches_over_no_more_rows_than_a_window_has() -> None:
    lengths = np.full(4000, 300)
    groups = list(row_groups(lengths, 1000, "packed"))
    assert max(int(group[-1] - group[0]) for group in groups) <= WINDOW_ROWS
    assert len(groups) == -(-4000 // 3), "a window's emptiest micro-batch is filled by the next"
    assert [int(group[0]) for group in groups] == sorted(int(group[0]) for group in groups)


def test_short_rows_stay_near_each_other_in_a_large_update() -> None:
    """Rows of one row group are then read together, and none waits to the end of the update."""
    lengths = RNG.integers(50, 450, 4000)
    groups = list(row_groups(lengths, 8192, "packed"))
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert lengths.sum() / (8192 * len(groups)) > 0.97
    assert max(int(group[-1] - group[0]) for group in groups) < 400


def test_a_begun_micro_batch_is_filled_first() -> None:
    assert first_fit_decreasing(np.array([2, 3, 6, 5]), 10, begun=2) == [[0, 1, 3], [2]]


def test_chosen_rows_are_packed_alone() -> None:
    groups = list(row_groups(np.array([9, 5, 3, 7, 5]), 10, "packed", [1, 2, 3, 4]))
    assert [group.tolist() for group in groups] == [[1, 4], [2, 3]]
    assert list(row_groups(np.array([9, 5]), 10, "packed", [])) == []


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> UpdateRows:
    made = bigram_rows([1] * 24)
    for row in made:
        n = len(row["response_token_ids"])
        row["response_mask"] = [i != 1 for i in range(n)]
    folder = write_locked(tmp_path_factory.mktemp("packing") / "data", made)
    (update,) = LockedDataset.open(folder).updates()
    return update


def gradient(rows: UpdateRows, folder: Path, limit: int) -> tuple[dict[str, float], torch.Tensor]:
    """An update's means and its gradient as one vector, packed."""
    config = WarmupConfig(
        dataset="unused", student=str(folder), output="unused", max_tokens_per_micro_batch=limit
    )
    student = Student.load(config, torch.device("cpu"), bf16=False)
    student.layout = "packed"
    process = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cpu"))
    objective = SupportKLObjective(forward_kl, "bucket")
    means = updates.accumulate_gradients(rows, student, objective, process, config)
    gradients = [p.grad for p in student.model.parameters() if p.grad is not None]
    return means, torch.cat([g.flatten() for g in gradients])


def test_the_gradient_is_that_of_one_batch_of_all_rows(rows: UpdateRows, tmp_path: Path) -> None:
    folder, lengths = save_tiny_model(tmp_path / "student", layers=2), sequence_lengths(rows)
    groups = list(row_groups(lengths, 31, "packed"))
    assert len(groups) < in_the_given_order(lengths, 31)
    assert any((np.diff(group) > 1).any() for group in groups), "rows go out of their order"
    means, whole = gradient(rows, folder, 100_000)
    packed_means, packed = gradient(rows, folder, 31)
    assert packed_means == pytest.approx(means, rel=1e-5)
    torch.testing.assert_close(packed, whole, rtol=1e-4, atol=1e-6)
