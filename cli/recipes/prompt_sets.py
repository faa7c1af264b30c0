"""The prompts that a recipe brings along: read into a store, and found there as its own."""

from __future__ import annotations

from collections.abc import Mapping

from cli.recipes.schema import Prompts, Recipe
from s2d_store import prompts
from s2d_store.errors import S2DError
from s2d_store.sql.connection import literal
from s2d_store.store import Store


def add_prompts(store: Store, recipe: Recipe) -> None:
    """Add a recipe's prompts to a store; what is there already adds nothing.

    Raises:
        S2DError: a file that is missing or malformed, or a prompt that the store has with another
            answer or split; names where the recipe says so.
    """
    for split, given in recipe.prompts.items():
        try:
            prompts.add(store, prompts.read_records(given.file), _options(split, given))
        except S2DError as error:
            at = recipe.at(f"prompts.{split}")
            raise type(error)(f"{at}: {error.what}", error.why, error.fix) from error


def own_prompts(named: Mapping[str, Prompts], condition: str) -> str:
    """A condition on prompts, held to the sources and splits that a recipe brings along.

    Another recipe's prompts in the same store are not sampled.
    """
    own = ", ".join(
        f"({literal(given.source_name)}, {literal(split)})" for split, given in named.items()
    )
    return f"({condition or 'true'}) AND (source, split) IN ({own})"


def _options(split: str, given: Prompts) -> prompts.PromptOptions:
    return prompts.PromptOptions(
        source=given.source_name,
        split=split,
        prompt_field=given.prompt_field,
        answer_field=given.answer_field,
        system=given.system,
        suffix=given.suffix,
        skip_duplicates=given.skip_duplicates,
    )
