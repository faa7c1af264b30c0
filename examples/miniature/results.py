"""The miniature's figures over seeds: files read, arms compared, claims tested."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from seed_figures import settings_id

from cli.recipes.parse import read_recipe
from cli.recipes.schema import Recipe
from s2d_store.errors import InputError
from s2d_store.statistics import PairedTest, paired_test
from viewer.claims import Claim

HERE = Path(__file__).parent
# Budgets that differ by less than this share are called matched.
ALIKE = 0.05
BUDGETS = {
    "labels": "labels",
    "label_visits": "label visits",
    "updates": "updates",
    "trained_tokens": "trained tokens",
    "flops": "FLOPs",
}
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class TaskResults:
    """One task's recipe and its seeds' figures, ordered by seed."""

    recipe: Recipe
    seeds: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.recipe.name

    @property
    def title(self) -> str:
        """Its name and how many seeds there are."""
        return f"{self.name}, {len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """What was evaluated, in the recipe's order."""
        return self.recipe.stage["eval"].policies

    def values(self, arm: str, figure: str = "accuracy") -> list[float]:
        """A figure of an arm by seed; seeds that lack it are left out."""
        found = (seed["arms"][arm].get(figure) for seed in self.seeds)
        return [float(value) for value in found if value is not None]

    def mean(self, arm: str, figure: str = "accuracy") -> float | None:
        """Its mean over seeds."""
        values = self.values(arm, figure)
        return statistics.fmean(values) if values else None

    def differences(self, first: str, second: str) -> list[float]:
        """Differences of accuracy by seed."""
        return [a - b for a, b in zip(self.values(first), self.values(second), strict=True)]

    def audit(self, name: str) -> str:
        """Status of an audit: passed where it passed for all seeds."""
        found = [seed["audits"][name] for seed in self.seeds]
        failed = sum(status != "passed" for status in found)
        if not failed:
            return "passed"
        return found[0] if len(found) == 1 else f"failed for {failed} of {len(found)} seeds"

    def budgets(self, first: str, second: str) -> tuple[list[str], list[str]]:
        """Budgets of two arms that are alike, and the others with their ratio."""
        alike, others = [], []
        for key, shown in BUDGETS.items():
            a, b = self.mean(first, key) or 0.0, self.mean(second, key) or 0.0
            if abs(a - b) <= ALIKE * max(a, b):
                alike.append(shown)
            else:
                others.append(f"{shown} {a / b:.2g} x" if b else f"{shown} {a:,.0f} to 0")
        return alike, others


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of a claim.

    Attributes:
        name, claim: as the recipe has them.
        difference: mean over seeds of first minus second.
        test: its interval and p-values, uncorrected.
        p: of what the claim says, corrected for all claims of the task (Holm 1979).
        holds: `yes`, `no`, or `not decided`, with the reason where there is one.
        alike, others: budgets that both sides have in common, and ratios of the others.
    """

    name: str
    claim: Claim
    difference: float
    test: PairedTest
    p: float | None
    holds: str
    alike: tuple[str, ...]
    others: tuple[str, ...]


def read_task(task: str, results: Path = HERE / "results") -> TaskResults:
    """A task's recipe and the seeds that there are.

    Raises:
        InputError: a file was made with other settings than the recipe's.
    """
    recipe, settings = read_recipe(HERE / f"{task}.toml"), settings_id(task)
    seeds = []
    for path in sorted(results.glob(f"{task}/seed-*.json")):
        seed = json.loads(path.read_text(encoding="utf-8"))
        if seed["settings"] != settings:
            raise InputError(
                f"{path} was made with other settings than {task}.toml has",
                "seeds can be compared only where their settings are the same",
                f"delete it and run: make miniature TASK={task} SEEDS={seed['seed']}",
            )
        seeds.append(seed)
    return TaskResults(recipe, tuple(sorted(seeds, key=lambda seed: int(seed["seed"]))))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for each other (Holm 1979); None stays None and does not count."""
    known = sorted((p, at) for at, p in enumerate(values) if p is not None)
    corrected, highest = list(values), 0.0
    for rank, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[at] = highest
    return corrected


def verdicts(task: TaskResults) -> list[Verdict]:
    """Every claim of a task's recipe, held against its seeds."""
    claims = task.recipe.claim
    differences = {name: np.array(task.differences(*claim.sides)) for name, claim in claims.items()}
    tests = {
        name: paired_test(differences[name], claim.margin or None) for name, claim in claims.items()
    }
    asked = [tests[n].p_equivalent if claim.same else tests[n].p for n, claim in claims.items()]
    corrected = dict(zip(claims, holm(asked), strict=True))
    found = []
    for name, claim in claims.items():
        mean = float(differences[name].mean())
        alike, others = task.budgets(*claim.sides)
        holds = _holds(claim, mean, tests[name], corrected[name])
        if claim.proof and holds == "yes":
            controls = [arm for arm in claim.sides if task.recipe.stage[arm].treatment]
            proofs = [task.audit(f"{proof} {arm}") for proof in claim.proof for arm in controls]
            holds = next((f"no: the audit {p}" for p in proofs if p != "passed"), holds)
        found.append(
            Verdict(
                name, claim, mean, tests[name], corrected[name], holds, tuple(alike), tuple(others)
            )
        )
    return found


def _holds(claim: Claim, mean: float, test: PairedTest, p: float | None) -> str:
    if test.low is None or test.high is None:
        return "one seed"
    if claim.same:
        if p is not None and p < SIGNIFICANCE:
            return "yes"
        if test.low > claim.margin:
            return "no: better"
        if test.high < -claim.margin:
            return "no: worse"
        return "not decided"
    if p is not None and p < SIGNIFICANCE:
        return "yes" if mean > 0 else "no: worse"
    return "not decided"
