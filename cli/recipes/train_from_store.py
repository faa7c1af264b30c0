"""Train on a locked dataset of a store, and keep its books: run, updates, the policy made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import queries
from s2d_store.accounting import charges
from s2d_store.accounting.guard import Guard
from s2d_store.config_identity import defaults, non_default
from s2d_store.datasets.folders import local_folder
from s2d_store.datasets.lock_file import read_lock
from s2d_store.errors import EngineError
from s2d_store.policies import registry
from s2d_store.policies.registry import Registered
from s2d_store.runs import record, training
from s2d_store.storage.reserved_paths import refuse_store_path
from s2d_store.store import Store
from trainers.registry import Trainer

# Told by the command, not settings of the training.
GIVEN = ("dataset", "student", "output")
OnUpdate = Callable[[Mapping[str, Any]], None]


def train_from_store(
    store: Store,
    trainer: Trainer,
    *,
    dataset: str,
    student: str,
    output: Path,
    settings: Mapping[str, Any],
    name: str = "",
    stage: str = "",
    budget: str = "",
    on_update: OnUpdate | None = None,
) -> tuple[str, Registered] | None:
    """Run or continue a training run; returns its id and the policy that it made.

    Under `accelerate launch` every process trains and the first one keeps the books; the others
    get None.

    Args:
        store: the store.
        trainer: who trains; see `trainers.registry`.
        dataset: name of a locked dataset.
        student: registered name or id, local folder, or hub id.
        output: folder for checkpoints and the final model.
        settings: fields of the config but dataset, student and output.
        name: of the trained policy; empty takes the folder's.
        stage: stage that budgets count the run for; empty takes the trainer's name, or, where a
            recipe has a stage of that name, `NAME-by-hand`.
        budget: budget file; empty takes the store's own budget.toml, if any.
        on_update: called with each line of updates.jsonl.

    Raises:
        S2DError: see `trainers.run.run`; another tokenizer; over budget.
    """
    lock = read_lock(store, dataset)
    refuse_store_path(store.root, output)
    require_torch()
    train, entry = trainer.load(), import_module("trainers.run")
    entry.check_kind(lock["name"], lock["kind"], trainer)
    policy = registry.find(store, student)
    training.check_student(policy, lock)
    config = trainer.config(
        dataset=str(local_folder(store, dataset)),
        student=policy.location,
        output=str(output),
        **settings,
    )
    entry.check(config, trainer.name)
    if int(os.environ.get("RANK", "0")) > 0:
        train(config)
        return None
    # Only what decides the weights, and not where files lie: the same run may go on with other
    # checkpoints or trackers, or from a copied store.
    decisive = {k: v for k, v in config.identity().items() if k not in GIVEN}
    unless = defaults(trainer.config)
    run = training.run_id(trainer.name, lock, policy, non_default(decisive, unless))
    stored = {"policy_id": policy.policy_id, "dataset_id": lock["dataset_id"], **decisive}
    training.require_name(store, name or output.name, run)
    guard, stage = Guard.open(store, budget), stage or _stage_by_hand(store, trainer.name)
    checkpointing = config.gradient_checkpointing
    charges.before_training(guard, store, run, stage, lock, policy, checkpointing=checkpointing)
    asked = {"trainer": trainer.name, "output": str(output.absolute()), "name": name or output.name}
    parents = [lock["dataset_id"]]
    with record.record_run(store, run, "train", stored, parents, stage, unless, asked):
        with training.UpdateRecorder(store, run, lock["dataset_id"]) as recorder:

            def record_update(update: Mapping[str, Any]) -> None:
                """Store an update and pass it on."""
                recorder.add(update)
                if on_update is not None:
                    on_update(update)

            train(config, record_update)
        made = training.record_output(store, output, run, lock, policy, name or output.name)
    return run, made


def _stage_by_hand(store: Store, trainer: str) -> str:
    """The stage of a run that names none: never a recipe's, whose books it would change."""
    asked = {"stage": trainer}
    ((taken,),) = store.sql(queries.internal("recipe_has_stage"), asked).fetchall()
    return f"{trainer}-by-hand" if taken else trainer


def require_torch() -> None:
    """Refuse to train on the base install.

    Raises:
        EngineError: names what is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers", "accelerate") if not find_spec(name)]
    if missing:
        raise EngineError(
            f"training needs {', '.join(missing)}, not installed here",
            "the base install has no torch",
            'pip install "s2d[train]"',
        )
