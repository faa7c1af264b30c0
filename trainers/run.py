"""What every trainer does around its loop: check the dataset, start processes, report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import InputError, S2DError
from trainers.checkpoint import checkpoint_behind, latest_checkpoint
from trainers.config import KINDS, TrainerConfig
from trainers.config_options import Config, parse_config
from trainers.loop import OnUpdate, TrainResult, train
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
        trainer: its name, a key of `trainers.config.KINDS`.
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
        raise InputError(
            f"dataset {dataset.lock.name} ({dataset.lock.kind}) has no {', '.join(missing)}",
            f"{trainer} learns from these columns",
            f"s2d dataset build {dataset.lock.name} --query {KINDS[trainer][0]} ...",
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
    check_kind(dataset.lock.name, dataset.lock.kind, trainer)
    check_machine(config)
    found = latest_checkpoint(Path(config.output), dataset.lock.fingerprint, config)
    if found is None and config.continue_optimizer:
        checkpoint_behind(config)
    return dataset


def check_kind(dataset: str, kind: str, trainer: str) -> None:
    """Refuse a dataset that was made for another trainer; kinds of users' own pass.

    Raises:
        InputError: names the trainer that takes it.
    """
    takers = [name for name, kinds in KINDS.items() if kind in kinds]
    if takers and trainer not in takers:
        raise InputError(
            f"dataset {dataset} is of kind {kind}",
            f"{trainer} trains on datasets of kind {' or '.join(KINDS[trainer])}",
            f"s2d train {takers[0]} --dataset {dataset} ..., or s2d dataset build NAME --query "
            f"{KINDS[trainer][0]} ...",
        )


def main(
    config_class: type[Config],
    module: str,
    train_on: Callable[[Config, OnUpdate], TrainResult],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse a config from the command line, train, print where the model is."""
    try:
        result = train_on(parse_config(config_class, module, arguments), _print_update)
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{result.updates} updates, {result.response_tokens} tokens: {result.final}")
    return 0


def _print_update(record: Mapping[str, Any]) -> None:
    kl = f"kl {record['kl']:.4f}  " if "kl" in record else ""
    print(
        f"update {record['update']}  loss {record['loss']:.4f}  {kl}"
        f"grad {record['grad_norm']:.3f}  lr {record['lr']:.2e}  {record['seconds']:.1f} s",
        flush=True,
    )
