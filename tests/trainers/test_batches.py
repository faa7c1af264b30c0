from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import DatasetError, TrainingError
from s2d_store.numerics import predicting_positions, ranges
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.batches import (
    MicroBatch,
    assign_rows_to_ranks,
    micro_batches,
    sequence_lengths,
)
from trainers.config import WarmupConfig
from trainers.losses.support import Support
from trainers.packing import Layout
from trainers.student import Student, _choose_layout
from trainers.update import own_micro_batches


def update_rows(folder: Path, rows: list[dict[str, Any]]) -> UpdateRows:
    (update,) = LockedDataset.open(write_locked(folder, rows)).updates()
    return update


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return bigram_rows([1] * 9)


@pytest.fixture
def update(tmp_path: Path, rows: list[dict[str, Any]]) -> UpdateRows:
    return update_rows(tmp_path / "data", rows)


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("student"), layers=2)


def load(folder: Path, **options: Any) -> Student:
    config = WarmupConfig(dataset="unused", student=str(folder), output="unused", **options)
    return Student.load(config, torch.device("cpu"), bf16=False)


def test_shift_is_one_position_before_each_response_token() -> None:
    # Sequences p p r r r | p r | p p p, starting at 0, 10 and 20.
    positions = predicting_positions(
        np.array([0, 10, 20]), np.array([2, 1, 3]), np.array([3, 1, 0])
    )
    assert positions.tolist() == [1, 2, 3, 10]


