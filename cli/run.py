"""s2d run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import QuietOption

if TYPE_CHECKING:
    from cli.recipes.base_policies import Base
    from cli.recipes.estimate import Line, Plan
    from cli.recipes.round_identity import Experiment
    from cli.recipes.schema import Recipe
    from cli.recipes.tasks import Task
    from s2d_store.store import Store


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe: docs/recipes.md, examples/*.toml.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would run and what it would spend.")
    ] = False,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Only this stage and what it needs. May be repeated."),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Only this seed of the recipe. May be repeated."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Carry out a recipe, stage by stage. Stopped anywhere, the same command goes on."""
    from cli.recipes import estimate, preflight
    from cli.recipes.base_policies import find_bases, register_bases
    from cli.recipes.parse import read_recipe
    from cli.recipes.tasks import policy_names
    from cli.recipes.tasks import tasks as tasks_of
    from cli.recipes.train_from_store import require_torch
    from s2d_store.store import Store

    asked = read_recipe(recipe)
    tasks = tasks_of(_only(asked, stage), seed or ())
    planned = estimate.plan(tasks, asked.prompts)
    store = Store.open(asked.store) if Store.is_at(asked.store) else None
    locations = policy_names(asked, seed or ())
    if plan:
        known = locations if store else {}
        experiment = _experiment(asked, tasks, planned, store, find_bases(store, asked.name, known))
        lines = _stand(experiment, planned)
        _print_plan(asked, lines)
        if store:
            estimate.require_budget(store, asked, lines)
        return
    require_torch()
    bases = find_bases(store, asked.name, locations)
    experiment = _experiment(asked, tasks, planned, store, bases)
    lines = _stand(experiment, planned)
    preflight.require_possible(asked, lines, experiment.tasks, locations)
    store = store or Store.init(asked.store)
    estimate.require_budget(store, asked, lines)
    if any(line.done < line.rounds for line in lines):
        estimate.add_prompts(store, asked.prompts)
        register_bases(store, bases)
        experiment = _experiment(asked, tasks, planned, store, bases)
    _carry_out(experiment, store, tasks, quiet)


def _experiment(
    recipe: Recipe,
    tasks: list[Task],
    planned: Plan,
    store: Store | None,
    bases: dict[str, Base],
) -> Experiment:
    from cli.recipes.ledger import Ledger
    from cli.recipes.round_identity import Experiment

    by_name = {task.name: task for task in tasks}
    ledger = Ledger(store, recipe.name, by_name, bases)
    return Experiment(recipe, by_name, ledger, planned.updates, planned.prompts)


def _stand(experiment: Experiment, planned: Plan) -> list[Line]:
    """The plan's lines with how far each task is."""
    from dataclasses import replace

    from cli.recipes.standing import standing

    return [
        line
        if line.task.stage.kind == "eval"
        else replace(line, standing=standing(experiment, line.task))
        for line in planned.lines
    ]


def _carry_out(experiment: Experiment, store: Store, tasks: list[Task], quiet: bool) -> None:
    from functools import partial

    from cli.progress import progress_bar
    from cli.recipes import results, run_stage
    from s2d_store.engines.cache import EngineCache
    from s2d_store.runs import invocation
    from s2d_store.verifiers.cache import PoolCache

    engines, pools = EngineCache(experiment.recipe.engine.keep), PoolCache()
    watch = partial(progress_bar, quiet=quiet)
    work = run_stage.Work(experiment, store, engines, pools, watch, quiet)
    with invocation.invoked(recipe=experiment.recipe.name):
        try:
            for task in tasks:
                if task.stage.kind != "eval":
                    run_stage.run_task(work, task)
        finally:
            engines.close()
            pools.close()
        for task in tasks:
            if task.stage.kind == "eval":
                results.run_eval(work, task)
    results.print_costs(work, tasks)


def _only(recipe: Recipe, stages: list[str] | None) -> Recipe:
    """The recipe with these stages and those that they need."""
    from dataclasses import replace

    from cli.recipes.tasks import references
    from s2d_store.errors import NotFoundError

    if not stages:
        return recipe
    wanted: set[str] = set()
    waiting = list(stages)
    while waiting:
        name = waiting.pop()
        if name in recipe.policies or name in wanted:
            continue
        if name not in recipe.stage:
            raise NotFoundError(
                f"the recipe has no stage {name!r}", f"it has {', '.join(recipe.stage)}"
            )
        wanted.add(name)
        waiting += references(recipe.stage[name])
    kept = {name: stage for name, stage in recipe.stage.items() if name in wanted}
    return replace(recipe, stage=kept)


def _print_plan(recipe: Recipe, lines: list[Line]) -> None:
    from cli.output import print_rows

    columns = ["stage", "kind", "from", "teacher", "done", "rounds", "rollouts"]
    rows = []
    for line in lines:
        stage, names = line.task.stage, {**line.task.policies, **line.task.tasks}
        rows.append(
            (
                line.task.name,
                stage.kind,
                names.get(stage.start, "") or "-",
                names.get(stage.teacher, "") or "-",
                line.done,
                line.rounds,
                line.rollouts,
                line.most_tokens,
                sum(line.updates),
                line.labels,
            )
        )
    print(f"recipe {recipe.name}: store {recipe.store}, policies in {recipe.output}")
    print_rows([*columns, "tokens, at most", "updates", "labels"], rows)
    print(
        f"left to do: {sum(line.left_updates for line in lines):,} updates, "
        f"{len({prompt for line in lines for prompt in line.left}):,} labels at most"
    )
