"""Only what the mask keeps is trained: losses, denominators, means and counts follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import DatasetError
from tests.support.dense_objectives import mask_of, response_logits, update_loss
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.batches import micro_batches, trained_lengths
from trainers.config import GRPOConfig, SFTConfig
from trainers.grpo import GRPOObjective
from trainers.losses.forward_kl import forward_kl
from trainers.losses.reverse_kl import reverse_kl
from trainers.opd import SampledKLObjective
from trainers.sft import CrossEntropyObjective, train_sft
from trainers.student import Student
from trainers.support_kl import SupportKLObjective
from trainers.update import Objective, accumulate_gradients, check_rows

NAMES = ("sft", "warmup", "opd", "opd sampled", "grpo", "dapo")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("student"), layers=2)


def masked_rows(n: int = 7) -> list[dict[str, Any]]:
    """Rows with masks: null, nothing kept, everything kept, tools in between, a first token off."""
    rng = np.random.default_rng(3)
    rows = bigram_rows([1] * n, seed=4)
    for index, row in enumerate(rows):
        length = len(row["response_token_ids"])
        # Near the sampler, so that some ratios are cut and others not.
        row["response_logprobs"] = row["sampled_logprobs"] + rng.normal(0, 0.3, length)
        row["response_mask"] = [
            None,
            [False] * length,
            [True] * length,
            [False] + [True] * (length - 1),
        ][index % 4 if index < 4 else 0]
        if index > 4:
            row["response_mask"] = (rng.random(length) < 0.5).tolist()
    return rows


def objective(name: str, **options: Any) -> Objective:
    if name in ("grpo", "dapo"):
        return GRPOObjective(GRPOConfig(dataset="d", student="s", output="o", **options), name)
    made: dict[str, Objective] = {
        "sft": CrossEntropyObjective(),
        "warmup": SupportKLObjective(forward_kl, "bucket"),
        "opd": SupportKLObjective(reverse_kl, "bucket"),
        "opd sampled": SampledKLObjective(2.0),
    }
    return made[name]


def update_of(folder: Path, rows: list[dict[str, Any]]) -> UpdateRows:
    (update,) = LockedDataset.open(write_locked(folder, rows)).updates()
    return update


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("max_tokens", [1, 40, 10_000])
def test_the_gradient_is_that_of_dense_logits_row_by_row(
    student_folder: Path, tmp_path: Path, name: str, layout: Any, max_tokens: int
) -> None:
    rows = masked_rows()
    config = SFTConfig(
        dataset="unused",
        student=str(student_folder),
        output="unused",
        max_tokens_per_micro_batch=max_tokens,
    )
    student = Student.load(config, torch.device("cpu"), bf16=False)
    student.layout = layout
    update = update_of(tmp_path / "data", rows)
    means = accumulate_gradients(update, student, objective(name), Accelerator(cpu=True), config)

    model = AutoModelForCausalLM.from_pretrained(student_folder, dtype=torch.float32)
    loss = update_loss(name, model, rows)
    loss.backward()
    assert means["loss"] == pytest.approx(loss.item(), rel=1e-4)
    gradients = {key: p.grad for key, p in model.named_parameters()}
    for key, parameter in student.model.named_parameters():
        expected = gradients[key]
        assert parameter.grad is not None and expected is not None
        assert (parameter.grad - expected).norm() <= 1e-4 * expected.norm() + 1e-7, key

    with torch.no_grad():
        logprobs = [response_logits(model, row).log_softmax(dim=1) for row in rows]
    entropies = torch.cat(
        [-(x.exp() * x).sum(dim=1)[mask_of(row)] for x, row in zip(logprobs, rows, strict=True)]
    )
    assert means["entropy"] == pytest.approx(entropies.mean().item(), rel=1e-4)


def test_without_a_mask_and_with_one_of_nulls_all_is_as_before(tmp_path: Path) -> None:
    rows = bigram_rows([1] * 5)
    plain = update_of(tmp_path / "plain", rows)
    nulls = update_of(tmp_path / "nulls", [row | {"response_mask": None} for row in rows])
    assert trained_lengths(nulls).tolist() == trained_lengths(plain).tolist()
    for a, b in zip(
        micro_batches(plain, 60, "packed"), micro_batches(nulls, 60, "packed"), strict=True
    ):
        for name in ("input_ids", "predict_index", "targets", "sequence_ids", "topk_ids"):
            assert torch.equal(getattr(a, name), getattr(b, name))


def test_masked_tokens_stay_context(tmp_path: Path) -> None:
    rows = masked_rows()
    (batch,) = micro_batches(update_of(tmp_path / "data", rows), 10_000, "padded")
    assert batch.input_ids.count_nonzero() == sum(
        np.count_nonzero(row["prompt_token_ids"]) + np.count_nonzero(row["response_token_ids"])
        for row in rows
    )
    flat = batch.input_ids.flatten()
    assert torch.equal(flat[batch.predict_index + 1], batch.targets)
    for sequence, index in enumerate(batch.rows.tolist()):
        mask, mine = mask_of(rows[index]), batch.sequence_ids == sequence
        expected = torch.tensor(list(rows[index]["response_token_ids"]))[mask]
        assert torch.equal(batch.targets[mine], expected)
        teacher = torch.tensor(list(rows[index]["sampled_logprobs"]))[mask].float()
        assert torch.equal(batch.teacher_logprobs[mine], teacher)
        assert (batch.advantages[mine] == rows[index]["advantage"]).all()


def test_updates_count_what_was_trained(student_folder: Path, tmp_path: Path) -> None:
    rows = masked_rows()
    again = [row | {"update": u + 1} for u in range(2) for row in rows]
    data = write_locked(tmp_path / "data", again, kind="sft", rows_a_group=5, rows_a_part=9)
    output = tmp_path / "run"
    train_sft(SFTConfig(dataset=str(data), student=str(student_folder), output=str(output)))
    lines = [json.loads(line) for line in (output / "updates.jsonl").read_text().splitlines()]
    whole = sum(len(row["response_token_ids"]) for row in rows)
    kept = sum(int(mask_of(row).sum()) for row in rows)
    assert [(x["response_tokens"], x["trained_tokens"]) for x in lines] == [(whole, kept)] * 2
    assert kept < whole


def test_a_mask_of_another_length_and_one_that_keeps_nothing_are_refused(
    student_folder: Path, tmp_path: Path
) -> None:
    rows = masked_rows()
    rows[2]["response_mask"] = rows[2]["response_mask"] + [True]
    with pytest.raises(DatasetError, match=r"(?s)row 2 of update 1.*response_mask is not one per"):
        list(micro_batches(update_of(tmp_path / "long", rows), 1000, "packed"))
    rows = [row | {"response_mask": [False] * len(row["response_token_ids"])} for row in rows]
    config = SFTConfig(dataset="unused", student=str(student_folder), output="unused")
    student = Student.load(config, torch.device("cpu"), bf16=False)
    with pytest.raises(DatasetError, match=r"no response token to train on\n.*keeps none"):
        check_rows(update_of(tmp_path / "none", rows), 1, student)
