"""Trainers by name: their config, the datasets that they take and their function, in one row.

Other packages register a `Trainer` under the entry-point group `s2d.trainers`; docs/extending.md
shows one. Neither torch nor a plug-in is imported before its trainer is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from s2d_store import plugins
from s2d_store.errors import NotFoundError, did_you_mean
from trainers.config import (
    BridgeContinuationConfig,
    GRPOConfig,
    OPDConfig,
    SFTConfig,
    TrainerConfig,
    WarmupConfig,
)

if TYPE_CHECKING:
    from trainers.loop import OnUpdate, TrainResult

GROUP = "s2d.trainers"


class Train(Protocol):
    """Trains as a config says; continues the run in `config.output`, if there is one."""

    def __call__(self, config: TrainerConfig, on_update: OnUpdate | None = None, /) -> TrainResult:
        """Train to the end of the dataset and write `config.output`.

        `updates.jsonl` gets a line per update, which `on_update` is called with, and `final/` the
        trained model with its tokenizer; `trainers.run.run` does both for an objective.
        """
        ...


@dataclass(frozen=True)
class Trainer:
    """A trainer, as `s2d train` and recipes know it.

    Attributes:
        name: what it is called by, and the stage that budgets count it for.
        config: its settings; each field becomes an option and a recipe key.
        summary: one line for `s2d train --help`.
        kinds: kinds of datasets that it takes, its own first; none takes every kind.
        function: `module:function` of a `Train`, imported when training starts.
    """

    name: str
    config: type[TrainerConfig]
    summary: str
    kinds: tuple[str, ...]
    function: str

    def load(self) -> Train:
        """Import the function.

        Raises:
            NotFoundError: there is no such module or function.
        """
        module, _, name = self.function.partition(":")
        try:
            train: Train = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise NotFoundError(
                f"trainer {self.name!r}: cannot import {self.function}",
                f"{type(error).__name__}: {error}",
                "install what it needs, or correct the function of its registered Trainer",
            ) from error
        return train


BUILT_IN = {
    trainer.name: trainer
    for trainer in (
        Trainer(
            "warmup",
            WarmupConfig,
            "Stage 2a: forward KL to a teacher's stored top-k.",
            ("warmup", "continuation"),
            "trainers.warmup:train_warmup",
        ),
        Trainer(
            "opd",
            OPDConfig,
            "Stage 2b: reverse KL to the teacher on the student's stored rollouts.",
            ("opd", "fresh_opd"),
            "trainers.opd:train_opd",
        ),
        Trainer(
            "grpo",
            GRPOConfig,
            "Stages 1 and 3, and replay: clipped policy gradient on groups with advantages.",
            ("grpo", "replay"),
            "trainers.grpo:train_grpo",
        ),
        Trainer(
            "bridge_continuation",
            BridgeContinuationConfig,
            "A control: the bridge's loss on its stored rollouts, on a Stage 3 schedule.",
            ("bridge_continuation",),
            "trainers.bridge_continuation:train_bridge_continuation",
        ),
        Trainer(
            "sft",
            SFTConfig,
            "A baseline: cross-entropy on the teacher's samples.",
            ("sft", "warmup"),
            "trainers.sft:train_sft",
        ),
    )
}


def names() -> list[str]:
    """Every trainer that is installed, built-in ones first; imports none of them."""
    return list(dict.fromkeys((*BUILT_IN, *sorted(plugins.registered(GROUP)))))


def of_kind(kind: str) -> str:
    """The trainer of a kind of dataset: the built-in one that takes it, else one of its name."""
    takers = [name for name, trainer in BUILT_IN.items() if kind in trainer.kinds]
    return takers[0] if kind not in BUILT_IN and takers else kind


def find(name: str) -> Trainer:
    """A trainer by name; a plug-in cannot take the name of a built-in one.

    Raises:
        NotFoundError: there is none of that name, or its package cannot be imported.
        InputError: what is registered is no `Trainer` of that name.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in plugins.registered(GROUP):
        return plugins.load_row(GROUP, name, Trainer)
    raise NotFoundError(
        f"no trainer is named {name!r}{did_you_mean(name, names())}",
        f"trainers: {', '.join(names())}; others come from the entry-point group {GROUP!r}",
        "s2d train --help; docs/extending.md shows how to register one",
    )
