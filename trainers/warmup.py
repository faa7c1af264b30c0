"""Warmup, stage 2a: off-policy distillation of a teacher's stored top-k into a student.

    python -m trainers.warmup --dataset datasets/NAME --student FOLDER --output runs/NAME

On several GPUs: `accelerate launch -m trainers.warmup ...`. The same command continues a run that
was stopped, whenever and however it was.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from torch import Tensor

from trainers import entry
from trainers.batches import MicroBatch
from trainers.config import WarmupConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.losses import Tail
from trainers.losses.forward_kl import forward_kl
from trainers.student import Student
from trainers.update import TOPK_COLUMNS, TokenMean


class ForwardKLObjective(TokenMean):
    """Forward KL to the teacher's top-k; see `trainers.losses.forward_kl`."""

    columns: tuple[str, ...] = TOPK_COLUMNS
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

    Raises:
        S2DError: see `trainers.entry.run`.
    """
    return entry.run(config, "warmup", lambda _: ForwardKLObjective(config.tail), on_update)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return entry.main(WarmupConfig, "trainers.warmup", train_warmup, arguments)


if __name__ == "__main__":
    sys.exit(main())
