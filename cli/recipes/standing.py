"""Where a task stands: what of it is done, found in another recipe, or done with other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cli.recipes.ledger import Round
from cli.recipes.names import n_rounds
from cli.recipes.round_identity import Experiment, RoundPlan
from cli.recipes.sampling import eval_config
from cli.recipes.tasks import Task
from s2d_store.config_identity import diff_settings, json_value
from s2d_store.errors import InputError, S2DError
from s2d_store.evaluation import evaluate
from s2d_store.redact import redacted
from s2d_store.rollouts.selection import select_prompts
from s2d_store.store import Store


@dataclass(frozen=True)
class Standing:
    """How far a task is.

    Attributes:
        done: rounds that are done, from the first.
        shared: where none was begun: the same rounds of another recipe, all of them.
        refused: a round was begun with other settings.
    """

    done: int = 0
    shared: tuple[Round, ...] = ()
    refused: InputError | None = None


def standing(experiment: Experiment, task: Task) -> Standing:
    """Where a training task stands.

    A stage whose start is not made yet has nothing done.
    """
    ledger = experiment.ledger
    start = ledger.policy_of(task, task.stage.start)
    needed = [ref for ref in task.tasks if ledger.policy_of(task, ref) is None]
    if start is None or needed:
        return Standing()
    done = 0
    for index in range(n_rounds(experiment.tasks, task)):
        found = ledger.round(task, index)
        if found is None:
            break
        round_ = RoundPlan(experiment, task, index, start)
        if refused := other_settings(round_, found):
            return Standing(done, refused=refused)
        if not found.is_done:
            break
        start, done = ledger.policy_after(task, index) or start, done + 1
    if done == 0 and ledger.round(task, 0) is None and ledger.attempt(task) == 0:
        return Standing(0, _same_elsewhere(experiment, task, start))
    return Standing(done)


def eval_standing(experiment: Experiment, store: Store | None, task: Task) -> Standing:
    """Where an eval task stands: done are the policies whose evaluation is stored whole.

    None is where the recipe has prompts to evaluate on that the store lacks.
    """
    config = eval_config(experiment, task)
    if store is None or config is None:
        return Standing()
    try:
        there = {p.prompt_id for p in select_prompts(store, config.settings.where)}
        if not experiment.prompts[task.stage.prompts].keys() <= there:
            return Standing()
        return Standing(len(evaluate.stored(store, config)))
    except S2DError:  # `evaluate` says what is wrong when it is the stage's turn
        return Standing()


def other_settings(round_: RoundPlan, found: Round) -> InputError | None:
    """The refusal of a round that was begun with other settings; None where they are the same."""
    changed = diff_settings(found.config, redacted(round_.identity()), round_.defaults())
    if not changed:
        return None
    stage = round_.task.name
    return InputError(
        f"{found.run_id} was begun with other settings",
        "; ".join(f"{key} was {was!r}, is {now!r}" for key, (was, now) in changed.items()),
        f"restore them, do the stage again (--redo {stage}), or run it as another experiment "
        "(--set name=...)",
    )


def _same_elsewhere(experiment: Experiment, task: Task, start: str) -> tuple[Round, ...]:
    """The rounds of another recipe that are the same, all of them; empty if there are none."""
    found: list[Round] = []
    recipe = experiment.recipe.name
    others = [
        other
        for other in experiment.ledger.rounds.values()
        if other.is_done and other.stage == task.name and other.recipe != recipe and other.made
    ]
    for index in range(n_rounds(experiment.tasks, task) if others else 0):
        round_ = RoundPlan(experiment, task, index, start)
        same = next((other for other in others if _is_same(round_, other)), None)
        if same is None:
            return ()
        found.append(same)
        start = same.made["policy"]
    return tuple(found)


def _is_same(round_: RoundPlan, other: Round) -> bool:
    inputs: Mapping[str, Any] = json_value(round_.inputs())
    return (
        other.made.get("round") == round_.index
        and other.made.get("inputs") == inputs
        and not diff_settings(other.config, redacted(round_.identity()), round_.defaults())
    )
