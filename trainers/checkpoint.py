"""Checkpoints that continue a run bit for bit: weights, optimizer, and where it stood. No pickle.

Of the weights, those that are trained: with adapters, the adapters alone.

The learning rate and the random state are functions of the update's number, so neither is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2d_store.config_identity import defaults, diff_settings
from s2d_store.errors import TrainingError
from trainers.atomic_files import atomic_folder, remove_folder
from trainers.config import TrainerConfig
from trainers.sharding import gather, place_like

FORMAT_VERSION = 1
_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class CheckpointState:
    """What a checkpoint belongs to.

    Attributes:
        update: the last update whose step is in the weights; 0 before the first.
        dataset_fingerprint: fingerprint of the locked dataset.
        config: `identity()` of the run's config.
        updates_before: updates of the runs that this one continues the optimizer of.
        base: where the model was loaded from before anything was trained: what adapters are trained
            on. In a run that goes on with the adapters of the run that made its student, it is that
            run's, since the student holds those adapters already, merged.
        first_length: response tokens per row of the first update, of the first of the runs.
        format_version: of the checkpoint's layout.
    """

    update: int
    dataset_fingerprint: str
    config: Mapping[str, Any]
    updates_before: int = 0
    base: str = ""
    first_length: float = 0.0
    format_version: int = FORMAT_VERSION


def save_checkpoint(
    output: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: CheckpointState,
    keep: int,
    main: bool = True,
) -> None:
    """Write `output/checkpoint-UPDATE` atomically, then delete all but the newest `keep`.

    Shards are gathered, so that any number of processes can go on from it; every process calls
    this, and the main one writes.
    """
    folder = output / f"{_PREFIX}{state.update:08d}"
    writing = main and not folder.exists()
    with atomic_folder(folder) if writing else nullcontext() as scratch:
        for name, tensors in (
            ("model", trained_tensors(model)),
            ("optimizer", _optimizer_tensors(model, optimizer)),
        ):
            whole = gather(tensors, keep=writing)
            if scratch is not None:
                save_file(whole, scratch / f"{name}.safetensors")
        if scratch is not None:
            document = json.dumps(asdict(state), indent=2) + "\n"
            (scratch / "state.json").write_text(document, encoding="utf-8")
    for old in _checkpoints(output)[:-keep] if main else ():
        remove_folder(old)


def latest_checkpoint(
    output: Path, dataset_fingerprint: str, config: TrainerConfig
) -> tuple[Path, int] | None:
    """Newest checkpoint and its update, after checking that it belongs to this run.

    Raises:
        TrainingError: it was written with another dataset or another config.
    """
    found = _checkpoints(output)
    if not found:
        return None
    state = read_state(found[-1])
    expected = {
        "format_version": FORMAT_VERSION,
        "dataset fingerprint": dataset_fingerprint,
        **config.identity(),
    }
    actual = {
        "format_version": state.format_version,
        "dataset fingerprint": state.dataset_fingerprint,
        **state.config,
    }
    other = diff_settings(actual, expected, defaults(type(config)))
    if other:
        raise TrainingError(
            f"{found[-1]} belongs to another run",
            "; ".join(f"{name} was {was!r}, is {now!r}" for name, (was, now) in other.items()),
            "choose another --output, or run with the values of the checkpoint"
            + ("; s2d dataset list shows fingerprints" if "dataset fingerprint" in other else ""),
        )
    return found[-1], state.update


def checkpoint_behind(config: TrainerConfig) -> Path:
    """The last checkpoint of the run that made a config's student.

    Raises:
        TrainingError: the student is no run's `final` folder, or its run's checkpoints are gone, or
            the run trained other adapters, or none.
    """
    final = Path(config.student)
    found = _checkpoints(final.parent) if final.name == "final" else []
    if not found or not final.is_dir():
        raise TrainingError(
            f"no checkpoint to continue the optimizer of: {config.student}",
            "continue_optimizer goes on from the checkpoints beside a trained student, in the "
            "--output folder of its run",
            "train without --continue-optimizer, or name a student whose run kept its checkpoints",
        )
    settings = {**defaults(type(config)), **read_state(found[-1]).config}
    made = {name: settings.get(name) for name in ("lora_rank", "lora_alpha")}
    if (made["lora_rank"] or config.lora_rank) and made != {k: getattr(config, k) for k in made}:
        raise TrainingError(
            f"lora_rank is {config.lora_rank} and lora_alpha {config.lora_alpha}",
            f"{found[-1]}, whose optimizer goes on, was made with {made['lora_rank']} and "
            f"{made['lora_alpha']}",
            "give the run the same adapters, or train without --continue-optimizer",
        )
    return found[-1]


def load_checkpoint(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and optimizer state in place."""
    put_weights(model, load_file(folder / "model.safetensors"))
    moments = load_file(folder / "optimizer.safetensors")
    for name, parameter in model.named_parameters():
        kept = {key: moments.get(f"{name}.{key}") for key in ("step", "exp_avg", "exp_avg_sq")}
        if kept["step"] is not None:
            # AdamW keeps its step count on the CPU.
            optimizer.state[parameter] = {
                key: value if key == "step" else place_like(value, parameter)
                for key, value in kept.items()
                if value is not None
            }


@torch.no_grad()
def put_weights(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy what `trained_tensors` named into a model of the same kind."""
    for name, tensor in trained_tensors(model):
        tensor.copy_(place_like(weights[name], tensor))


def read_state(folder: Path) -> CheckpointState:
    """What a checkpoint belongs to."""
    raw = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return CheckpointState(
        **{f.name: raw[f.name] for f in fields(CheckpointState) if f.name in raw}
    )


def _checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob(_PREFIX + "*"))


def trained_tensors(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters that are trained, and persistent buffers, by name; tied weights once."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter.detach()
    persistent = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in persistent:
            yield name, buffer


def _optimizer_tensors(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            yield f"{name}.{key}", value
