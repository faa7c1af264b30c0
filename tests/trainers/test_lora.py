"""LoRA: adapters alone are trained and kept, a stop changes nothing, the final model is merged."""

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

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import InputError, TrainingError
from s2d_store.policies.identity import inspect_policy
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.batches import micro_batches
from trainers.bridge_continuation import train_bridge_continuation
from trainers.config import BridgeContinuationConfig, GRPOConfig, OPDConfig, SFTConfig, WarmupConfig
from trainers.export_model import save_final
from trainers.grpo import train_grpo
from trainers.losses.forward_kl import forward_kl
from trainers.opd import train_opd
from trainers.sft import train_sft
from trainers.student import Student
from trainers.support_kl import SupportKLObjective
from trainers.warmup import train_warmup

pytestmark = pytest.mark.slow

N_UPDATES, RANK, ALPHA = 6, 4, 8.0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`student` (float32) and `bf16`, the same rounded; `data`, and `first` and `second` half."""
    place = tmp_path_factory.mktemp("lora")
    save_tiny_model(place / "student")
    shutil.copytree(place / "student", place / "bf16")
    model = AutoModelForCausalLM.from_pretrained(place / "student", dtype=torch.bfloat16)
    model.save_pretrained(place / "bf16")
    rows = bigram_rows([1 + i // 6 for i in range(6 * N_UPDATES)])
    half = len(rows) // 2
    write_locked(place / "data", rows)
    write_locked(place / "first", rows[:half])
    later = [row | {"update": row["update"] - N_UPDATES // 2} for row in rows[half:]]
    write_locked(place / "second", later)
    return place


def config_for(place: Path, output: Path, config_class: Any = WarmupConfig, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "dataset": str(place / "data"),
        "student": str(place / "student"),
        "output": str(output),
        "lr": 1e-2,
        "lora_rank": RANK,
        "lora_alpha": ALPHA,
        "max_tokens_per_micro_batch": 48,
        "checkpoint_every_updates": 2,
    }
    return config_class(**values | changes)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def losses(output: Path) -> list[float]:
    lines = (output / "updates.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


class Stop(Exception):
    pass


def stop_at(update: int) -> Any:
    def on_update(record: dict[str, Any]) -> None:
        if record["update"] == update:
            raise Stop

    return on_update


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> Path:
    train_warmup(config_for(place, place / "uninterrupted"))
    return place / "uninterrupted"


def test_adapters_alone_are_trained_and_checkpointed(place: Path, uninterrupted: Path) -> None:
    assert losses(uninterrupted)[-1] < 0.95 * losses(uninterrupted)[0]
    folder = uninterrupted / f"checkpoint-{N_UPDATES:08d}"
    kept = weights(folder)
    # 7 linear layers of one block; neither the head nor anything of the student itself.
    assert len(kept) == 14 and all(".lora_" in name for name in kept)
    assert all("lora_B" not in name or tensor.abs().max() > 0 for name, tensor in kept.items())
    moments = load_file(folder / "optimizer.safetensors")
    assert {name.removesuffix(".exp_avg") for name in moments if name.endswith(".exp_avg")} == set(
        kept
    )


def test_the_final_model_is_the_student_and_its_adapters_merged(
    place: Path, uninterrupted: Path
) -> None:
    from peft import PeftModel

    before, after = weights(place / "student"), weights(uninterrupted / "final")
    adapters = weights(uninterrupted / f"checkpoint-{N_UPDATES:08d}")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    for name in changed:
        down, up = (
            adapters[name.replace(".weight", f".lora_{side}.default.weight")] for side in "AB"
        )
        expected = before[name] + ALPHA / RANK * up @ down
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-6)
    assert len(changed) == 7
    final = uninterrupted / "final"
    assert sorted(p.name for p in (final / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert inspect_policy(str(final))[0].n_parameters == sum(t.numel() for t in before.values())
    ids = torch.arange(4, 20)[None]
    merged = AutoModelForCausalLM.from_pretrained(final).eval()
    base = AutoModelForCausalLM.from_pretrained(place / "student").eval()
    with torch.no_grad():
        plain = base(ids).logits
        wrapped = PeftModel.from_pretrained(base, final / "adapter").eval()
        torch.testing.assert_close(wrapped(ids).logits, merged(ids).logits, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(plain, merged(ids).logits, atol=1e-2)


@pytest.mark.parametrize("stop", [1, 5])
def test_a_stopped_run_ends_with_the_same_weights(
    place: Path, uninterrupted: Path, tmp_path: Path, stop: int
) -> None:
    with pytest.raises(Stop):
        train_warmup(config_for(place, tmp_path / "run"), stop_at(stop))
    torch.rand(1)  # Nothing may hang on the random state of the process.
    result = train_warmup(config_for(place, tmp_path / "run"))
    assert result.resumed_update == (stop - 1) // 2 * 2
    assert losses(tmp_path / "run") == losses(uninterrupted)
    expected = weights(uninterrupted / "final")
    for name, tensor in weights(tmp_path / "run" / "final").items():
        assert torch.equal(tensor, expected[name]), name


def test_the_seed_makes_the_adapters(place: Path, uninterrupted: Path, tmp_path: Path) -> None:
    train_warmup(config_for(place, tmp_path / "run", seed=1))
    # B is zero at first, so that the loss is the student's whatever A is.
    assert losses(tmp_path / "run")[0] == losses(uninterrupted)[0]
    assert losses(tmp_path / "run")[1:] != losses(uninterrupted)[1:]
    with pytest.raises(TrainingError, match="lora_rank was 4, is 2"):
        train_warmup(config_for(place, uninterrupted, lora_rank=2))


def test_rounds_go_on_with_the_same_adapters(
    place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """The student of a round holds the adapters merged: they must not count twice."""
    halves = {"lr_schedule": "constant"}
    first = tmp_path / "first"
    train_warmup(config_for(place, first, dataset=str(place / "first"), **halves))
    again = {"dataset": str(place / "second"), "student": str(first / "final")}
    for changes, says in (
        ({"lora_rank": 2}, "lora_rank is 2 and lora_alpha 8.0\n.*was made with 4 and 8.0"),
        ({"lora_rank": 0}, "lora_rank is 0"),
    ):
        with pytest.raises(TrainingError, match=says):
            train_warmup(
                config_for(place, tmp_path / "no", **again, continue_optimizer=True, **changes)
            )
    assert not (tmp_path / "no").exists()
    second = config_for(place, tmp_path / "second", **again, continue_optimizer=True)
    with pytest.raises(Stop):
        train_warmup(second, stop_at(3))
    shutil.rmtree(first / "checkpoint-00000003")  # A round that has begun needs it no more.
    train_warmup(second)
    assert losses(first) + losses(tmp_path / "second") == losses(uninterrupted)
    expected = weights(uninterrupted / "final")
    for name, tensor in weights(tmp_path / "second" / "final").items():
        assert torch.equal(tensor, expected[name]), name
    train_warmup(config_for(place, tmp_path / "anew", **again))
    assert losses(tmp_path / "anew")[0] == pytest.approx(losses(tmp_path / "second")[0], rel=1e-5)


def test_frozen_weights_in_bfloat16_lose_nothing_in_the_merge(place: Path, tmp_path: Path) -> None:
    config = config_for(place, tmp_path / "run")
    student = Student.load(config, torch.device("cpu"), bf16=True)
    types = {p.requires_grad: p.dtype for p in student.model.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
    batch = next(micro_batches(next(LockedDataset.open(place / "data").updates()), 48, "padded"))
    SupportKLObjective(forward_kl, "bucket")(student, batch)["loss"].backward()
    for parameter in student.model.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
    save_final(student, tmp_path / "final", config)
    before = weights(place / "student")
    for name, tensor in weights(tmp_path / "final").items():
        assert torch.equal(tensor, before[name]), f"{name}: B is zero, so nothing was added"


@pytest.mark.parametrize(
    ("save_precision", "stored"), [("student", "bfloat16"), ("fp32", "float32")]
)
def test_merged_in_float32_then_stored_as_asked(
    place: Path, uninterrupted: Path, tmp_path: Path, save_precision: str, stored: str
) -> None:
    config = config_for(
        place, tmp_path / "run", student=str(place / "bf16"), save_precision=save_precision
    )
    train_warmup(config)
    before = weights(place / "bf16")
    adapters = weights(tmp_path / "run" / f"checkpoint-{N_UPDATES:08d}")
    for name, tensor in weights(tmp_path / "run" / "final").items():
        assert tensor.dtype == getattr(torch, stored)
        if (key := name.replace(".weight", ".lora_A.default.weight")) in adapters:
            up, down = adapters[key.replace("lora_A", "lora_B")], adapters[key]
            whole = before[name].float() + ALPHA / RANK * up @ down
            torch.testing.assert_close(tensor, whole.to(tensor.dtype), atol=1e-6, rtol=1e-2)


@pytest.mark.parametrize(
    ("config_class", "train"),
    [
        (OPDConfig, train_opd),
        (BridgeContinuationConfig, train_bridge_continuation),
        (GRPOConfig, train_grpo),
        (SFTConfig, train_sft),
    ],
)
def test_every_trainer_takes_adapters(
    place: Path, tmp_path: Path, config_class: Any, train: Any
) -> None:
    rows = bigram_rows([1 + i // 6 for i in range(12)])
    data = str(write_locked(tmp_path / "data", rows, kind="mine"))
    train(
        config_for(place, tmp_path / "run", config_class, dataset=data, gradient_checkpointing=True)
    )
    assert (tmp_path / "run" / "final" / "adapter" / "adapter_model.safetensors").is_file()


def test_without_peft_full_training_works_and_adapters_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.lora.find_spec", lambda name: None)
    with pytest.raises(
        TrainingError, match=r'(?s)peft is not installed.*pip install "s2d\[lora\]"'
    ):
        train_warmup(config_for(place, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    for changes in ({"lora_rank": -1}, {"lora_alpha": 0.0}):
        with pytest.raises(InputError, match=next(iter(changes))):
            config_for(place, tmp_path / "run", **changes)
