"""Warmup, stage 2a: off-policy distillation of a teacher's stored top-k into a student.

    python -m trainers warmup --dataset datasets/NAME --student FOLDER --output runs/NAME

On several GPUs: `accelerate launch -m trainers warmup ...`. The same command continues a run that
was stopped, whenever and however it was.
"""

from __future__ import annotations

from trainers import run
from trainers.config import WarmupConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.losses.forward_kl import forward_kl
from trainers.support_kl import SupportKLObjective


def train_warmup(config: WarmupConfig, on_update: OnUpdate | None = None) -> TrainResult:
    """Train a student on a locked `warmup` dataset; continues the run in `config.output` if any.

    Raises:
        S2DError: see `trainers.run.run`.
    """
    return run.run(
        config, "warmup", lambda _: SupportKLObjective(forward_kl, config.tail), on_update
    )
