"""Controls follow their treatment: what a stage with `treatment` leaves out is the treatment's.

A matched control differs from its treatment in one thing alone. So its start, its role, how it
samples and how it trains are filled in from the treatment's stage, and another value is refused.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from queries import kinds
from queries.kinds import Kind
from s2d_store.config_identity import defaults
from s2d_store.errors import InputError
from s2d_store.mistakes import Mistakes
from s2d_store.strict_toml import TomlFile
from trainers import registry
from trainers.config import OPERATIONAL, TrainerConfig

# Tables that a control takes over from its treatment, in place of the recipe's defaults.
TABLES = ("generate", "train")
# What may differ: how much work goes through memory at once, and what is kept beside the rollouts.
_FREE = {
    "generate": ("chunk", "top_logprobs", "mass"),
    "train": (
        *OPERATIONAL,
        "attention",
        "gradient_checkpointing",
        "max_tokens_per_micro_batch",
        "seed",
    ),
}
_SHARED = frozenset(field.name for field in fields(TrainerConfig))
Table = dict[str, Any]


def follows(stage: Table) -> bool:
    """Whether a stage's tables come from a treatment and not from the recipe's defaults."""
    return bool(stage.get("treatment"))


def follow(file: TomlFile, values: Table, mistakes: Mistakes) -> None:
    """Fill in the control stages of a recipe from their treatments, in place.

    Args:
        file: the recipe's file, for the places of its keys.
        values: the whole document, its defaults laid under, its sweeps expanded.
        mistakes: takes what a control says otherwise than its treatment.
    """
    stages = values.get("stage")
    if not isinstance(stages, dict):
        return
    for name, stage in stages.items():
        kind = kinds.shipped().get(str(stage.get("kind"))) if isinstance(stage, dict) else None
        treated = stages.get(str(stage.get("treatment")))
        if not kind or not kind.control or not isinstance(treated, dict) or follows(treated):
            continue
        control = _Control(file, mistakes, name, str(stage["treatment"]))
        control.take("", stage, treated, ("start", "role"), {"role": "student"})
        if kind.policy == "on":
            control.take_table("generate", stage, treated, None)
        if kind.name == "replay":
            control.take("", stage, treated, ("trainer", "reference"), {})
        control.take_table("train", stage, treated, None if kind.name == "replay" else _SHARED)
        _require_equal_groups(control, kind, treated)


class _Control:
    """One control stage, and its treatment's name."""

    def __init__(self, file: TomlFile, mistakes: Mistakes, name: str, treatment: str) -> None:
        self._file, self._mistakes, self.name, self.treatment = file, mistakes, name, treatment

    def take(
        self, table: str, own: Table, treated: Table, keys: tuple[str, ...], usual: Table
    ) -> None:
        """Take over keys that the control does not have; refuse those that differ."""
        for key in keys:
            dotted = f"{table}.{key}".lstrip(".")
            wanted = treated.get(key, usual.get(key))
            if key not in own:
                if key in treated:
                    own[key] = treated[key]
            elif own[key] != wanted and key not in _FREE.get(table, ()):
                self.refuse(
                    dotted,
                    f"{dotted} is {own[key]!r}, its treatment's is {wanted!r}",
                    f"a control of {self.treatment} has the same; left out, it is taken over",
                    f"leave {dotted} out",
                )

    def take_table(
        self, table: str, stage: Table, treated: Table, only: frozenset[str] | None
    ) -> None:
        """Take over a table, or those of its keys that both trainers have."""
        own, other = stage.setdefault(table, {}), treated.get(table, {})
        if not isinstance(own, dict) or not isinstance(other, dict):
            return
        keys = tuple(key for key in {**other, **own} if only is None or key in only)
        self.take(table, own, other, keys, _usual(table, treated))

    def refuse(self, key: str, what: str, why: str, fix: str) -> None:
        """Take a mistake at a key of the control."""
        at = self._file.at(f"stage.{self.name}.{key}")
        self._mistakes.add(InputError(f"{at}: [stage.{self.name}]: {what}", why, fix))


def _usual(table: str, treated: Table) -> Table:
    """Values of what a treatment's table leaves out."""
    from cli.recipes.schema import Generate

    name = str(treated.get("trainer") or registry.of_kind(str(treated.get("kind"))))
    if table == "generate":
        found = defaults(Generate)
    else:
        found = defaults(registry.BUILT_IN[name].config) if name in registry.BUILT_IN else {}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}


def _require_equal_groups(control: _Control, kind: Kind, treated: Table) -> None:
    """Refuse a replay whose treatment drops groups: how many each side has left would be chance."""
    dataset = treated.get("dataset", {})
    if kind.name != "replay" or treated.get("query") or not isinstance(dataset, dict):
        return
    if dataset.get("keep_equal") is True and dataset.get("form", "grpo") != "dapo":
        return
    control.refuse(
        "treatment",
        f"its treatment {control.treatment} drops groups whose rewards are all equal",
        "how many groups are left is chance, so updates and data of a replay could not be matched",
        f"dataset.keep_equal = true in [stage.{control.treatment}], with a form other than dapo: "
        "their advantages are 0",
    )
