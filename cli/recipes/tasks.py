"""From a recipe to its tasks: one per stage and seed, references resolved, dependencies first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal, get_origin, get_type_hints

from cli.recipes.schema import EVAL, EVAL_KEYS, Recipe, Stage, optional_keys, required_keys
from cli.recipes.stage_kind import is_scored, kind_of, query_of, trainer_of
from queries import kinds
from queries.kinds import Kind
from s2d_store import ids
from s2d_store.engines import registry as engines
from s2d_store.errors import InputError, S2DError
from s2d_store.strict_toml import expected, fits
from trainers.config import TrainerConfig

# What a stage fills in by itself.
_FILLED = (
    "teacher",
    "student",
    "policy",
    "treatment",
    "bridge",
    "runs",
    "round",
    "support",
    "verifier",
)
_FILLED_TRAIN = ("dataset", "student", "output", "continue_optimizer", "schedule_updates")


@dataclass(frozen=True)
class Task:
    """One stage for one seed.

    Attributes:
        name: the stage's, with the seed's ending where there are several.
        stage: what the recipe says.
        seed: the seed of its datasets and training; `sampling_seed` that of its rollouts.
        policies: reference -> name of the registered policy, for what is no stage.
        tasks: reference -> name of the task, for what is one.
    """

    name: str
    stage: Stage
    seed: int
    policies: Mapping[str, str]
    tasks: Mapping[str, str]

    @property
    def sampling_seed(self) -> int:
        """Another one per stage, so that two stages do not draw the same rollouts of a policy."""
        return int(ids.content_id(self.seed, self.name)[:7], 16)


def tasks(recipe: Recipe, seeds: Sequence[int] = ()) -> list[Task]:
    """Every task, in the recipe's order but dependencies first, one seed after the other.

    Args:
        recipe: the recipe.
        seeds: those of its seeds to take; none takes all.

    Raises:
        InputError: a key that the stage's kind lacks or does not take, an unknown reference, a
            cycle, or settings that its query or trainer does not take.
    """
    for name, stage in recipe.stage.items():
        _check_stage(recipe, name, stage)
    order = _sorted(recipe)
    if not recipe.seeds:
        raise InputError("the recipe's seeds are an empty list", fix="seeds = [0]")
    for seed in seeds:
        if seed not in recipe.seeds:
            raise InputError(
                f"--seed {seed} is not a seed of the recipe",
                f"they are {', '.join(map(str, recipe.seeds))}",
            )
    return [_task(recipe, name, seed) for seed in seeds or recipe.seeds for name in order]


def seeded_name(recipe: Recipe, name: str, seed: int) -> str:
    """A stage's name for a seed; a policy's, too, where its location differs by seed."""
    shared = name in recipe.policies and "{seed}" not in recipe.policies[name]
    return name if shared or len(recipe.seeds) == 1 else f"{name}.s{seed}"


def policy_names(recipe: Recipe, seeds: Sequence[int] = ()) -> dict[str, str]:
    """Name to register -> location, of every policy that the recipe brings along, a seed each."""
    return {
        seeded_name(recipe, name, seed): location.replace("{seed}", str(seed))
        for seed in seeds or recipe.seeds
        for name, location in recipe.policies.items()
    }


def references(stage: Stage) -> list[str]:
    """Every policy or stage that a stage names."""
    one = [stage.start, stage.teacher, stage.rollouts_of, stage.treatment]
    return [name for name in (*one, *stage.bridge, *stage.policies) if name]


def _task(recipe: Recipe, name: str, seed: int) -> Task:
    named = dict.fromkeys(references(recipe.stage[name]))
    return Task(
        seeded_name(recipe, name, seed),
        recipe.stage[name],
        seed,
        {ref: seeded_name(recipe, ref, seed) for ref in named if ref not in recipe.stage},
        {ref: seeded_name(recipe, ref, seed) for ref in named if ref in recipe.stage},
    )


def _sorted(recipe: Recipe) -> list[str]:
    """Stage names, dependencies first."""
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise InputError(
                f"stages of the recipe wait for each other: {circle}",
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


def _check_stage(recipe: Recipe, name: str, stage: Stage) -> None:
    title, kind = f"[stage.{name}]", stage.kind
    blank = Stage(kind=kind)
    required: tuple[str, ...] = EVAL_KEYS[0]
    optional: tuple[str, ...] = EVAL_KEYS[1]
    if kind != EVAL:
        required, optional = required_keys(kind_of(stage)), optional_keys(kind_of(stage))
    for field in fields(Stage):
        given = getattr(stage, field.name) != getattr(blank, field.name)
        if given and field.name not in ("kind", *required, *optional):
            raise InputError(
                f"{title} has {field.name}, which a stage of kind {kind} does not take",
                f"it takes {', '.join((*required, *optional))}",
                "docs/recipes.md explains every key",
            )
    for key in required:
        if not getattr(stage, key):
            raise InputError(
                f"{title} lacks {key}", f"a stage of kind {kind} needs it", f"{key} = ..."
            )
    if name in recipe.policies:
        raise InputError(f"{name} is a stage and a policy", fix="give one of them another name")
    stages = {key: recipe.stage.get(getattr(stage, key)) for key in ("treatment", "rollouts_of")}
    for ref in references(stage):
        if ref not in recipe.stage and ref not in recipe.policies:
            raise InputError(
                f"{title} names {ref!r}, which is neither a stage nor a policy",
                f"stages: {', '.join(recipe.stage)}; policies: {', '.join(recipe.policies)}",
                f"name one of them, or add {ref} = FOLDER to [policies]",
            )
    _check_references(title, stage, stages, recipe)
    for key, least in (("rounds", 1), ("prompts_per_round", 0)):
        if getattr(stage, key) < least:
            raise InputError(f"{title}: {key} is {getattr(stage, key)}", f"at least {least}")
    if kind != EVAL:
        _check_scoring(title, stage, recipe)
        _check_dataset(title, stage)
        _check_sampling(title, stage, recipe)
        trainer_config(title, stage, "dataset", "student", "output")


def _check_references(
    title: str, stage: Stage, stages: Mapping[str, Stage | None], recipe: Recipe
) -> None:
    treatment, sampled = stages["treatment"], stages["rollouts_of"]
    if stage.treatment and (treatment is None or not _is(treatment, _learns_from_labels)):
        raise _other_kind(title, recipe, "treatment", stage.treatment, _learns_from_labels)
    if stage.rollouts_of and (sampled is None or not _is(sampled, _is_sampled_by_teacher)):
        raise _other_kind(title, recipe, "rollouts_of", stage.rollouts_of, _is_sampled_by_teacher)
    for ref in stage.bridge:
        if ref not in recipe.stage or not _is(recipe.stage[ref], _is_bridge):
            raise _other_kind(title, recipe, "bridge", ref, _is_bridge)
    for ref in (stage.start, stage.teacher, *stage.policies):
        if ref in recipe.stage and recipe.stage[ref].kind == EVAL:
            raise InputError(f"{title} names {ref!r}, an eval stage, which makes no policy")
    if stage.baseline and stage.baseline not in stage.policies:
        raise InputError(
            f"{title}: baseline {stage.baseline!r} is not one of its policies",
            f"they are {', '.join(stage.policies)}",
        )


def _check_scoring(title: str, stage: Stage, recipe: Recipe) -> None:
    """Refuse what the engines cannot do, and a teacher without ids to score."""
    sampler, scorer = recipe.engine.name, stage.score.engine or recipe.engine.name
    given_ids = is_scored(stage) and stage.score.support == "policy"
    with of_recipe(title, "generate"):
        engines.require_capable(sampler, k=stage.generate.top_logprobs)
    with of_recipe(title, "score"):
        engines.require_capable(scorer, k=stage.score.top_logprobs, given_ids=given_ids)
    if given_ids and stage.generate.top_logprobs < 1:
        raise InputError(
            f"{title} keeps no top-k of the student",
            "its teacher scores the ids that the student ranked highest",
            "generate.top_logprobs = 20, or score.support = 'own' with score.top_logprobs",
        )


def _learns_from_labels(kind: Kind) -> bool:
    return kind.labels == "derived" and kind.policy == "on"


def _is_sampled_by_teacher(kind: Kind) -> bool:
    return kind.rollouts == "teacher"


def _is_bridge(kind: Kind) -> bool:
    return kind.has_topk and not kind.control


def _is(stage: Stage, of_kind: Callable[[Kind], bool]) -> bool:
    return stage.kind != EVAL and of_kind(kind_of(stage))


def _other_kind(
    title: str, recipe: Recipe, key: str, ref: str, of_kind: Callable[[Kind], bool]
) -> InputError:
    wanted = " or ".join(name for name, kind in kinds.shipped().items() if of_kind(kind))
    found = [name for name, stage in recipe.stage.items() if _is(stage, of_kind)]
    return InputError(
        f"{title}: {key} {ref!r} is no {wanted} stage",
        f"the recipe has {', '.join(found) or 'none'}",
    )


def _check_dataset(title: str, stage: Stage) -> None:
    known = [param.name for param in query_of(stage).params if param.name not in _FILLED]
    for key in stage.dataset:
        if key not in known:
            own = "the stage fills it in" if key in _FILLED else "its query has no such parameter"
            raise InputError(
                f"{title}: dataset.{key} cannot be given: {own}", f"allowed: {', '.join(known)}"
            )


def _check_sampling(title: str, stage: Stage, recipe: Recipe) -> None:
    """Refuse what building the stage's datasets would: see s2d_store.datasets.sampling_check."""
    from s2d_store.datasets import sampling_check

    if stage.kind not in sampling_check.KINDS or stage.dataset.get(sampling_check.PARAM):
        return
    sampled = {ref: recipe.stage[ref] for ref in stage.bridge} or {"": stage}
    for ref, source in sampled.items():
        how = source.generate
        if (how.temperature, how.top_p) != (1, 1) or how.top_k > 0:
            raise InputError(
                f"{title} trains on rollouts drawn at temperature {how.temperature:g}, top_p "
                f"{how.top_p:g}, top_k {how.top_k}" + (f", those of stage {ref}" if ref else ""),
                "stored logprobs are at temperature 1 without top-p and top-k, so ratios and "
                "losses on sampled tokens would be biased",
                f"sample at temperature 1, or dataset.{sampling_check.PARAM} = true takes them",
            )


