"""What test_fsdp.py runs in two processes that shard their weights: `fsdp_worker.py FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

import trainers.loop
from s2d_store.datasets.read import LockedDataset, UpdateRows
from trainers.batches import assign_rows_to_ranks, micro_batches, sequence_lengths
from trainers.config import GRPOConfig, TrainerConfig, WarmupConfig
from trainers.grpo import GRPOObjective
from trainers.losses.forward_kl import forward_kl
from trainers.runtime import accelerator_for
from trainers.sharding import gather
from trainers.student import Student
from trainers.support_kl import SupportKLObjective
from trainers.update import Objective

STOPPED_AT = 5


class Stop(Exception):
    pass


def configs(place: Path, outputs: Path) -> dict[str, TrainerConfig]:
    """Runs by name: what they are told, but for the processes."""

    def told(config_class: type[TrainerConfig], name: str, **changes: Any) -> TrainerConfig:
        values: dict[str, Any] = {
            "dataset": str(place / "data"),
            "student": str(place / "student"),
            "output": str(outputs / name),
            "lr": 3e-3,
            "weight_decay": 0.1,
            "max_tokens_per_micro_batch": 48,
            "checkpoint_every_updates": 3,
        }
        return config_class(**values | changes)

    return {
        "warmup": told(WarmupConfig, "warmup"),
        "stopped": told(WarmupConfig, "stopped"),
        "untied": told(WarmupConfig, "untied", student=str(place / "untied")),
        # Rows of one update at a time, so that a process has none.
        "grpo": told(GRPOConfig, "grpo", dataset=str(place / "single"), grad_clip_norm=0.1),
        "recomputed": told(
            GRPOConfig, "recomputed", dataset=str(place / "single"), importance_cap=2.0
        ),
        "lora": told(WarmupConfig, "lora", lora_rank=3, gradient_checkpointing=True, lr=1e-2),
    }


def objective_of(config: TrainerConfig) -> Objective:
    if isinstance(config, GRPOConfig):
        return GRPOObjective(config, "grpo")
    return SupportKLObjective(forward_kl, "bucket")


def train(config: TrainerConfig, accelerator: Accelerator) -> int:
    """Train as the trainers do, with the accelerator that all runs of a process share."""
    dataset = LockedDataset.open(config.dataset)
    result = trainers.loop.train(config, dataset, objective_of(config), accelerator)
    return result.resumed_update


@contextmanager
def stopping() -> Iterator[None]:
    """All processes stop after the same step, before it is recorded."""
    describe = vars(trainers.loop)["describe"]

    def stop(rows: UpdateRows) -> dict[str, Any]:
        if rows.update == STOPPED_AT:
            raise Stop
        return dict(describe(rows))

    vars(trainers.loop)["describe"] = stop
    try:
        yield
    except Stop:
        pass
    finally:
        vars(trainers.loop)["describe"] = describe


def gradients(config: TrainerConfig, accelerator: Accelerator, bf16: bool) -> None:
    """Keep the summed gradient of one micro-batch a process, and check what a process holds."""
    torch.manual_seed(0)
    student = Student.load(config, accelerator.device, bf16, sharded=True)
    assert student.sharded
    for parameter in student.model.parameters():
        assert isinstance(parameter, DTensor) and parameter.dtype == torch.float32
        assert parameter.to_local().shape[0] == parameter.shape[0] // 2
    rows = next(LockedDataset.open(config.dataset).updates())
    share = assign_rows_to_ranks(sequence_lengths(rows), 2)[accelerator.process_index]
    (batch,) = micro_batches(rows, 10_000, "padded", share)
    objective = objective_of(config)
    student.run(lambda: objective(student, batch))["loss"].backward()
    named = ((n, p.grad) for n, p in student.model.named_parameters() if p.grad is not None)
    whole = gather(named, keep=accelerator.is_main_process)
    if whole:
        save_file(whole, Path(config.output).parent / f"gradients-{bf16}.safetensors")


def main(place: Path) -> None:
    torch.set_num_threads(1)
    (place / "sharded").mkdir(exist_ok=True)
    runs = configs(place, place / "sharded")
    with accelerator_for(runs["warmup"]) as accelerator:
        for bf16 in (False, True):
            gradients(runs["warmup"], accelerator, bf16)
        for name, config in runs.items():
            if name == "stopped":
                with stopping():
                    train(config, accelerator)
            resumed = train(config, accelerator)
            assert resumed == (3 if name == "stopped" else 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
