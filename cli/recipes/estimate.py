"""What a recipe would do, before it does it: rollouts, tokens, labels and updates of each task."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import queries
from cli.recipes.names import n_rounds
from cli.recipes.prompt_sets import add_prompts
from cli.recipes.schema import EVAL, Recipe, Stage
from cli.recipes.stage_kind import is_on_policy, kind_of, query_of
from cli.recipes.standing import Standing
from cli.recipes.tasks import Task
from s2d_store.accounting.guard import Guard, PlannedSpend
from s2d_store.errors import InputError, S2DError
from s2d_store.mistakes import Mistakes
from s2d_store.rollouts.selection import Prompt, prompts_of_round, select_prompts
from s2d_store.store import Store


@dataclass(frozen=True)
class Line:
    """What one task would do in all, and how much of it is done.

    Attributes:
        task: the task.
        rollouts: rollouts sampled over all rounds.
        updates: optimizer updates of each round; fewer where the query leaves rollouts out.
        labelled: labelled prompts of each round whose rewards it may learn from.
        trained_rows: rows that its updates read, over all rounds.
        prompt_chars: mean characters of a prompt.
        standing: how far it is.
        asked: prompts that each round asks for.
    """

    task: Task
    rollouts: int
    updates: tuple[int, ...]
    labelled: tuple[tuple[str, ...], ...]
    trained_rows: int = 0
    prompt_chars: float = 0.0
    standing: Standing = field(default_factory=Standing)
    asked: tuple[int, ...] = ()

    @property
    def rounds(self) -> int:
        """Its rounds."""
        return len(self.updates)

    @property
    def done(self) -> int:
        """Rounds that need no more work."""
        return self.standing.done + len(self.standing.shared)

    @property
    def most_tokens(self) -> int:
        """Upper bound of generated tokens: every rollout at max_tokens."""
        return self.rollouts * self.task.stage.generate.max_tokens

    @property
    def labels(self) -> int:
        """Distinct labelled prompts whose rewards it may learn from, at most."""
        return len({prompt for taken in self.labelled for prompt in taken})

    @property
    def left(self) -> tuple[str, ...]:
        """Labelled prompts of the rounds that are not done."""
        return tuple(sorted({p for taken in self.labelled[self.done :] for p in taken}))

    @property
    def left_updates(self) -> int:
        """Updates of the rounds that are not done."""
        return sum(self.updates[self.done :])


@dataclass(frozen=True)
class Plan:
    """A recipe's plan: a line per task, and condition on prompts -> those chosen, by id."""

    lines: tuple[Line, ...]
    prompts: Mapping[str, Mapping[str, Prompt]]

    @property
    def updates(self) -> dict[str, tuple[int, ...]]:
        """Planned optimizer updates of each task, by round."""
        return {line.task.name: line.updates for line in self.lines}


def plan(recipe: Recipe, tasks: Sequence[Task]) -> Plan:
    """Work out every task over the recipe's prompts; the recipe's own store is not looked at.

    Raises:
        S2DError: prompts that cannot be read, or a stage that none of them is for.
    """
    by_name = {task.name: task for task in tasks}
    with tempfile.TemporaryDirectory(prefix="s2d-plan-") as folder:
        scratch = Store.init(Path(folder) / "store")
        add_prompts(scratch, recipe)
        mistakes, chosen = Mistakes(), {}
        for task in tasks:
            condition = task.stage.prompts
            if condition not in chosen and not task.stage.treatment:
                with mistakes.collect():
                    chosen[condition] = _selected(scratch, recipe, task)
        mistakes.raise_all(f"recipe {recipe.name}")
    _require_held_out(recipe, tasks, chosen)
    lines: dict[str, Line] = {}
    for task in tasks:
        if task.stage.treatment:
            lines[task.name] = _control_line(recipe, by_name, task, lines)
        else:
            lines[task.name] = _line(by_name, task, chosen)
    found = {where: {p.prompt_id: p for p in taken} for where, taken in chosen.items()}
    return Plan(tuple(lines.values()), found)


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


def _selected(store: Store, recipe: Recipe, task: Task) -> list[Prompt]:
    try:
        return select_prompts(store, task.stage.prompts)
    except S2DError as error:
        what = error.what.replace("--where ", "prompts = ")
        at, fix = recipe.title(task.key, "prompts"), error.fix.replace("--where", "prompts")
        raise type(error)(f"{at}: {what}", error.why, fix) from error


