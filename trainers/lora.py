"""LoRA through peft: low-rank adapters on every linear layer but the head, all else frozen.

y = W x + (alpha / rank) B A x, with A [rank, in] random and B [out, rank] zero at the start
(Hu et al. 2021, arXiv 2106.09685). No dropout: an update's gradient is that of its rows alone.
peft is imported only where adapters are asked for.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from s2d_store.errors import TrainingError
from trainers.config import TrainerConfig

# Beside the merged weights in a run's final folder: the adapters in peft's own format.
ADAPTER_FOLDER = "adapter"


def check_installed() -> None:
    """Refuse LoRA without peft.

    Raises:
        TrainingError: names what to install.
    """
    if find_spec("peft") is None:
        raise TrainingError(
            "lora_rank asks for adapters, but peft is not installed here",
            "adapters are peft's, a package that full training does without",
            'pip install "s2d[lora]", or train every weight with --lora-rank 0',
        )


def add_adapters(model: Any, config: TrainerConfig) -> Any:
    """Put adapters into a model, in place, and freeze all its other weights.

    Args:
        model: a transformers model on the CPU, so that the adapters are the same whatever device
            they train on.
        config: rank, alpha, and the seed of the adapters.

    Returns:
        peft's wrapper around the model.
    """
    import peft

    settings = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return peft.get_peft_model(model, settings)
