"""Runs that stop and go on, and weights in shards of one process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.gpu.findings import Recorder
from benchmarks.gpu.setting import MIDDLE, Setting
from benchmarks.gpu.training import cosine, gradient_of, make_model, objective_of, write_rows
from s2d_store.datasets.read import LockedDataset
from trainers.checkpoint import CheckpointState, load_checkpoint, save_checkpoint
from trainers.config import WarmupConfig
from trainers.loop import make_optimizer
from trainers.sharding import gather
from trainers.student import Student
from trainers.update import clip_gradients, step
from trainers.warmup import train_warmup

N_UPDATES, STOPPED_AFTER, CHECKPOINT_EVERY = 6, 5, 2
# Kernels that add in any order give other last bits from run to run, which AdamW takes further.
REPEATED = 4.0


class Stop(Exception):
    """Ends a run where a kill would."""


def resume(setting: Setting, found: Recorder) -> None:
    """Train to the end, and with a stop between two checkpoints: the same weights.

    Bit for bit where two runs without a stop are; else their distance is the measure.
    """
    student, dataset = _student_and_rows(setting)
    straight, again, stopped = (
        _config(dataset, student, setting.scratch / name) for name in ("one", "two", "stopped")
    )
    for config in (straight, again):
        train_warmup(config)

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == STOPPED_AFTER:
            raise Stop

    with suppress(Stop):
        train_warmup(stopped, stop)
    result = train_warmup(stopped)
    found.require(result.resumed_update == STOPPED_AFTER - 1, "it resumed elsewhere")
    start = load_file(student / "model.safetensors")
    weights = {c.output: _weights(Path(c.output) / "final") for c in (straight, again, stopped)}
    moved = _distance(weights[straight.output], start)
    repeat, off = (
        _distance(weights[straight.output], weights[config.output]) / moved
        for config in (again, stopped)
    )
    found.figure(
        "two runs without a stop: difference, of what the weights moved by", f"{repeat:.1e}"
    )
    found.figure("a run with a stop: difference, of what the weights moved by", f"{off:.1e}")
    found.figure("a run with a stop is bit for bit the same", str(off == 0))
    found.require(off <= REPEATED * repeat, f"it differs by {off:.1e} of what the weights moved by")


def fsdp2_with_one_process(setting: Setting, found: Recorder) -> None:
    """Shard over one process: gradients, an update, a checkpoint, as without shards."""
    student_folder, dataset = _student_and_rows(setting)
    device, bf16 = setting.torch_device, setting.device == "cuda"
    config = _config(dataset, student_folder, setting.scratch / "sharded")
    method = f"file://{setting.scratch / 'rendezvous'}"
    torch.distributed.init_process_group(
        "nccl" if bf16 else "gloo", init_method=method, rank=0, world_size=1
    )
    rows = next(dataset.updates())
    objective = objective_of(config, dataset)
    gradients, losses, students = {}, {}, {}
    try:
        for name in ("whole", "sharded"):
            student = Student.load(config, device, bf16, sharded=name == "sharded")
            losses[name] = gradient_of(rows, student, objective, config)["loss"]
            named = ((n, p.grad) for n, p in student.model.named_parameters() if p.grad is not None)
            gradients[name] = _flat(gather(named, keep=True))
            students[name] = student
        similar = cosine(gradients["whole"], gradients["sharded"])
        found.figure("cosine of the sharded and the whole gradient", f"{similar:.6f}")
        off = abs(losses["whole"] - losses["sharded"])
        found.figure("difference of the loss", f"{off:.1e} of {losses['whole']:.3f}")
        # Of whole weights, bf16 copies are made by autocast; of shards, by FSDP, norms included.
        found.require(similar >= (0.995 if bf16 else 0.999999), f"its cosine is {similar:.5f}")
        _checkpoint_of_shards(students["sharded"], config, dataset, found)
    finally:
        torch.distributed.destroy_process_group()


def _checkpoint_of_shards(
    student: Student, config: WarmupConfig, dataset: LockedDataset, found: Recorder
) -> None:
    """Save after an update, take another; load, take it again: the same weights."""
    optimizer, output = make_optimizer(student.model, config), Path(config.output)
    objective = objective_of(config, dataset)
    updates = list(dataset.updates())

    def take(number: int) -> dict[str, Tensor]:
        gradient_of(updates[number], student, objective, config)
        clip_gradients(student.model, config.grad_clip_norm)
        step(optimizer, config.lr)
        named = ((n, p.detach()) for n, p in student.model.named_parameters())
        return {name: tensor.clone() for name, tensor in gather(named, keep=True).items()}

    first = take(0)
    state = CheckpointState(1, dataset.lock.fingerprint, config.identity())
    output.mkdir(parents=True)
    save_checkpoint(output, student.model, optimizer, state, keep=1)
    second = take(1)
    load_checkpoint(next(output.glob("checkpoint-*")), student.model, optimizer)
    again = take(1)
    off = _distance(second, again) / _distance(second, first)
    found.figure("an update after a checkpoint, taken again: difference, of its step", f"{off:.1e}")
    found.require(off <= 1e-2, f"an update after a checkpoint of shards differs by {off:.1e}")


def _student_and_rows(setting: Setting) -> tuple[Path, LockedDataset]:
    shape = setting.shape(MIDDLE)
    student = make_model(setting.scratch / "student", shape)
    lengths = [[(8, setting.size(200, 9))] * setting.size(8, 3)] * N_UPDATES
    return student, write_rows(setting.scratch / "rows", lengths, shape.vocab)


def _config(dataset: LockedDataset, student: Path, output: Path) -> WarmupConfig:
    return WarmupConfig(
        dataset=str(dataset.folder),
        student=str(student),
        output=str(output),
        lr=1e-4,
        checkpoint_every_updates=CHECKPOINT_EVERY,
        max_tokens_per_micro_batch=1024,
    )


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def _flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[name].float().cpu().flatten() for name in sorted(tensors)])


def _distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return float((_flat(a).double() - _flat(b).double()).norm())
