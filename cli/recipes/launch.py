"""Start a trainer: in this process, or by a launcher such as `accelerate launch` in its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.options import workers
from cli.recipes.train_from_store import train_from_store
from s2d_store.errors import TrainingError
from s2d_store.runs import invocation
from s2d_store.store import Store
from trainers.registry import Trainer

__all__ = ["train", "workers"]


def train(
    store: Store,
    trainer: Trainer,
    settings: Mapping[str, Any],
    *,
    launcher: Sequence[str],
    dataset: str,
    student: str,
    output: Path,
    name: str,
    stage: str,
    budget: str,
    on_update: Callable[[Mapping[str, Any]], None],
) -> None:
    """Train on a locked dataset; see `cli.recipes.train_from_store.train_from_store`.

    Args:
        store: the store.
        trainer: who trains.
        settings: fields of the config but dataset, student and output.
        launcher: command that runs `-m cli.main train ...` in processes of its own; empty trains
            in this one.
        dataset: as there, as are the next five.
        student: where training starts.
        output: the run's folder.
        name: of the policy made.
        stage: that budgets count it for.
        budget: budget file, or empty.
        on_update: called with each update, in this process only.

    Raises:
        TrainingError: the launcher failed; its own words stand above.
    """
    if not launcher:
        train_from_store(
            store,
            trainer,
            dataset=dataset,
            student=student,
            output=output,
            settings=settings,
            name=name,
            stage=stage,
            budget=budget,
            on_update=on_update,
        )
        return
    lead = {"dataset": dataset, "student": student, "output": output, "name": name, "stage": stage}
    options = {**lead, **({"budget": budget} if budget else {}), "store": store.root, **settings}
    command = [*launcher, "-m", "cli.main", "train", trainer.name, "--quiet", *_flags(options)]
    try:
        environment = os.environ | {invocation.RECIPE: invocation.current().recipe or ""}
        status = subprocess.run(command, stdout=sys.stderr, check=False, env=environment).returncode
    except OSError as error:
        raise TrainingError(
            f"cannot start the launcher {launcher[0]}", str(error), "correct launcher = [...]"
        ) from error
    if status:
        raise TrainingError(
            f"training {name} failed with status {status}",
            f"launched as {' '.join(launcher)}",
            "see its message above; run the recipe again to continue",
        )


def _flags(options: Mapping[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        elif name == "trackers":
            flags += [part for tracker in value for part in (flag, tracker)]
        elif isinstance(value, tuple):
            flags += [flag, *map(str, value)]
        else:
            flags += [flag, str(value)]
    return flags
