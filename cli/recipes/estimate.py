"""What a recipe would do, before it does it: rollouts, tokens, labels and updates of each task."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import queries
from cli.recipes.run_stage import labels, n_rounds, round_run
from cli.recipes.schema import EVAL, Prompts, Recipe, Stage
from cli.recipes.stage_kind import kind_of, query_of
from cli.recipes.tasks import Task
from s2d_store import prompts
from s2d_store.accounting.guard import Guard, PlannedSpend
from s2d_store.errors import InputError
from s2d_store.rollouts.selection import Prompt, prompts_of_round, select_prompts
from s2d_store.store import Store


@dataclass(frozen=True)
class Line:
    """What one task would do in all, and how much of it is done.

    Attributes:
        task: the task.
        rounds: its rounds, `done` of them finished.
        rollouts: rollouts sampled over all rounds.
        most_tokens: upper bound of generated tokens: every rollout at max_tokens.
        updates: optimizer updates; fewer where the query leaves rollouts out.
        labels: distinct labelled prompts whose rewards it may learn from, at most.
        left: labelled prompts of the rounds that are not done.
        left_updates: updates of those rounds.
    """

    task: Task
    rounds: int
    done: int
    rollouts: int
    most_tokens: int
    updates: int
    labels: int
    left: tuple[str, ...]
    left_updates: int


def add_prompts(store: Store, named: Mapping[str, Prompts]) -> None:
    """Add a recipe's prompt files to a store; what is there already adds nothing.

    Raises:
        NotFoundError, InputError: a file that is missing or malformed.
    """
    for split, given in named.items():
        options = prompts.PromptOptions(
            source=given.source or Path(given.file.removeprefix("hf:").split(":")[0]).stem,
            split=split,
            prompt_field=given.prompt_field,
            answer_field=given.answer_field,
            system=given.system,
            suffix=given.suffix,
            skip_duplicates=given.skip_duplicates,
        )
        prompts.add(store, prompts.read_records(given.file), options)


def plan(recipe: Recipe, tasks: Sequence[Task]) -> list[Line]:
    """Work out every task over the recipe's prompts; the recipe's own store is only read.

    Raises:
        S2DError: prompts that cannot be read, or a stage that none of them is for.
    """
    by_name = {task.name: task for task in tasks}
    with tempfile.TemporaryDirectory(prefix="s2d-plan-") as folder:
        scratch = Store.init(Path(folder) / "store")
        add_prompts(scratch, recipe.prompts)
        chosen = {
            condition: select_prompts(scratch, condition)
            for condition in {t.stage.prompts for t in tasks if not t.stage.treatment}
        }
    _require_held_out(tasks, chosen)
    updates: dict[str, int] = {}
    lines = []
    for task in tasks:
        line = _line(recipe, by_name, task, chosen, updates)
        updates[task.name] = line.updates
        lines.append(line)
    return lines


def require_budget(store: Store, recipe: Recipe, lines: Sequence[Line]) -> None:
    """Refuse a recipe whose labels or updates would not fit into the budget.

    Tokens are known only as they come: there the commands themselves stop at the limit.

    Raises:
        BudgetError: declared, spent, left and what it would add.
    """
    guard = Guard.open(store, recipe.budget)
    charges = [
        PlannedSpend(
            "",
            line.task.name,
            line.task.stage.role,
            "train",
            {"updates": line.left_updates},
            {"labels": line.left, "graded_labels": line.left} if line.left else {},
        )
        for line in lines
        if line.task.stage.kind != EVAL
    ]
    guard.check(f"recipe {recipe.name}", charges)


def _require_held_out(tasks: Sequence[Task], chosen: Mapping[str, Sequence[Prompt]]) -> None:
    """Refuse now what `s2d eval` would refuse when everything is trained.

    Raises:
        InputError: an eval stage has a prompt that another stage samples for training.
    """
    ids = {where: {prompt.prompt_id for prompt in found} for where, found in chosen.items()}
    for task in tasks:
        for other in tasks if task.stage.kind == EVAL else ():
            if other.stage.kind == EVAL or other.stage.treatment or other.stage.rollouts_of:
                continue
            shared = ids[task.stage.prompts] & ids[other.stage.prompts]
            if shared:
                raise InputError(
                    f"{task.name} would evaluate on {len(shared)} prompts that {other.name} "
                    "trains on",
                    f"prompts of the one: {task.stage.prompts or 'all'}, "
                    f"of the other: {other.stage.prompts or 'all'}",
                    "keep them apart: prompts = \"split = 'test'\"",
                )


def _line(
    recipe: Recipe,
    tasks: Mapping[str, Task],
    task: Task,
    chosen: Mapping[str, Sequence[Prompt]],
    planned: Mapping[str, int],
) -> Line:
    stage = task.stage
    rounds = n_rounds(tasks, task)
    source = tasks[task.tasks[stage.rollouts_of]] if stage.rollouts_of else task
    prompts, size = chosen.get(source.stage.prompts, ()), source.stage.prompts_per_round
    asked = len(stage.policies) if stage.kind == EVAL else rounds
    turns = [
        prompts_of_round(prompts, size, round_, source.sampling_seed) if size else list(prompts)
        for round_ in range(asked)
    ]
    n = source.stage.generate.n
    updates = [_updates(task, len(taken), n) for taken in turns]
    if stage.treatment:
        each = planned[task.tasks[stage.treatment]] // rounds
        updates = [each] * rounds
    done = 0 if stage.kind == EVAL else _done(recipe, labels(tasks, task))
    graded = stage.kind != EVAL and _spends_labels(stage)
    labelled = [[p.prompt_id for p in taken if p.answer] if graded else [] for taken in turns]
    left = {prompt for taken in labelled[done:] for prompt in taken}
    sampled = 0 if stage.rollouts_of or stage.treatment else n * sum(map(len, turns))
    return Line(
        task,
        asked,
        done,
        sampled,
        sampled * stage.generate.max_tokens,
        sum(updates),
        len({prompt for taken in labelled for prompt in taken}),
        tuple(sorted(left)),
        sum(updates[done:]),
    )


def _done(recipe: Recipe, names: Sequence[str]) -> int:
    if not Store.is_at(recipe.store):
        return 0
    rows = Store.open(recipe.store).sql("SELECT run_id FROM runs WHERE status = 'done'").fetchall()
    finished = {run_id for (run_id,) in rows}
    return len(list(takewhile(lambda name: round_run(recipe, name) in finished, names)))


def _updates(task: Task, n_prompts: int, n: int) -> int:
    """Updates of a round when its query leaves nothing out."""
    if task.stage.kind == EVAL or task.stage.treatment:
        return 0
    given = {**_defaults(task.stage), **task.stage.dataset}
    rows, each = n_prompts * n, int(given.get("rows_per_update", 1))
    if "prompts_per_update" in given:
        rows, each = n_prompts, int(given["prompts_per_update"])
    most = -(-rows * int(given.get("passes", 1)) // max(1, each))
    return min(most, int(given["updates"])) if given.get("updates") else most


def _spends_labels(stage: Stage) -> bool:
    """Whether rewards choose, weigh or enter the rows of the stage's datasets."""
    labels = kind_of(stage).labels
    if labels != "chosen":
        return labels == "derived"
    given = {**_defaults(stage), **stage.dataset}
    return (
        json.loads(str(given.get("correct_only", True)).lower())
        or given.get("weighting", "none") != "none"
        or given.get("min_pass_rate") is not None
        or given.get("max_pass_rate") is not None
    )


def _defaults(stage: Stage) -> dict[str, Any]:
    return {
        param.name: None if param.default == queries.NULL else param.default
        for param in query_of(stage).params
        if param.default is not None
    }
