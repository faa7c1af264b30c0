"""Names of what a recipe makes: RECIPE.STAGE[.sSEED][.aATTEMPT][.rROUND], for all of its kinds.

A round's dataset, its policy and its run share one name, so that recipes can share a store.
"""

from __future__ import annotations

from collections.abc import Mapping

from cli.recipes.stage_kind import is_on_policy
from cli.recipes.tasks import Task


def n_rounds(tasks: Mapping[str, Task], task: Task) -> int:
    """Rounds of a task; a control has as many as its treatment."""
    if task.stage.treatment:
        return tasks[task.tasks[task.stage.treatment]].stage.rounds
    return task.stage.rounds


def label(task: Task, round_: int, attempt: int = 0) -> str:
    """A round's name within its recipe; a stage of one round has no number."""
    again = f".a{attempt}" if attempt else ""
    many = is_on_policy(task.stage) or task.stage.treatment
    return f"{task.name}{again}.r{round_:03d}" if many else f"{task.name}{again}"


def full_name(recipe: str, task: Task, round_: int, attempt: int = 0) -> str:
    """A round's name in the store."""
    return f"{recipe}.{label(task, round_, attempt)}"
