"""What a recipe asks of this machine, its models and its store, before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from cli.recipes.engines import engine_choice
from cli.recipes.estimate import Line
from cli.recipes.prompt_sets import check_prompts, own_prompts
from cli.recipes.round_identity import Experiment
from cli.recipes.schema import EVAL, Recipe
from cli.recipes.stage_kind import is_graded
from cli.recipes.tasks import Task, references, source_policy
from cli.recipes.train_from_store import require_torch
from cli.recipes.trainer_settings import of_recipe, trainer_config
from s2d_store.datasets import folders
from s2d_store.engines.server_endpoints import require_an_endpoint
from s2d_store.errors import InputError, NotFoundError, S2DError
from s2d_store.mistakes import Mistakes
from s2d_store.policies.locations import resolve_location
from s2d_store.policies.tokenizer import load_tokenizer, read_vocabulary, tokenizer_difference
from s2d_store.rollouts.selection import select_prompts
from s2d_store.store import Store
from s2d_store.verifiers.registry import verifier_name


def look_for_files(recipe: Recipe, locations: Mapping[str, str], mistakes: Mistakes) -> None:
    """Look for every file and folder that a recipe names; nothing is read.

    Args:
        recipe: the recipe; it may have mistakes.
        locations: folder or hub id of every policy that it brings along, by name.
        mistakes: takes what is missing.
    """

    def require(key: str, path: str, there: bool, fix: str) -> None:
        if path and not there:
            mistakes.add(
                NotFoundError(
                    f"{recipe.at(key)}: {key} is {path}, which is not there",
                    "paths start at the folder of the recipe",
                    fix,
                )
            )

    for split, given in recipe.prompts.items():
        if not given.file.startswith("hf:"):
            file = Path(given.file)
            require(f"prompts.{split}.file", given.file, file.is_file(), "correct it")
    for location in dict.fromkeys(locations.values()):
        name = next(k for k, v in recipe.brought.items() if _is_of(v, location))
        key = f"{'served' if name in recipe.served else 'policies'}.{name}"
        # Whatever has two slashes or starts at a folder is no hub id.
        is_path = location.count("/") > 1 or location.startswith((".", "/", "~"))
        there = not is_path or Path(location).expanduser().is_dir()
        require(key, location, there, "a folder of save_pretrained, or a hub id")
    for name, stage in recipe.stage.items():
        template = stage.generate.chat_template
        key = f"stage.{name}.generate.chat_template"
        require(key, template, Path(template).is_file(), "correct it")
    if "://" not in recipe.budget:
        require("budget", recipe.budget, Path(recipe.budget).is_file(), "correct it")


def _is_of(template: str, location: str) -> bool:
    before, seed, after = template.partition("{seed}")
    same = location.startswith(before) and location.endswith(after) if seed else False
    return same or template == location


def look_at_machine(
    experiment: Experiment,
    lines: Sequence[Line],
    locations: Mapping[str, str],
    mistakes: Mistakes,
) -> None:
    """Look for what would fail in a stage that is not done, after others had sampled and trained.

    Args:
        experiment: the recipe and its tasks.
        lines: its plan; stages that are done are passed over.
        locations: as above.
        mistakes: takes what is found: an engine or a trainer's setting that this machine cannot do;
            servers of which none answers; no such verifier; a stage whose student and teacher mean
            other tokens by the same ids.
    """
    recipe = experiment.recipe
    left = [line.task for line in lines if line.done < line.rounds]
    if any(task.stage.kind == EVAL or is_graded(task.stage) for task in left):
        with mistakes.collect(), of_recipe(recipe.at("verifier"), "verifier"):
            verifier_name(recipe.verifier)
    for name in sorted({recipe.engine.name, *(t.stage.score.engine for t in left)} - {""}):
        if left:
            with mistakes.collect():
                _require_engine(recipe, name)
    trained = [task for task in left if task.stage.kind != EVAL]
    before = len(mistakes.found)
    if trained:
        with mistakes.collect():
            require_torch()
    # A launcher may train on another machine, whose trainer refuses by itself.
    if len(mistakes.found) == before and not recipe.launcher:
        for task in trained:
            with mistakes.collect():
                _require_machine(recipe, task)
    _look_at_tokenizers(experiment, trained, locations, mistakes)


def look_at_store(
    experiment: Experiment, store: Store, lines: Sequence[Line], mistakes: Mistakes
) -> None:
    """Look for what the store holds against it.

    Args:
        experiment: the recipe, its tasks and what the store knows of them.
        store: the store.
        lines: the plan with where each task stands.
        mistakes: takes what is found: a round that was begun with other settings; a name that
            something else has; prompts that are stored with other answers or splits; prompts of
            the recipe's sources that are none of its own.
    """
    ledger, recipe = experiment.ledger, experiment.recipe
    for line in lines:
        if line.standing.refused:
            refused = line.standing.refused
            at = recipe.title(line.task.key)
            mistakes.add(InputError(f"{at}: {refused.what}", refused.why, refused.fix))
            continue
        trained = () if line.task.stage.kind == EVAL else range(line.done, line.rounds)
        names = [ledger.name(line.task, i) for i in trained if ledger.round(line.task, i) is None]
        for name in names:
            has = "dataset" if folders.is_there(store, name) else "policy"
            if has == "dataset" or name in ledger.policy_ids:
                mistakes.add(
                    InputError(
                        f"{recipe.title(line.task.key)}: the store has a {has} {name} already",
                        "no round of this recipe made it",
                        "give the recipe another name: --set name=...",
                    )
                )
    left = {line.task.stage.prompts for line in lines if line.done < line.rounds}
    if left:
        check_prompts(store, recipe, mistakes)
    for condition in left & experiment.prompts.keys():
        with mistakes.collect():
            _require_own_prompts(experiment, store, condition)


def _require_own_prompts(experiment: Experiment, store: Store, condition: str) -> None:
    recipe = experiment.recipe
    try:
        found = select_prompts(store, own_prompts(recipe.prompts, condition))
    except S2DError:  # nothing matches yet
        return
    strange = {prompt.prompt_id for prompt in found} - experiment.prompts[condition].keys()
    if strange:
        raise InputError(
            f"recipe {recipe.name}: the store has {len(strange)} prompts of the same source and "
            "split that are not in its files",
            f"prompts = {condition!r} would select them, too",
            "give the prompts of this recipe a source of their own: source = ...",
        )


def _require_engine(recipe: Recipe, name: str) -> None:
    from s2d_store.engines.registry import check_engine_available

    chosen = engine_choice(recipe, name)
    with of_recipe(f"{recipe.at('engine')}: [engine]", "engine"):
        check_engine_available(name, chosen["device"], chosen["dtype"])
        if chosen["url"]:
            require_an_endpoint(chosen["url"])


def _require_machine(recipe: Recipe, task: Task) -> None:
    from trainers.runtime import check_machine, check_trackers

    title = recipe.title(task.key, "train")
    config = trainer_config(title, task.stage, "dataset", "student", "output")
    with of_recipe(f"{recipe.title(task.key, 'train.trackers')}: train"):
        check_trackers(config.trackers)
    with of_recipe(f"{title}: train"):
        check_machine(config)


def _look_at_tokenizers(
    experiment: Experiment,
    tasks: Sequence[Task],
    locations: Mapping[str, str],
    mistakes: Mistakes,
) -> None:
    vocabulary = cache(lambda at: read_vocabulary(load_tokenizer(str(resolve_location(at)))))
    seen: set[tuple[str, str]] = set()
    for task in tasks:
        start = source_policy(experiment.tasks, task, task.stage.start)
        named = {source_policy(experiment.tasks, task, ref) for ref in references(task.stage)}
        for other in sorted(named):
            if (start, other) not in seen:
                seen.add((start, other))
                title = experiment.recipe.title(task.key)
                with mistakes.collect():
                    _require_one_tokenizer(
                        title, (start, other), *(vocabulary(locations[p]) for p in (start, other))
                    )


def _require_one_tokenizer(
    title: str, names: tuple[str, str], ours: Sequence[str], theirs: Sequence[str]
) -> None:
    if ours != theirs:
        raise InputError(
            f"{title} trains {names[0]!r}, which has another tokenizer than {names[1]!r}",
            tokenizer_difference(ours, theirs),
            "a student learns from its teacher's token ids: name policies that share a "
            "tokenizer under [policies]",
        )
