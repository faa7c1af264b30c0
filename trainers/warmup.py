"""Warmup: off-policy distillation of a teacher's stored top-k into a student.

    python -m trainers.warmup --dataset datasets/NAME --student FOLDER --output runs/NAME

On several GPUs: `accelerate launch -m trainers.warmup ...`. The same command continues a run that
was stopped, whenever and however it was.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import InputError, S2DError
from trainers.arguments import parse_config
from trainers.batches import MicroBatch
from trainers.config import WarmupConfig
from trainers.loop import OnUpdate, TrainResult, train
from trainers.losses import Tail
from trainers.losses.forward_kl import forward_kl
from trainers.runtime import accelerator_for
from trainers.student import Student


class ForwardKLObjective:
    """Forward KL to the teacher's top-k; see `trainers.losses.forward_kl`."""

    columns: tuple[str, ...] = (
        "prompt_token_ids",
        "response_token_ids",
        "k",
        "topk_token_ids",
        "topk_logprobs",
    )
    sums: tuple[str, ...] = ("loss", "kl", "entropy", "topk_mass")

    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    def __call__(self, student: Student, batch: MicroBatch) -> Mapping[str, Tensor]:
        """Sums over the micro-batch; `topk_mass` is the student's on the teacher's top-k."""
        support = student.support(batch, batch.topk_ids)
        result = forward_kl(support, batch.topk_ids, batch.topk_logprobs, self._tail)
        return {
            "loss": result.loss,
            "kl": result.kl,
            "entropy": result.entropy,
            "topk_mass": result.student_mass,
        }


def train_warmup(config: WarmupConfig, on_update: OnUpdate | None = None) -> TrainResult:
    """Train a student on a locked `warmup` dataset; continues the run in `config.output` if any.

    Args:
        config: what to train, on what, how.
        on_update: called with each record of `updates.jsonl` as it is written: update, rows,
            prompt_tokens, response_tokens, labels, loss, kl, entropy, topk_mass, grad_norm, lr,
            seconds. Means are over the update's response tokens, in nats.

    Raises:
        S2DError: see `trainers.loop.train` and `trainers.runtime.accelerator_for`.
    """
    dataset = LockedDataset.open(config.dataset)
    objective = ForwardKLObjective(config.tail)
    missing = [name for name in objective.columns if name not in dataset.columns]
    if missing:
        raise InputError(
            f"dataset {dataset.lock.name} ({dataset.lock.kind}) has no {', '.join(missing)}",
            "warmup learns from a teacher's stored top-k",
            f"s2d dataset build {dataset.lock.name} --query warmup ...",
        )
    with accelerator_for(config) as accelerator:
        return train(config, dataset, objective, accelerator, on_update)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the config from the command line, train, print where the model is."""
    try:
        config = parse_config(WarmupConfig, "trainers.warmup", arguments)
        result = train_warmup(config, _print_update)
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{result.updates} updates, {result.response_tokens} tokens: {result.final}")
    return 0


def _print_update(record: Mapping[str, Any]) -> None:
    print(
        f"update {record['update']}  loss {record['loss']:.4f}  kl {record['kl']:.4f}  "
        f"grad {record['grad_norm']:.3f}  lr {record['lr']:.2e}  {record['seconds']:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
