"""s2d run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import QuietOption

if TYPE_CHECKING:
    from cli.recipes.estimate import Line
    from cli.recipes.schema import Recipe


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
    from functools import partial

    from cli.progress import progress_bar
    from cli.recipes import estimate as planning
    from cli.recipes import preflight, results, run_stage
    from cli.recipes.parse import read_recipe
    from cli.recipes.tasks import policy_names
    from cli.recipes.tasks import tasks as tasks_of
    from cli.recipes.train_from_store import require_torch
    from s2d_store.engines.cache import EngineCache
    from s2d_store.policies import registry
    from s2d_store.runs import invocation
    from s2d_store.store import Store
    from s2d_store.verifiers.cache import PoolCache

    asked = read_recipe(recipe)
    tasks = tasks_of(_only(asked, stage), seed or ())
    lines = planning.plan(asked, tasks)
    if plan:
        _print_plan(asked, lines)
        if Store.is_at(asked.store):
            planning.require_budget(Store.open(asked.store), asked, lines)
        return
    require_torch()
    by_name = {task.name: task for task in tasks}
    locations = policy_names(asked, seed or ())
    preflight.require_possible(asked, lines, by_name, locations)
    store = Store.init(asked.store)
    planning.require_budget(store, asked, lines)
    planning.add_prompts(store, asked.prompts)
    for name, location in locations.items():
        registry.register(store, name, location)
    engines, pools = EngineCache(asked.engine.keep), PoolCache()
    work = run_stage.Work(
        asked,
        store,
        by_name,
        engines,
        pools,
        partial(progress_bar, quiet=quiet),
        {line.task.name: line.updates for line in lines},
        quiet,
    )
    with invocation.invoked(recipe=asked.name):
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
    results.print_costs(store, tasks, by_name)


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
                line.updates,
                line.labels,
            )
        )
    print(f"recipe {recipe.name}: store {recipe.store}, policies in {recipe.output}")
    print_rows([*columns, "tokens, at most", "updates", "labels"], rows)
    print(
        f"left to do: {sum(line.left_updates for line in lines):,} updates, "
        f"{len({prompt for line in lines for prompt in line.left}):,} labels at most"
    )
