"""The prompts that a recipe brings along: read into a store, and found there as its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cli.recipes.schema import Prompts, Recipe
from s2d_store import prompts
from s2d_store.errors import InputError, S2DError
from s2d_store.ids import content_id
from s2d_store.mistakes import Mistakes
from s2d_store.prompts.records import Record
from s2d_store.sql.connection import literal
from s2d_store.store import Store


def add_prompts(store: Store, recipe: Recipe) -> None:
    """Add a recipe's prompts to a store; what is there already adds nothing.

    Raises:
        S2DError: a file that is missing or malformed, or a prompt that the store has with another
            answer or split; names where the recipe says so.
    """
    for name, given in recipe.prompts.items():
        with _at(recipe, name):
            for split, records in _dealt(name, given).items():
                prompts.add(store, records, _options(split, given))


def check_prompts(store: Store, recipe: Recipe, mistakes: Mistakes) -> None:
    """Look for what `add_prompts` would refuse, in every set of prompts; nothing is written.

    Args:
        store: the store.
        recipe: the recipe.
        mistakes: takes what is found.
    """
    for name, given in recipe.prompts.items():
        with mistakes.collect(), _at(recipe, name):
            for split, records in _dealt(name, given).items():
                prompts.check(store, records, _options(split, given))


@contextmanager
def _at(recipe: Recipe, name: str) -> Iterator[None]:
    try:
        yield
    except S2DError as error:
        at = recipe.at(f"prompts.{name}")
        raise type(error)(f"{at}: {error.what}", error.why, error.fix) from error


def splits_of(name: str, given: Prompts) -> tuple[str, ...]:
    """The splits of `[prompts.NAME]`: its shares' names, or its own."""
    return tuple(given.split) or (name,)


def _dealt(name: str, given: Prompts) -> dict[str, Iterable[Record]]:
    """The records of a file by split."""
    if not given.split:
        return {name: prompts.read_records(given.file)}
    records = list(prompts.read_records(given.file))
    options = _options(name, given)
    ids = [prompts.to_row(where, record, options)["prompt_id"] for where, record in records]
    split_of = deal(ids, given.split, given.split_seed)
    return {
        split: [r for r, key in zip(records, ids, strict=True) if split_of.get(key) == split]
        for split in given.split
    }


def deal(prompt_ids: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Deal distinct prompts out to splits at random; equal shares differ by one prompt at most.

    Args:
        prompt_ids: the prompts; one that is there twice is dealt once.
        shares: split -> its share of all, above 0, at most 1 in all; what is left is in none.
        seed: of the order.

    Returns:
        Prompt -> split.

    Raises:
        InputError: shares that are none.
    """
    if min(shares.values()) <= 0 or sum(shares.values()) > 1 + 1e-9:
        raise InputError(
            f"split = {dict(shares)} are no shares",
            "each is above 0, and all together are at most 1",
            'split = {"1H" = 0.5, "2H" = 0.5}',
        )
    order = sorted(set(prompt_ids), key=lambda key: content_id("split", seed, key))
    found: dict[str, str] = {}
    cut, total = 0, 0.0
    for split, share in shares.items():
        total += share
        end = round(total * len(order))
        found |= dict.fromkeys(order[cut:end], split)
        cut = end
    return found


def own_prompts(named: Mapping[str, Prompts], condition: str) -> str:
    """A condition on prompts, held to the sources and splits that a recipe brings along.

    Another recipe's prompts in the same store are not sampled.
    """
    own = ", ".join(
        f"({literal(given.source_name)}, {literal(split)})"
        for name, given in named.items()
        for split in splits_of(name, given)
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
