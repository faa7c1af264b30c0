"""FSDP2 on the CPU: two processes with a shard each end where one process with all of it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import TrainingError
from tests.support.fsdp_worker import configs, objective_of, train
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.processes import REPOSITORY, run_together
from tests.support.tiny_models import save_tiny_model
from trainers.batches import micro_batches
from trainers.config import WarmupConfig
from trainers.runtime import accelerator_for
from trainers.student import Student
from trainers.warmup import train_warmup

pytestmark = pytest.mark.slow

N_UPDATES = 8
# What `accelerate launch --use_fsdp --fsdp_version 2` tells its processes.
LAUNCHED: dict[str, Any] = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_SYNC_MODULE_STATES": "true",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
}


def prepare(place: Path) -> None:
    """Models and datasets, `sharded` with the runs of two processes, `one` with those of one."""
    place.mkdir()
    save_tiny_model(place / "student", layers=2)
    shutil.copytree(place / "student", place / "untied")
    model = AutoModelForCausalLM.from_pretrained(place / "student", tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.copy_(0.5 * model.model.embed_tokens.weight)
    model.save_pretrained(place / "untied")
    rows = bigram_rows([1 + i // 6 for i in range(6 * N_UPDATES)])
    write_locked(place / "data", rows)
    write_locked(place / "single", bigram_rows([1, 2, 3, 3, 3]), kind="grpo")
    worker = str(REPOSITORY / "tests" / "support" / "fsdp_worker.py")
    run_together([worker, str(place)], **LAUNCHED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs = configs(place, place / "one")
    with accelerator_for(runs["warmup"]) as accelerator:
        for config in runs.values():
            train(config, accelerator)
    torch.set_num_threads(threads)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "updates.jsonl").read_text().splitlines()]


def check_weights_and_records(place: Path, name: str) -> None:
    expected, found = (weights(place / where / name / "final") for where in ("one", "sharded"))
    assert expected.keys() == found.keys()
    start = weights(place / ("untied" if name == "untied" else "student"))
    moved = max(float((expected[key] - start[key]).abs().max()) for key in expected)
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, expected[key], atol=1e-2 * moved, rtol=0)
    pairs = zip(records(place / "one" / name), records(place / "sharded" / name), strict=True)
    for one, sharded in pairs:
        for key in ("rows", "response_tokens", "labels"):
            assert one[key] == sharded[key]
        for key in ("loss", "kl", "entropy", "grad_norm"):
            assert sharded[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), key


def check_that_a_stop_changes_no_bit(place: Path) -> None:
    straight, stopped = (weights(place / "sharded" / n / "final") for n in ("warmup", "stopped"))
    for name, tensor in straight.items():
        assert torch.equal(tensor, stopped[name]), name


def check_that_checkpoints_are_whole_and_taken_by_one_process(place: Path, tmp_path: Path) -> None:
    for name in ("warmup", "lora"):
        one, sharded = (place / w / name / "checkpoint-00000006" for w in ("one", "sharded"))
        for part in ("model", "optimizer"):
            a, b = (load_file(folder / f"{part}.safetensors") for folder in (one, sharded))
            assert {k: (t.shape, t.dtype) for k, t in a.items()} == {
                k: (t.shape, t.dtype) for k, t in b.items()
            }
    shutil.copytree(place / "sharded" / "warmup", tmp_path / "warmup")
    shutil.rmtree(tmp_path / "warmup" / "checkpoint-00000008")
    config = configs(place, tmp_path)["warmup"]
    assert isinstance(config, WarmupConfig)
    assert train_warmup(config).resumed_update == 6
    expected = weights(place / "one" / "warmup" / "final")
    for name, tensor in weights(tmp_path / "warmup" / "final").items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-5, rtol=1e-3)


def check_that_gradients_are_summed(place: Path, bf16: bool) -> None:
    """Also of the tied head, whose weight is read outside of its module's forward."""
    config = configs(place, place / "one")["warmup"]
    student = Student.load(config, torch.device("cpu"), bf16)
    (batch,) = micro_batches(next(LockedDataset.open(place / "data").updates()), 10_000, "padded")
    objective_of(config)(student, batch)["loss"].backward()
    found = load_file(place / "sharded" / f"gradients-{bf16}.safetensors")
    for name, parameter in student.model.named_parameters():
        ours, theirs = found[name], parameter.grad
        assert theirs is not None and ours.dtype == torch.float32
        error = float((ours - theirs).norm() / theirs.norm())
        assert error < (0.1 if bf16 else 1e-4), (name, error)


def test_shards_end_where_one_process_ends(tmp_path: Path) -> None:
    """One test, since its two processes are started once."""
    place = tmp_path / "place"
    prepare(place)
    for name in ("warmup", "untied", "grpo", "recomputed", "lora"):
        check_weights_and_records(place, name)
    check_that_a_stop_changes_no_bit(place)
    check_that_checkpoints_are_whole_and_taken_by_one_process(place, tmp_path)
    for bf16 in (False, True):
        check_that_gradients_are_summed(place, bf16)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "launched with FSDP version 1\n.*FSDP2\n.*--fsdp_version 2"),
        ({"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "launched with fsdp_offload_params"),
        (
            {"FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "fsdp_activation_checkpointing\n.*\n.*--gradient-checkpointing",
        ),
    ],
)
def test_other_fsdp_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], says: str
) -> None:
    data = write_locked(tmp_path / "data", bigram_rows([1]))
    for name in ("FSDP_VERSION", "FSDP_OFFLOAD_PARAMS", "FSDP_ACTIVATION_CHECKPOINTING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"ACCELERATE_USE_FSDP": "true", **settings}.items():
        monkeypatch.setenv(name, value)
    given: dict[str, Any] = {
        "dataset": str(data),
        "student": "unused",
        "output": str(tmp_path / "run"),
    }
    with pytest.raises(TrainingError, match=says):
        train_warmup(WarmupConfig(**given))
    assert not (tmp_path / "run").exists()
