"""What a recipe asks of this machine and of its models, looked at before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from cli.recipes.estimate import Line
from cli.recipes.schema import EVAL, Engine, Recipe
from cli.recipes.stage_kind import is_graded
from cli.recipes.tasks import Task, of_recipe, references, trainer_config
from s2d_store.errors import InputError
from s2d_store.policies.locations import resolve_location
from s2d_store.policies.tokenizer import load_tokenizer, read_vocabulary, tokenizer_difference
from s2d_store.verifiers.registry import verifier_name


def require_possible(
    recipe: Recipe, lines: Sequence[Line], tasks: Mapping[str, Task], locations: Mapping[str, str]
) -> None:
    """Refuse what would fail in a stage that is not done, after others had sampled and trained.

    Args:
        recipe: the recipe.
        lines: its plan; stages that are done are passed over.
        tasks: every task by name.
        locations: folder or hub id of every policy that the recipe brings along, by name.

    Raises:
        S2DError: an engine or a trainer's setting that this machine cannot do; no such verifier; a
            policy that cannot be read; a stage whose student and teacher mean different tokens by
            the same ids.
    """
    left = [line.task for line in lines if line.done < line.rounds]
    if any(task.stage.kind == EVAL or is_graded(task.stage) for task in left):
        verifier_name(recipe.verifier)
    for name in sorted({recipe.engine.name, *(t.stage.score.engine for t in left)} - {""}):
        if left:
            _require_engine(name, recipe.engine)
    trained = [task for task in left if task.stage.kind != EVAL]
    # A launcher may train on another machine, whose trainer refuses by itself.
    for task in () if recipe.launcher else trained:
        _require_machine(task)
    vocabulary = cache(lambda at: read_vocabulary(load_tokenizer(str(resolve_location(at)))))
    for task in trained:
        start = _source(tasks, task, task.stage.start)
        for other in sorted({_source(tasks, task, ref) for ref in references(task.stage)}):
            ours, theirs = vocabulary(locations[start]), vocabulary(locations[other])
            if ours != theirs:
                raise InputError(
                    f"[stage.{task.name}] trains {start!r}, which has another tokenizer than "
                    f"{other!r}",
                    tokenizer_difference(ours, theirs),
                    "a student learns from its teacher's token ids: name policies that share a "
                    "tokenizer under [policies]",
                )


def _require_engine(name: str, engine: Engine) -> None:
    from s2d_store.engines.registry import check_engine_available

    with of_recipe("[engine]", "engine"):
        check_engine_available(name, engine.device, engine.dtype)


def _require_machine(task: Task) -> None:
    from trainers.runtime import check_machine

    title = f"[stage.{task.name}]"
    config = trainer_config(title, task.stage, "dataset", "student", "output")
    with of_recipe(f"{title}: train"):
        check_machine(config)


def _source(tasks: Mapping[str, Task], task: Task, ref: str) -> str:
    """The policy of the recipe that a reference's weights come from in the end."""
    if ref in task.policies:
        return task.policies[ref]
    made = tasks[task.tasks[ref]]
    return _source(tasks, made, made.stage.start)
