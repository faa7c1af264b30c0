"""Processes, devices, precision and trackers: what Accelerate does for a trainer."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import Tensor

from s2d_store.errors import InputError, TrainingError
from trainers import lora, sharding
from trainers.config import TrainerConfig

_LAUNCHES = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.FSDP,
)
TRACKERS = ("tensorboard", "wandb", "trackio")


@contextmanager
def accelerator_for(config: TrainerConfig) -> Iterator[Accelerator]:
    """Start processes' communication and trackers; end both whatever happens.

    Raises:
        TrainingError: bf16 where it is not supported, or a launch in a way that trainers do not
            have.
    """
    bf16 = wants_bf16(config)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="bf16" if bf16 else "no",
        # The others wait while the main process writes a checkpoint or the final model.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=1))],
        log_with=list(config.trackers) or None,
        project_dir=str(Path(config.output) / "trackers"),
    )
    try:
        if accelerator.distributed_type not in _LAUNCHES:
            raise TrainingError(
                f"launched with {accelerator.distributed_type.value}",
                "trainers keep a replica of the student on each device, or shard it with FSDP2",
                "accelerate launch --multi_gpu, or --use_fsdp --fsdp_version 2",
            )
        if config.trackers:
            project = os.environ.get("WANDB_PROJECT", "s2d")
            accelerator.init_trackers(project, config=_flat(config))
        yield accelerator
    finally:
        accelerator.end_training()


def check_machine(config: TrainerConfig) -> None:
    """Refuse what this machine cannot do, before anything starts.

    Raises:
        InputError: an unknown tracker.
        TrainingError: a package that is missing, bf16 where it is not supported, or a launch with
            FSDP in a way that trainers do not have.
    """
    check_trackers(config.trackers)
    if config.precision == "bf16":  # else not asked: the answer would start CUDA here
        wants_bf16(config)
    sharding.fsdp_requested()
    if config.lora_rank:
        lora.check_installed()


def wants_bf16(config: TrainerConfig) -> bool:
    """Whether matrix products run in bfloat16.

    Raises:
        TrainingError: bf16 is asked for without a CUDA device that computes in it.
    """
    supported = torch.cuda.is_available() and torch.cuda.is_bf16_supported(
        including_emulation=False
    )
    if config.precision == "bf16" and not supported:
        raise TrainingError(
            "precision is bf16, but no GPU here computes in bfloat16",
            "on a CPU it is slower than fp32 and rounds differently from a GPU",
            "use --precision auto or --precision fp32",
        )
    return supported and config.precision != "fp32"


def check_trackers(trackers: Sequence[str]) -> None:
    """Refuse unknown trackers and missing packages before anything starts."""
    for name in trackers:
        if name not in TRACKERS:
            raise InputError(
                f"tracker {name!r} is unknown",
                f"known are {', '.join(TRACKERS)}",
                "change --trackers",
            )
        if importlib.util.find_spec(name) is None:
            raise TrainingError(
                f"tracker {name} is not installed", "its package is missing", f"pip install {name}"
            )


def sum_over_ranks(accelerator: Accelerator, tensors: Sequence[Tensor]) -> None:
    """Add up each tensor over all processes, in place."""
    if accelerator.num_processes == 1:
        return
    pending = [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
    for work in pending:
        if work is not None:
            work.wait()


def _flat(config: TrainerConfig) -> dict[str, Any]:
    """The config as trackers take it: scalars and strings."""
    return {k: str(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
