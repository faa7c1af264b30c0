"""A recipe, checked: keys, types, kinds of stages, names, references; all mistakes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.recipes import controls
from cli.recipes.check_stage import check_stages
from cli.recipes.document import HELP, Document, read_document
from cli.recipes.engines import check_engines
from cli.recipes.expand import expand
from cli.recipes.schema import EVAL, EVAL_KEYS, Generate, Recipe, Score, Stage, optional_keys
from cli.recipes.stage_kind import read_query
from queries import kinds
from s2d_store.errors import InputError, S2DError, did_you_mean
from s2d_store.ids import check_name
from s2d_store.mistakes import Mistakes
from s2d_store.strict_toml import TomlFile
from viewer.claims import check as check_claim

# Letters that the other parts of a round's name take up at most, RECIPE and .s10.a10.r100.
_OTHER_PARTS = 40
DEFAULTS = ("generate", "score", "train")
SCHEMAS = {"generate": Generate, "score": Score}


def read_recipe(
    path: Path,
    overlays: Sequence[Path] = (),
    settings: Sequence[str] = (),
    mistakes: Mistakes | None = None,
) -> Recipe:
    """Read and check a recipe; nothing of it is carried out.

    Args:
        path: the recipe.
        overlays: files laid over it.
        settings: `dotted.key=VALUE`, laid over all.
        mistakes: takes what is wrong with a file that is TOML; None raises it.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not TOML.
        S2DError: a key or value is wrong; names it, its line, and what is allowed. All that is
            wrong is told at once.
    """
    document = read_document(path, overlays, settings)
    raises = mistakes is None
    mistakes = mistakes or Mistakes()
    file = TomlFile(f"recipe {path}", HELP, document.places, mistakes)
    _take_defaults(file, document)
    families: dict[str, str] = {}
    with mistakes.collect():
        families = expand(document)
    controls.follow(file, document.values, mistakes)
    recipe: Recipe = file.table(Recipe, document.values)
    laid_over = (*(f"--overlay {file}" for file in overlays), *(f"--set {s}" for s in settings))
    recipe = replace(recipe, places=document.places, laid_over=tuple(laid_over), families=families)
    for name, stage in recipe.stage.items():
        with mistakes.collect():
            _check_kind(file, recipe, name, stage)
    for name, claim in recipe.claim.items():
        with mistakes.collect():
            check_claim(claim, f"{recipe.at(f'claim.{name}')}: [claim.{name}]")
    for what, key, names in (
        ("recipe", "name", [recipe.name] if recipe.name else []),
        ("split", "prompts.", recipe.prompts),
        ("policy", "policies.", recipe.policies),
        ("policy", "served.", recipe.served),
        ("stage", "stage.", recipe.stage),
    ):
        for name in names:
            with mistakes.collect():
                at = recipe.at("name" if what == "recipe" else f"{key}{name}")
                _check_name(at, name, what)
    # With a wrong value inside one of its tables, the rest of a stage can still be looked at.
    broken = {name for name in recipe.stage for key in file.broken if _is_at(key, name)}
    check_stages(recipe, mistakes, broken)
    if not broken:
        check_engines(recipe, mistakes)
    if raises:
        mistakes.raise_all(file.title)
    return recipe


def _is_at(key: str, stage: str) -> bool:
    """Whether a dotted key is a stage's, or one right below it."""
    return key == f"stage.{stage}" or key.rpartition(".")[0] == f"stage.{stage}"


def _check_name(at: str, name: str, what: str) -> None:
    try:
        check_name(name, what)
        if what == "stage":
            # With its recipe before it, and seed, attempt and round behind.
            check_name(name + "x" * _OTHER_PARTS, what)
    except InputError as error:
        fix = f"give the {what} another name"
        raise InputError(f"{at}: {error.what}", error.why, fix) from error


def _take_defaults(file: TomlFile, document: Document) -> None:
    """Lay `[defaults.generate]` and its like under the tables of the stages that take them."""
    defaults = document.values.pop("defaults", {})
    if not isinstance(defaults, dict):
        file.refuse("defaults", file.wrong("defaults", defaults, "a table"))
        return
    stages = document.values.get("stage")
    for key, table in defaults.items():
        if key not in DEFAULTS:
            known = [f"defaults.{name}" for name in DEFAULTS]
            file.refuse(f"defaults.{key}", file.unknown(f"defaults.{key}", known))
        elif not isinstance(table, dict):
            file.refuse(f"defaults.{key}", file.wrong(f"defaults.{key}", table, "a table"))
        else:
            if key in SCHEMAS:
                file.table(SCHEMAS[key], table, f"defaults.{key}")
                table = {k: v for k, v in table.items() if f"defaults.{key}.{k}" not in file.broken}
            for name, stage in stages.items() if isinstance(stages, dict) else ():
                if not isinstance(stage, dict) or key not in _optional_keys(stage):
                    continue
                if key not in controls.TABLES or not controls.follows(stage):
                    _lay_under(document, f"stage.{name}", stage, key, table)


def _lay_under(
    document: Document, at: str, stage: dict[str, Any], key: str, table: dict[str, Any]
) -> None:
    own = stage.get(key, {})
    if not isinstance(own, dict):
        return
    stage[key] = table | own
    for name in table.keys() - own.keys():
        document.places[f"{at}.{key}.{name}"] = document.places[f"defaults.{key}.{name}"]


def _optional_keys(stage: dict[str, Any]) -> tuple[str, ...]:
    """Keys that a stage of this kind may have; none where its kind is none."""
    kind, query = stage.get("kind"), stage.get("query")
    try:
        if query:
            return optional_keys(read_query(Path(str(query))).traits)
    except S2DError:
        return ()
    if kind == EVAL:
        return EVAL_KEYS[1]
    known = kinds.shipped().get(str(kind))
    return optional_keys(known) if known else ()


def _check_kind(file: TomlFile, recipe: Recipe, name: str, stage: Stage) -> None:
    """Refuse a stage whose kind is none, or not that of its query."""
    key = f"stage.{name}.kind"
    if not stage.query:
        known = (*kinds.shipped(), EVAL)
        if stage.kind and stage.kind not in known:
            allowed = f"one of {', '.join(known)}, or have a query of its own"
            error = file.wrong(key, stage.kind, allowed)
            file.refuse(key, InputError(error.what + did_you_mean(stage.kind, known), error.why))
        return
    try:
        query = read_query(Path(stage.query))
    except S2DError as error:
        at = recipe.at(f"stage.{name}.query")
        file.refuse(key, type(error)(f"{at}: {error.what}", error.why, error.fix))
        return
    file_name = Path(stage.query).name
    if stage.kind and stage.kind != query.kind:
        file.refuse(
            key,
            InputError(
                f"{recipe.at(key)}: {key} is {stage.kind!r}",
                f"its query {file_name} makes datasets of kind {query.kind}",
                f'kind = "{query.kind}", or "-- kind: {stage.kind}" in the header of {file_name}',
            ),
        )