def _require_held_out(
    recipe: Recipe, tasks: Sequence[Task], chosen: Mapping[str, Sequence[Prompt]]
) -> None:
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
                    f"{recipe.title(task.key)}: {task.name} would evaluate on {len(shared)} "
                    f"prompts that {other.name} trains on",
                    f"prompts of the one: {task.stage.prompts or 'all'}, "
                    f"of the other: {other.stage.prompts or 'all'}",
                    "keep them apart: prompts = \"split = 'test'\"",
                )


def _line(
    tasks: Mapping[str, Task],
    task: Task,
    chosen: Mapping[str, Sequence[Prompt]],
) -> Line:
    stage = task.stage
    source = tasks[task.tasks[stage.rollouts_of]] if stage.rollouts_of else task
    prompts, size = chosen.get(source.stage.prompts, ()), source.stage.prompts_per_round
    asked = len(stage.policies) if stage.kind == EVAL else n_rounds(tasks, task)
    turns = [
        prompts_of_round(prompts, size, round_, source.sampling_seed) if size else list(prompts)
        for round_ in range(asked)
    ]
    n = source.stage.generate.n
    updates = tuple(_updates(task, len(taken), n) for taken in turns)
    rows = sum(_rows(task, len(taken), n, u) for taken, u in zip(turns, updates, strict=True))
    chars = [sum(len(m["content"] or "") for m in p.messages) for taken in turns for p in taken]
    graded = stage.kind != EVAL and _spends_labels(stage)
    labelled = [[p.prompt_id for p in taken if p.answer] if graded else [] for taken in turns]
    return Line(
        task,
        0 if stage.rollouts_of else n * sum(map(len, turns)),
        updates,
        tuple(map(tuple, labelled)),
        rows,
        sum(chars) / max(1, len(chars)),
        asked=tuple(map(len, turns)),
    )


def _control_line(
    recipe: Recipe, tasks: Mapping[str, Task], task: Task, planned: Mapping[str, Line]
) -> Line:
    """A control's line: its treatment's updates, on labels that its line has spent, or on none."""
    stage, treated = task.stage, planned[task.tasks[task.stage.treatment]]
    sampled = treated.rollouts if is_on_policy(stage) else 0
    if kind_of(stage).labels != "derived":
        return replace(treated, task=task, rollouts=sampled, labelled=((),) * treated.rounds)
    behind = _behind(tasks, task)
    spent = sorted({p for name in behind for taken in planned[name].labelled for p in taken})
    most = max(treated.asked)
    if len(spent) < most:
        raise InputError(
            f"{recipe.title(task.key, 'treatment')}: a round of {stage.treatment} has {most} "
            f"prompts, and only {len(spent)} labels are spent before it",
            f"a replay samples prompts whose labels its line has spent: {', '.join(behind)}",
            "let the treatment take fewer prompts a round, or its teacher learn from more",
        )
    each = (tuple(spent),) * treated.rounds
    return replace(treated, task=task, rollouts=sampled, labelled=each)


def _behind(tasks: Mapping[str, Task], task: Task) -> list[str]:
    """The tasks whose policies a task's start was made from, teachers included."""
    found: list[str] = []
    waiting = [task.tasks.get(task.stage.start)]
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.append(name)
            made = tasks[name]
            refs = (made.stage.start, made.stage.teacher)
            waiting += [made.tasks.get(ref) for ref in refs]
    return found


def _updates(task: Task, n_prompts: int, n: int) -> int:
    """Updates of a round when its query leaves nothing out."""
    if task.stage.kind == EVAL:
        return 0
    given = {**_defaults(task.stage), **task.stage.dataset}
    rows, each = n_prompts * n, int(given.get("rows_per_update", 1))
    if "prompts_per_update" in given:
        rows, each = n_prompts, int(given["prompts_per_update"])
    most = -(-rows * int(given.get("passes", 1)) // max(1, each))
    return min(most, int(given["updates"])) if given.get("updates") else most


def _rows(task: Task, n_prompts: int, n: int, updates: int) -> int:
    """Rows that a round's updates read when its query leaves nothing out."""
    if task.stage.kind == EVAL or task.stage.treatment:
        return 0
    given = {**_defaults(task.stage), **task.stage.dataset}
    most = n_prompts * n * int(given.get("passes", 1))
    each = int(given.get("rows_per_update", 1))
    if "prompts_per_update" in given:
        each = int(given["prompts_per_update"]) * n
    return min(most, updates * each)


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
