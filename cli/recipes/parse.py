"""A recipe file, checked against the schema: unknown keys, types, kinds of stages, names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.recipes.schema import EVAL, EVAL_KEYS, Recipe, Stage, optional_keys
from cli.recipes.stage_kind import read_query
from queries import kinds
from s2d_store.errors import InputError
from s2d_store.ids import check_name
from s2d_store.strict_toml import TomlFile

DEFAULTS = ("generate", "score", "train")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; nothing of it is carried out.

    Raises:
        NotFoundError: there is no such file, or none that a stage names as its query.
        InputError: it is not TOML, or a key or value is wrong; names it, and what is allowed.
    """
    file = TomlFile(f"recipe {path}", "docs/recipes.md explains every key")
    document = file.read(path, "name a .toml file; examples/ has some")
    defaults = _defaults(file, document)
    recipe: Recipe = file.table(Recipe, document)
    stages = {name: _placed(file, path, name, stage) for name, stage in recipe.stage.items()}
    if defaults:
        for name, stage in stages.items():
            taken = _optional_keys(stage)
            for key in set(defaults) & set(taken):
                document["stage"][name][key] = defaults[key] | document["stage"][name].get(key, {})
        merged: Recipe = file.table(Recipe, document)
        stages = {name: replace(merged.stage[name], query=s.query) for name, s in stages.items()}
    for what, names in (
        ("recipe", [recipe.name]),
        ("split", recipe.prompts),
        ("policy", recipe.policies),
        ("stage", recipe.stage),
    ):
        for name in names:
            check_name(name, what)
    return replace(recipe, stage=stages)


def _defaults(file: TomlFile, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Take out `[defaults.generate]` and its like, which hold where a stage says nothing else."""
    defaults = document.pop("defaults", {})
    for key, table in defaults.items() if isinstance(defaults, dict) else ():
        if key not in DEFAULTS:
            raise file.unknown(f"defaults.{key}", [f"defaults.{name}" for name in DEFAULTS])
        if not isinstance(table, dict):
            raise file.wrong(f"defaults.{key}", table, "a table")
    return defaults if isinstance(defaults, dict) else {}


def _placed(file: TomlFile, path: Path, name: str, stage: Stage) -> Stage:
    """The stage with its query found from the recipe's folder, and its kind checked against it."""
    if not stage.query:
        known = (*kinds.shipped(), EVAL)
        if stage.kind not in known:
            allowed = f"one of {', '.join(known)}, or have a query of its own"
            raise file.wrong(f"stage.{name}.kind", stage.kind, allowed)
        return stage
    found = path.parent / stage.query
    query = read_query(found)
    if stage.kind != query.kind:
        raise InputError(
            f"{file.title}: stage.{name}.kind is {stage.kind!r}",
            f"its query {stage.query} makes datasets of kind {query.kind}",
            f'kind = "{query.kind}", or "-- kind: {stage.kind}" in the header of {stage.query}',
        )
    return replace(stage, query=str(found))


def _optional_keys(stage: Stage) -> tuple[str, ...]:
    if stage.kind == EVAL and not stage.query:
        return EVAL_KEYS[1]
    kind = read_query(Path(stage.query)).traits if stage.query else kinds.shipped()[stage.kind]
    return optional_keys(kind)
