"""`[stage.NAME.train]` as the config of the stage's trainer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Literal, get_origin, get_type_hints

from cli.recipes.schema import Stage
from cli.recipes.stage_kind import trainer_of
from s2d_store.errors import InputError, S2DError, did_you_mean
from s2d_store.strict_toml import expected, fits
from trainers.config import TrainerConfig

# What a stage fills in by itself.
PLACE_IN_SCHEDULE = ("schedule_start", "schedule_span")
FILLED = (
    "dataset",
    "student",
    "output",
    "continue_optimizer",
    "schedule_updates",
    *PLACE_IN_SCHEDULE,
)


def check_setting(title: str, stage: Stage, key: str, value: Any) -> None:
    """Refuse a setting that the stage's trainer lacks, or a value of another type.

    Raises:
        InputError: names it and what is allowed.
    """
    trainer = trainer_of(stage)
    hints = get_type_hints(trainer.config)
    known = [f.name for f in fields(trainer.config) if f.name not in FILLED]
    if key not in known:
        raise InputError(
            f"{title}: train.{key} is no setting of s2d train {trainer.name}"
            + did_you_mean(key, known),
            f"allowed: {', '.join(known)}",
            "docs/cli.md explains them",
        )
    # The config itself says which words it takes.
    kind = str if get_origin(hints[key]) is Literal else hints[key]
    if not fits(kind, value):
        raise InputError(
            f"{title}: train.{key} is {value!r}",
            f"it must be {expected(kind)}",
            "docs/cli.md explains every setting",
        )


def trainer_config(
    title: str, stage: Stage, dataset: str, student: str, output: str, **filled: Any
) -> TrainerConfig:
    """The config of a stage's trainer, its settings checked one by one before.

    Raises:
        InputError: values that it refuses.
    """
    given: Mapping[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in stage.train.items()
    }
    make: Callable[..., TrainerConfig] = trainer_of(stage).config
    with of_recipe(f"{title}: train"):
        return make(dataset=dataset, student=student, output=output, **given, **filled)


@contextmanager
def of_recipe(title: str, table: str = "train") -> Iterator[None]:
    """Tell a refusal in the recipe's words: where it stands, and keys of a table for options."""
    try:
        yield
    except S2DError as error:
        fix = re.sub(r"--([a-z][a-z-]*)", lambda m: f"{table}.{m[1].replace('-', '_')}", error.fix)
        raise type(error)(f"{title}: {error.what}", error.why, fix) from error
