"""From a recipe to its tasks: one per stage and seed, references resolved, dependencies first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.recipes.schema import Recipe, Stage
from s2d_store import ids
from s2d_store.errors import InputError


@dataclass(frozen=True)
class Task:
    """One stage for one seed.

    Attributes:
        name: the stage's, with the seed's ending where there are several.
        key: the stage's in the recipe.
        stage: what the recipe says.
        seed: the seed of its datasets and training.
        sampling_name: the stage's with its seed, or its template's, whose copies draw alike.
        policies: reference -> name of the registered policy, for what is no stage.
        tasks: reference -> name of the task, for what is one.
    """

    name: str
    key: str
    stage: Stage
    seed: int
    sampling_name: str
    policies: Mapping[str, str]
    tasks: Mapping[str, str]

    @property
    def sampling_seed(self) -> int:
        """Another one per stage, so that two stages do not draw the same rollouts of a policy."""
        return int(ids.content_id(self.seed, self.sampling_name)[:7], 16)


def tasks(recipe: Recipe, seeds: Sequence[int] = ()) -> list[Task]:
    """Every task, in the recipe's order but dependencies first, one seed after the other.

    Args:
        recipe: the recipe.
        seeds: those of its seeds to take; none takes all.

    Raises:
        InputError: a seed that is none of the recipe's.
    """
    order = ordered(recipe)
    for seed in seeds:
        if seed not in recipe.seeds:
            raise InputError(
                f"--seed {seed} is not a seed of the recipe",
                f"they are {', '.join(map(str, recipe.seeds))}",
            )
    return [_task(recipe, name, seed) for seed in seeds or recipe.seeds for name in order]


def seeded_name(recipe: Recipe, name: str, seed: int) -> str:
    """A stage's name for a seed; a policy's, too, where its location differs by seed."""
    shared = "{seed}" not in recipe.brought.get(name, "{seed}")
    return name if shared or len(recipe.seeds) == 1 else f"{name}.s{seed}"


def policy_names(recipe: Recipe, seeds: Sequence[int] = ()) -> dict[str, str]:
    """Name to register -> location, of every policy that the recipe brings along, a seed each."""
    return {
        seeded_name(recipe, name, seed): location.replace("{seed}", str(seed))
        for seed in seeds or recipe.seeds
        for name, location in recipe.brought.items()
    }


def references(stage: Stage) -> list[str]:
    """Every policy or stage that a stage names."""
    one = [stage.start, stage.teacher, stage.reference, stage.rollouts_of, stage.treatment]
    return [name for name in (*one, *stage.bridge, *stage.policies) if name]


def source_policy(tasks: Mapping[str, Task], task: Task, ref: str) -> str:
    """The policy of the recipe that a reference's weights come from in the end."""
    if ref in task.policies:
        return task.policies[ref]
    made = tasks[task.tasks[ref]]
    return source_policy(tasks, made, made.stage.start)


def _task(recipe: Recipe, name: str, seed: int) -> Task:
    named = dict.fromkeys(references(recipe.stage[name]))
    return Task(
        seeded_name(recipe, name, seed),
        name,
        recipe.stage[name],
        seed,
        seeded_name(recipe, recipe.families.get(name, name), seed),
        {ref: seeded_name(recipe, ref, seed) for ref in named if ref not in recipe.stage},
        {ref: seeded_name(recipe, ref, seed) for ref in named if ref in recipe.stage},
    )


def ordered(recipe: Recipe) -> list[str]:
    """Stage names, dependencies first.

    Raises:
        InputError: stages that wait for each other.
    """
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise InputError(
                f"{recipe.at(f'stage.{name}')}: stages of the recipe wait for each other: {circle}",
                "a stage can only start from what was made before it",
                f"let [stage.{name}] start from a policy",
            )
        if name in recipe.stage and name not in done:
            for ref in references(recipe.stage[name]):
                visit(ref, (*path, name))
            done.append(name)

    for name in recipe.stage:
        visit(name, ())
    return done
