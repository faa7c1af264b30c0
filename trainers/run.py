"""What every trainer does around its loop: check the dataset, start processes, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import InputError
from trainers import registry
from trainers.checkpoint import checkpoint_behind, latest_checkpoint
from trainers.config import TrainerConfig
from trainers.loop import OnUpdate, TrainResult, train
from trainers.registry import Trainer
from trainers.runtime import accelerator_for, check_machine
from trainers.update import Objective


def run(
    config: TrainerConfig,
    trainer: str,
    objective_for: Callable[[LockedDataset], Objective],
    on_update: OnUpdate | None = None,
) -> TrainResult:
    """Check that the dataset is what the trainer takes, and train on it.

    Args:
        config: what to train, on what, how.
        trainer: its name, as `trainers.registry` has it.
        objective_for: makes the trainer's objective for the opened dataset.
        on_update: called with each record of `updates.jsonl` as it is written: update, rows,
            prompt_tokens, response_tokens, trained_tokens, labels, loss, the objective's other
            sums as means over the trained tokens (nats), grad_norm, lr, seconds.

    Raises:
        InputError: a dataset without a column that the trainer needs.
        S2DError: see `check` and `trainers.loop.train`.
    """
    dataset = check(config, trainer)
    objective = objective_for(dataset)
    missing = [name for name in objective.columns if name not in dataset.columns]
    if missing and dataset.lock.counts["updates"]:
        query = query_for(registry.find(trainer))
        raise InputError(
            f"dataset {dataset.lock.name} ({dataset.lock.kind}) has no {', '.join(missing)}",
            f"{trainer} learns from these columns",
            f"s2d dataset build {dataset.lock.name} --query {query} ...",
        )
    with accelerator_for(config) as accelerator:
        return train(config, dataset, objective, accelerator, on_update)


def check(config: TrainerConfig, trainer: str) -> LockedDataset:
    """Open the dataset, and refuse what would fail later: nothing is loaded or written yet.

    Raises:
        InputError: a dataset of another kind, or an unknown tracker.
        DatasetError: a dataset whose files are not those of its lock.
        TrainingError: see `trainers.runtime.check_machine`; a checkpoint of another run; no
            checkpoint to continue the optimizer of.
    """
    dataset = LockedDataset.open(config.dataset)
    check_kind(dataset.lock.name, dataset.lock.kind, registry.find(trainer))
    check_machine(config)
    found = latest_checkpoint(Path(config.output), dataset.lock.fingerprint, config)
    if found is None and config.continue_optimizer:
        checkpoint_behind(config)
    return dataset


def check_kind(dataset: str, kind: str, trainer: Trainer) -> None:
    """Refuse a dataset that was made for another trainer; kinds of users' own pass.

    Raises:
        InputError: names the trainer that takes it.
    """
    kinds = trainer.kinds
    takers = [name for name, other in registry.BUILT_IN.items() if kind in other.kinds]
    if kinds and takers and kind not in kinds:
        raise InputError(
            f"dataset {dataset} is of kind {kind}",
            f"{trainer.name} trains on datasets of kind {' or '.join(kinds)}",
            f"s2d train {takers[0]} --dataset {dataset} ..., or s2d dataset build NAME --query "
            f"{query_for(trainer)} ...",
        )


def query_for(trainer: Trainer) -> str:
    """The query that makes datasets for a trainer, for advice."""
    return next(iter(trainer.kinds), "QUERY.sql")