def test_ranges() -> None:
    assert ranges(np.array([5, 0, 9]), np.array([3, 0, 2])).tolist() == [5, 6, 7, 9, 10]
    assert ranges(np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("max_tokens", [1, 20, 40, 10_000])
def test_batches_hold_every_response_token_once_with_what_predicts_it(
    update: UpdateRows, rows: list[dict[str, Any]], layout: Any, max_tokens: int
) -> None:
    seen: list[int] = []
    for batch in micro_batches(update, max_tokens, layout):
        flat, positions = batch.input_ids.flatten(), batch.position_ids.flatten()
        # The token after each predicting slot is the target, in the same sequence.
        assert torch.equal(flat[batch.predict_index + 1], batch.targets)
        assert torch.equal(positions[batch.predict_index + 1], positions[batch.predict_index] + 1)
        assert batch.cu_seqlens.diff().max() == batch.max_length
        for sequence, row_index in enumerate(batch.rows.tolist()):
            row = rows[row_index]
            mine = batch.sequence_ids == sequence
            assert batch.targets[mine].tolist() == list(row["response_token_ids"])
            assert batch.topk_ids[mine].flatten().tolist() == list(row["topk_token_ids"])
            np.testing.assert_allclose(
                batch.topk_logprobs[mine].flatten(), row["topk_logprobs"], rtol=1e-6
            )
            first = int(batch.predict_index[mine][0]) - len(row["prompt_token_ids"]) + 1
            length = int(batch.cu_seqlens[sequence + 1] - batch.cu_seqlens[sequence])
            whole = [*row["prompt_token_ids"], *row["response_token_ids"]]
            assert flat[first : first + length].tolist() == whole
            assert positions[first : first + length].tolist() == list(range(length))
        seen += batch.rows.tolist()
        assert batch.input_ids.numel() <= max_tokens or len(batch.rows) == 1
        if layout == "packed":
            assert batch.input_ids.shape == (1, int(batch.cu_seqlens[-1]))
        else:
            assert batch.input_ids.shape == (len(batch.rows), batch.max_length)
    assert sorted(seen) == list(range(len(rows)))


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_selected_rows_only(update: UpdateRows, rows: list[dict[str, Any]], layout: Layout) -> None:
    batches = list(micro_batches(update, 10_000, layout, [7, 2, 3]))
    assert len(batches) == 1 and sorted(batches[0].rows.tolist()) == [2, 3, 7]
    expected = [len(rows[i]["response_token_ids"]) for i in batches[0].rows.tolist()]
    assert torch.bincount(batches[0].sequence_ids).tolist() == expected
    assert list(micro_batches(update, 10_000, layout, [])) == []


def test_batches_may_be_written_to_without_touching_the_dataset(update: UpdateRows) -> None:
    (batch,) = micro_batches(update, 10_000, "packed")
    before = update.lists["topk_logprobs"][0].copy()
    batch.topk_logprobs.zero_()
    batch.targets.zero_()
    np.testing.assert_array_equal(update.lists["topk_logprobs"][0], before)


def test_rows_of_different_k_are_padded_to_the_largest(tmp_path: Path) -> None:
    rows = bigram_rows([1, 1], k=3) + bigram_rows([1], k=5, seed=1)
    (batch,) = micro_batches(update_rows(tmp_path / "data", rows), 1000, "packed")
    assert batch.topk_ids.shape[1] == 5
    short = batch.sequence_ids < 2
    assert (batch.topk_ids[short, 3:] == -1).all()
    assert batch.topk_logprobs[short, 3:].isneginf().all()
    expected = [*rows[0]["topk_token_ids"], *rows[1]["topk_token_ids"]]
    assert batch.topk_ids[short, :3].flatten().tolist() == expected
    assert batch.topk_ids[~short].flatten().tolist() == list(rows[2]["topk_token_ids"])


def test_dataset_without_a_teacher_gives_empty_topk(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    columns = ("update", "prompt_token_ids", "response_token_ids")
    folder = write_locked(tmp_path / "plain", rows, columns=columns)
    (update,) = LockedDataset.open(folder).updates()
    (batch,) = micro_batches(update, 1000, "packed")
    assert batch.topk_ids.shape == (len(batch.targets), 0)


def test_empty_prompt_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    rows[4]["prompt_token_ids"] = []
    with pytest.raises(DatasetError, match=r"(?s)row 4 of update 1.*prompt is empty"):
        list(micro_batches(update_rows(tmp_path / "data", rows), 1000, "packed"))


def test_topk_of_the_wrong_length_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    rows[5]["topk_logprobs"] = rows[5]["topk_logprobs"][:-1]
    with pytest.raises(DatasetError, match=r"(?s)row 5 of update 1.*k entries"):
        list(micro_batches(update_rows(tmp_path / "data", rows), 1000, "packed"))


def test_empty_response_adds_no_target(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    for name in rows[0]:
        if name.startswith(("response_", "topk_", "sampled_")):
            rows[0][name] = []
    (batch,) = micro_batches(update_rows(tmp_path / "data", rows), 1000, "packed")
    assert 0 not in batch.sequence_ids and 0 in batch.rows


def test_deal_is_a_balanced_deterministic_partition() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=101)
    for n_ranks in (1, 2, 3):
        shares = assign_rows_to_ranks(lengths, n_ranks)
        assert sorted(row for share in shares for row in share) == list(range(101))
        assert all(share == sorted(share) for share in shares)
        tokens = [int(lengths[share].sum()) for share in shares]
        assert max(tokens) - min(tokens) <= lengths.max()
        assert shares == assign_rows_to_ranks(lengths.copy(), n_ranks)
    assert assign_rows_to_ranks(np.array([3, 4]), 3)[2] == []


def test_pinning_copies_every_tensor_on_the_devices_own_gpu(
    update: UpdateRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[torch.device] = []
    pinned: list[Tensor] = []

    @contextmanager
    def device(chosen: torch.device) -> Iterator[None]:
        current.append(chosen)
        yield
        current.pop()

    def pin(tensor: Tensor) -> Tensor:
        assert current == [torch.device("cuda", 1)]
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    (batch,) = micro_batches(update, 10_000, "packed")
    copied = batch.pin(torch.device("cuda", 1))
    tensors = [f.name for f in fields(MicroBatch) if f.name != "max_length"]
    assert len(pinned) == len(tensors) and not current
    assert copied.max_length == batch.max_length
    for name in tensors:
        mine, other = getattr(copied, name), getattr(batch, name)
        assert torch.equal(mine, other)
        assert mine.numel() == 0 or mine.data_ptr() != other.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pinned_batches_lie_in_page_locked_memory(update: UpdateRows) -> None:
    (batch,) = micro_batches(update, 10_000, "packed")
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    pinned = batch.pin(device)
    assert pinned.input_ids.is_pinned() and pinned.topk_logprobs.is_pinned()
    assert torch.equal(pinned.to(device).topk_logprobs.cpu(), batch.topk_logprobs)


def test_without_a_gpu_nothing_is_pinned(update: UpdateRows) -> None:
    (batch,) = micro_batches(update, 10_000, "packed")
    assert batch.pin(torch.device("cpu")) is batch


def test_ranks_make_batches_of_their_own_rows_only(
    update: UpdateRows, student_folder: Path
) -> None:
    student = load(student_folder)
    taken: list[list[int]] = []
    for rank in range(3):
        process = SimpleNamespace(num_processes=3, process_index=rank, device=torch.device("cpu"))
        batches = list(own_micro_batches(update, student, process, 40))
        assert all(share == 1.0 for _, share in batches)
        taken.append(sorted(row for batch, _ in batches for row in batch.rows.tolist()))
    assert taken == assign_rows_to_ranks(sequence_lengths(update), 3)


def hidden_states(student: Student, batch: MicroBatch) -> list[Tensor]:
    """Predicting hidden states of each sequence, in the order of the update's rows."""
    with torch.no_grad():
        states = student.hidden(batch.input_ids, batch.position_ids)[batch.predict_index]
    by_row = {
        row: states[batch.sequence_ids == sequence]
        for sequence, row in enumerate(batch.rows.tolist())
    }
    return [by_row[row] for row in sorted(by_row)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_sequences_together_are_as_each_alone(
    update: UpdateRows, student_folder: Path, layout: Layout, attention: str
) -> None:
    student = load(student_folder, attention=attention)
    (together,) = micro_batches(update, 10_000, layout)
    alone = [
        s
        for r in range(update.n_rows)
        for b in micro_batches(update, 1, layout, [r])
        for s in hidden_states(student, b)
    ]
    for a, b in zip(hidden_states(student, together), alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_layout_follows_the_attention(student_folder: Path) -> None:
    student = load(student_folder)
    assert student.layout == _choose_layout("sdpa", student) == "padded"
    assert _choose_layout("flash_attention_2", student) == "packed"


def test_packing_that_mixes_sequences_is_noticed(
    student_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = load(student_folder)
    assert student.isolates_packed()
    original = Student.hidden

    def one_long_sequence(self: Student, ids: Tensor, positions: Tensor) -> Tensor:
        return original(self, ids, torch.arange(ids.shape[1])[None])

    monkeypatch.setattr(Student, "hidden", one_long_sequence)
    assert not student.isolates_packed()
    assert _choose_layout("flash_attention_2", student) == "padded"


def test_head_that_does_not_reproduce_the_logits_is_refused(
    student_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Student.hidden
    monkeypatch.setattr(Student, "hidden", lambda *args: 1.5 * original(*args))
    with pytest.raises(TrainingError, match="not its head"):
        load(student_folder)


def test_bf16_rounds_products_but_not_the_weights(update: UpdateRows, student_folder: Path) -> None:
    config = WarmupConfig(dataset="unused", student=str(student_folder), output="unused")
    (batch,) = micro_batches(update, 10_000, "padded")
    rests: list[Tensor] = []

    def keep(support: Support, _: slice) -> dict[str, Tensor]:
        rests.append(support.rest_N.detach())
        return {"loss": support.rest_N.sum()}

    for bf16 in (False, True):
        student = Student.load(config, torch.device("cpu"), bf16)
        student.sums(batch, batch.topk_ids, keep)["loss"].backward()
        gradients = [p.grad for p in student.model.parameters()]
        assert all(p.dtype == torch.float32 for p in student.model.parameters())
        assert all(g is not None and g.isfinite().all() for g in gradients)
    assert rests[1].dtype == torch.float32 and not torch.equal(*rests)
    torch.testing.assert_close(rests[1], rests[0], atol=0.3, rtol=0.1)


def test_missing_student_is_a_training_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot load the student"):
        load(tmp_path / "nowhere")
