"""s2d run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import QuietOption

if TYPE_CHECKING:
    from cli.recipes.base_policies import Base
    from cli.recipes.estimate import Line, Plan
    from cli.recipes.finished import Finished
    from cli.recipes.round_identity import Experiment
    from cli.recipes.schema import Recipe
    from cli.recipes.tasks import Task
    from s2d_store.mistakes import Mistakes
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
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Set a key: --set stage.bridge.train.lr=1e-5. May be repeated.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    overlay: Annotated[
        list[Path] | None,
        typer.Option(help="A TOML file whose keys take precedence. May be repeated."),
    ] = None,
    redo: Annotated[
        list[str] | None,
        typer.Option(
            help="Do this stage, and what depends on it, again, as a new attempt; what is stored "
            "stays. May be repeated."
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option("--format", help="How --plan is printed.", metavar="table|json|csv|md|latex"),
    ] = "table",
    quiet: QuietOption = False,
) -> None:
    """Carry out a recipe, stage by stage. Stopped anywhere, the same command goes on.

    s2d run recipe.toml --plan --set stage.bridge.train.lr=1e-5
    """
    from cli.output import check_format
    from cli.recipes.finished import Finished
    from cli.recipes.parse import read_recipe
    from s2d_store.mistakes import Mistakes
    from s2d_store.store import Store

    check_format(format_)
    mistakes = Mistakes()
    asked = read_recipe(recipe, overlay or (), setting or (), mistakes)
    finished = Finished(asked, (stage, seed))
    if not (plan or redo or mistakes.found) and Store.is_at(asked.store):
        store = Store.open(asked.store)
        page, said = _page(store), finished.said(store)
        if said is not None and (page is None or page.exists()):
            print(said, end="")
            return
    shown = format_ if plan else ""
    _work_out(recipe, asked, finished, shown, stage, seed, redo or (), quiet, mistakes)


def _work_out(
    file: Path,
    asked: Recipe,
    finished: Finished,
    plan: str,
    stage: list[str] | None,
    seed: list[int] | None,
    redo: Sequence[str],
    quiet: bool,
    mistakes: Mistakes,
) -> None:
    """Look at where everything stands; show it in the format `plan`, or do what is left."""
    from cli.recipes import estimate, preflight
    from cli.recipes.base_policies import find_bases, register_bases
    from cli.recipes.plan_output import print_plan
    from cli.recipes.prompt_sets import add_prompts
    from cli.recipes.tasks import policy_names
    from cli.recipes.tasks import tasks as tasks_of
    from s2d_store.store import Store

    locations = policy_names(asked, seed or ())
    preflight.look_for_files(asked, locations, mistakes)
    mistakes.raise_all(f"recipe {file}")
    tasks = tasks_of(_only(asked, stage), seed or ())
    planned = estimate.plan(asked, tasks)
    store = Store.open(asked.store) if Store.is_at(asked.store) else None
    bases = find_bases(store, asked.name, locations, mistakes, asked.served)
    experiment = _experiment(asked, tasks, planned, store, bases)
    for name in redo:
        _redo(experiment, name)
    lines = _stand(experiment, planned, store)
    preflight.look_at_machine(experiment, lines, locations, mistakes)
    if store:
        preflight.look_at_store(experiment, store, lines, mistakes)
        with mistakes.collect():
            estimate.require_budget(store, asked, lines)
    if plan:
        print_plan(asked, lines, experiment.tasks, bases, plan)
        mistakes.raise_all(f"recipe {file}, as it stands,")
        return
    mistakes.raise_all(f"recipe {file}")
    if store is None:
        store = Store.init(asked.store)
        estimate.require_budget(store, asked, lines)
    if any(line.done < line.rounds for line in lines):
        add_prompts(store, asked)
        register_bases(store, bases)
    experiment.ledger.open(store)
    with finished.noted(store):
        _carry_out(experiment, store, tasks, quiet)
        if page := _page(store):
            _report(asked, store, page)
            print(f"\n{page}: results, claims, books, audits and locks on one page")


def _page(store: Store) -> Path | None:
    """Where the report of a store on a disk is."""
    folder = store.backend.local_path(store.root)
    return None if folder is None else folder.parent / "report.html"


def _report(recipe: Recipe, store: Store, page: Path) -> None:
    """Write the report of the whole store beside it, unless it is there and current."""
    from viewer.report_stamp import is_current

    if is_current(page, store, list(recipe.claim.values())):
        return
    from viewer import report

    text = report.write(report.opened(store), "html", list(recipe.claim.values()))
    report.save(text, page)


def _redo(experiment: Experiment, name: str) -> None:
    """Let a stage be done again, and with it every stage that depends on it."""
    from s2d_store.errors import NotFoundError, did_you_mean

    keys = experiment.recipe.stages_of(name)
    found = [t for t in experiment.tasks.values() if t.key in keys or t.name == name]
    if not found:
        known = list(experiment.recipe.stage)
        raise NotFoundError(
            f"--redo {name}: no such stage is to be carried out{did_you_mean(name, known)}",
            f"the recipe has {', '.join(known)}",
        )
    for task in found:
        experiment.ledger.redo(task)


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


def _stand(experiment: Experiment, planned: Plan, store: Store | None) -> list[Line]:
    """The plan's lines with how far each task is.

    What a stage takes over from another recipe, later stages start from.
    """
    from dataclasses import replace

    from cli.recipes.standing import eval_standing, standing

    lines = []
    for line in planned.lines:
        if line.task.stage.kind == "eval":
            found = eval_standing(experiment, store, line.task)
        else:
            found = standing(experiment, line.task)
            experiment.ledger.assume(line.task, found.shared)
        lines.append(replace(line, standing=found))
    return lines


def _carry_out(experiment: Experiment, store: Store, tasks: list[Task], quiet: bool) -> None:
    from cli.progress import ProgressBars
    from cli.recipes import results, run_stage
    from cli.recipes.engines import kept_engines
    from s2d_store.engines.cache import EngineCache
    from s2d_store.runs import invocation
    from s2d_store.verifiers.cache import PoolCache

    engines, pools = EngineCache(kept_engines(experiment.recipe)), PoolCache()
    work = run_stage.Work(experiment, store, engines, pools, ProgressBars(quiet), quiet)
    with invocation.invoked(recipe=experiment.recipe.name):
        try:
            for task in tasks:
                if task.stage.kind != "eval":
                    run_stage.run_task(work, task)
        finally:
            engines.close()
            pools.close()
        evals = [task for task in tasks if task.stage.kind == "eval"]
        reports = {task.name: results.run_eval(work, task) for task in evals}
    results.print_over_seeds(work, reports)
    results.print_costs(work, tasks)


def _only(recipe: Recipe, stages: list[str] | None) -> Recipe:
    """The recipe with these stages and those that they need."""
    from dataclasses import replace

    from cli.recipes.tasks import references
    from s2d_store.errors import NotFoundError, did_you_mean

    if not stages:
        return recipe
    wanted: set[str] = set()
    waiting = list(stages)
    while waiting:
        name = waiting.pop()
        if name in recipe.brought or name in wanted:
            continue
        if name not in recipe.stage and recipe.stages_of(name):
            waiting += recipe.stages_of(name)
            continue
        if name not in recipe.stage:
            raise NotFoundError(
                f"the recipe has no stage {name!r}{did_you_mean(name, recipe.stage)}",
                f"it has {', '.join(recipe.stage)}",
            )
        wanted.add(name)
        waiting += references(recipe.stage[name])
    kept = {name: stage for name, stage in recipe.stage.items() if name in wanted}
    return replace(recipe, stage=kept)