def trainer_config(
    title: str, stage: Stage, dataset: str, student: str, output: str, **filled: Any
) -> TrainerConfig:
    """The config of a stage's trainer.

    Raises:
        InputError: a setting that it lacks, or a value that it refuses.
    """
    trainer = trainer_of(stage)
    hints = get_type_hints(trainer.config)
    known = [f.name for f in fields(trainer.config) if f.name not in _FILLED_TRAIN]
    for key, value in stage.train.items():
        if key not in known:
            raise InputError(
                f"{title}: train.{key} is no setting of s2d train {trainer.name}",
                f"allowed: {', '.join(known)}",
                "docs/cli.md explains them",
            )
        # The config itself says which words it takes.
        kind = str if get_origin(hints[key]) is Literal else hints[key]
        if not fits(kind, value):
            raise InputError(
                f"{title}: train.{key} is {value!r}",
                f"it must be {expected(kind)}",
                "docs/cli.md explains every setting",
            )
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in stage.train.items()}
    make: Callable[..., TrainerConfig] = trainer.config
    with of_recipe(f"{title}: train"):
        return make(dataset=dataset, student=student, output=output, **given, **filled)


@contextmanager
def of_recipe(title: str, table: str = "train") -> Iterator[None]:
    """Tell a refusal in the recipe's words: where it stands, and keys of a table for options."""
    try:
        yield
    except S2DError as error:
        fix = re.sub(r"--([a-z][a-z-]*)", lambda m: f"{table}.{m[1].replace('-', '_')}", error.fix)
        raise type(error)(f"{title}: {error.what}", error.why, fix) from error
