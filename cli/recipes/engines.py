"""What samples and scores in a recipe: `[engine]` and `[workers]` as settings of commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from cli.recipes.schema import EVAL, Recipe, Stage
from cli.recipes.stage_kind import is_by_teacher, is_sampled, is_scored, reference_of
from s2d_store.engines import registry
from s2d_store.engines.ray_workers import check_count
from s2d_store.engines.server_args import ServerArgs
from s2d_store.engines.server_endpoints import read_urls
from s2d_store.errors import InputError, S2DError
from s2d_store.mistakes import Mistakes
from s2d_store.rollouts.settings import ModelLoading

# Keys of a recipe that an engine's errors mean by these options.
_KEYS = {
    "--url": "engine.url",
    "--workers": "workers.count",
    "--engine-arg": "engine.args",
    "--device": "engine.device",
    "--dtype": "engine.dtype",
}
# The engine argument that spreads a model over several GPUs.
_GPUS = "tensor_parallel_size"


def is_served(name: str) -> bool:
    """Whether an engine is a client of servers; false for one that is unknown."""
    try:
        return registry.find(name).capabilities.served
    except S2DError:
        return False


def engine_choice(recipe: Recipe, name: str = "") -> dict[str, Any]:
    """The fields of `EngineChoice` for one engine of a recipe.

    Args:
        recipe: the recipe.
        name: of the engine; empty: that of `[engine]`. Another one gets none of its `args`.
    """
    engine, workers = recipe.engine, recipe.workers
    name = name or engine.name
    served = is_served(name)
    arguments = dict(engine.args) if name == engine.name else {}
    if workers.gpus > 1 and not served and name != "transformers":
        arguments[_GPUS] = workers.gpus
    loading = {field.name: getattr(engine, field.name) for field in fields(ModelLoading)}
    if served and name != engine.name:
        # Whoever started the server chose them.
        loading |= {"device": "auto", "dtype": "auto"}
    return {
        "engine": name,
        "engine_args": tuple(arguments.items()),
        "url": engine.url if served else "",
        "engine_workers": "" if served or workers.count == 1 else str(workers.count),
        **loading,
    }


def engines_of(recipe: Recipe) -> set[str]:
    """Every engine that a recipe names."""
    scorers = {stage.score.engine for stage in recipe.stage.values()}
    return {recipe.engine.name, *scorers} - {""}


def kept_engines(recipe: Recipe) -> int:
    """How many engines to keep open. Actors hold their GPUs: two sets of them would wait."""
    on_ray = str(recipe.workers.count).startswith("ray")
    return min(recipe.engine.keep, 1) if on_ray else recipe.engine.keep


def check_engines(recipe: Recipe, mistakes: Mistakes) -> None:
    """Look for every mistake in `[engine]` and `[workers]`; no server is asked.

    Args:
        recipe: the recipe.
        mistakes: takes what is found: no endpoints, or ones that nothing uses; workers that are
            none; arguments that engine server lacks; policies that a server cannot stand for.
    """
    engine, workers, names = recipe.engine, recipe.workers, engines_of(recipe)
    served = sorted(name for name in names if is_served(name))

    def refuse(key: str, what: str, why: str, fix: str) -> None:
        mistakes.add(InputError(f"{recipe.at(key)}: {what}", why, fix))

    if served:
        with mistakes.collect(), _in_keys(recipe.at("engine.url")):
            read_urls(engine.url)
    elif engine.url:
        refuse(
            "engine.url",
            f"engine.url is {engine.url!r}, and no engine uses it",
            f"the recipe's engines are {', '.join(sorted(names))}",
            'engine.name = "server", or score.engine = "server" in the stages that it scores',
        )
    if engine.name == "server":
        with mistakes.collect(), _in_keys(recipe.at("engine.args")):
            ServerArgs.read(engine.args)
    if workers.count != 1:
        if len(served) == len(names):
            refuse(
                "workers.count",
                f"workers.count is {workers.count!r} for engine {engine.name}",
                "its servers are the workers",
                "leave [workers] out, and name every endpoint in engine.url",
            )
        kind, colon, number = str(workers.count).partition(":")
        if kind != "ray" or colon:
            with mistakes.collect(), _in_keys(recipe.at("workers.count")):
                check_count(number if kind == "ray" else kind + colon + number)
    _check_gpus(recipe, mistakes)
    _check_weights(recipe, mistakes)
    if served:
        _check_served_policies(recipe, mistakes)


def _check_gpus(recipe: Recipe, mistakes: Mistakes) -> None:
    engine, gpus = recipe.engine, recipe.workers.gpus
    at, what = recipe.at("workers.gpus"), f"workers.gpus is {gpus}"
    if gpus < 1:
        mistakes.add(InputError(f"{at}: {what}", "it must be 1 or more", "gpus = 1"))
    if gpus > 1 and (engine.name == "transformers" or is_served(engine.name)):
        why = "it computes on one GPU" if engine.name == "transformers" else "its servers have them"
        mistakes.add(
            InputError(
                f"{at}: {what} for engine {engine.name}", why, "leave it out, or engine vllm"
            )
        )
    given = engine.args.get(_GPUS, gpus)
    if gpus > 1 and given != gpus:
        mistakes.add(
            InputError(
                f"{at}: {what}, and engine.args.{_GPUS} is {given!r}",
                "both say over how many GPUs a model is spread",
                f"leave engine.args.{_GPUS} out",
            )
        )


def _check_served_policies(recipe: Recipe, mistakes: Mistakes) -> None:
    """Refuse a server in the place of a policy that is trained, or of several policies."""
    first = ""
    for name, stage in recipe.stage.items():
        for key, ref in _asked_of_servers(recipe, stage):
            title = recipe.title(name, key)
            if ref in recipe.stage or (ref == stage.start and stage.rounds > 1):
                mistakes.add(
                    InputError(
                        f"{title} would use a server for {ref!r}, whose weights this recipe trains",
                        "a server keeps the weights that it was started with",
                        'an engine that loads weights in [engine]; score.engine = "server" for a '
                        "teacher that is served",
                    )
                )
                continue
            first = first or ref
            if _model(recipe, ref) != _model(recipe, first):
                mistakes.add(
                    InputError(
                        f"{title} would use the same server for {ref!r} as for {first!r}",
                        "engine.url stands for one model",
                        "an engine that loads weights for one of them",
                    )
                )


def _model(recipe: Recipe, ref: str) -> str | None:
    """What stands for a model: two served policies are two, whatever their tokenizers."""
    return ref if ref in recipe.served else recipe.policies.get(ref)


def _check_weights(recipe: Recipe, mistakes: Mistakes) -> None:
    """Refuse a served policy where weights are needed, or with the name of another."""
    for name in recipe.served.keys() & recipe.policies.keys():
        mistakes.add(
            InputError(
                f"{recipe.at(f'served.{name}')}: [served] and [policies] both have {name!r}",
                "a policy has weights here, or an endpoint alone has them",
                "leave one of them out",
            )
        )
    for name, stage in recipe.stage.items():
        asked = set(_asked_of_servers(recipe, stage))
        named = [(key, getattr(stage, key)) for key in ("start", "teacher", "reference")]
        for key, ref in (*named, *(("policies", ref) for ref in stage.policies)):
            if ref in recipe.served and (key == "start" or (key, ref) not in asked):
                mistakes.add(
                    InputError(
                        f"{recipe.title(name, key)} needs the weights of {ref!r}, which is served",
                        "training starts from weights"
                        if key == "start"
                        else f"engine {recipe.engine.name} loads them",
                        f"{ref} = FOLDER in [policies]"
                        + (
                            ""
                            if key == "start"
                            else '; or a server: score.engine = "server" where it scores, '
                            'engine.name = "server" where it samples'
                        ),
                    )
                )


def _asked_of_servers(recipe: Recipe, stage: Stage) -> Iterator[tuple[str, str]]:
    """What a server would stand for in a stage: key of the stage, policy or stage."""
    by_server = is_served(recipe.engine.name)
    if stage.kind == EVAL:
        yield from (("policies", ref) for ref in stage.policies if by_server)
        return
    if is_sampled(stage) and by_server:
        key = "teacher" if is_by_teacher(stage) else "start"
        yield key, getattr(stage, key)
    if is_scored(stage) and is_served(stage.score.engine or recipe.engine.name):
        yield "teacher", stage.teacher
    if reference_of(stage) and by_server:
        yield "reference", reference_of(stage)


@contextmanager
def _in_keys(at: str) -> Iterator[None]:
    """Tell a refusal of a command's option as one of the recipe's key."""

    def keys(text: str) -> str:
        return re.sub(r"--[a-z-]+", lambda m: _KEYS.get(m[0], m[0]), text)

    try:
        yield
    except S2DError as error:
        raise type(error)(f"{at}: {keys(error.what)}", keys(error.why), keys(error.fix)) from error
