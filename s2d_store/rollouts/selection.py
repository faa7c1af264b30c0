"""Which prompts and rollouts a command works on: SQL conditions of the user's, checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from s2d_store import ids
from s2d_store.errors import InputError, QueryError
from s2d_store.messages import Message, from_stored
from s2d_store.sql import connection, read_only
from s2d_store.store import Store


@dataclass(frozen=True)
class Prompt:
    """A stored prompt: id, chat messages, gold answer or None, tool definitions or None."""

    prompt_id: str
    messages: list[Message]
    answer: str | None
    tools: list[dict[str, Any]] | None = None


def check_mass(mass: float) -> None:
    """Refuse a probability to keep that is none.

    Raises:
        InputError: it is not above 0 and at most 1.
    """
    if not 0 < mass <= 1:
        raise InputError(
            f"--mass {mass:g} is not a probability above 0",
            "at each token the fewest entries are kept that sum to it",
            "--mass 0.999, or leave it out to keep all",
        )


def select_prompts(store: Store, where: str = "", limit: int = 0) -> list[Prompt]:
    """Prompts in order of their id (a hash, so any `limit` is a fair sample).

    Raises:
        QueryError: the condition is not SQL over table prompts.
        InputError: nothing matches.
    """
    con = store.connect(text=f"prompts {where}")
    chosen = condition(con, "prompts", where)
    text = f"SELECT prompt_id, messages, answer, tools FROM prompts{chosen}"
    with where_errors("prompts", where):
        rows = con.execute(f"{text} ORDER BY prompt_id LIMIT {limit or 'ALL'}").fetchall()
    if not rows:
        stored = con.execute("SELECT count(*), string_agg(DISTINCT split, ', ') FROM prompts")
        count, splits = stored.fetchone() or (0, "")
        raise InputError(
            "no prompts to work on" + (f": none of {count} matches {where!r}" if count else ""),
            f"splits in the store: {splits}" if count else "the store holds no prompts",
            "change --where" if count else "s2d prompts add FILE --source NAME",
        )
    return [
        Prompt(key, [from_stored(m) for m in messages], gold, json.loads(tools) if tools else None)
        for key, messages, gold, tools in rows
    ]


def prompts_of_round(prompts: Sequence[Prompt], size: int, round_: int, seed: int) -> list[Prompt]:
    """The `size` prompts whose turn it is in a round, in order of their id.

    Rounds go through all prompts, whole rounds only, in an order that `seed` draws; then through
    all again in another order. With fewer than `size` prompts every round takes all.
    """
    pass_, place = divmod(round_, max(1, len(prompts) // size))
    drawn = sorted(prompts, key=lambda prompt: ids.content_id(seed, pass_, prompt.prompt_id))
    taken = drawn[place * size : (place + 1) * size]
    return sorted(taken, key=lambda prompt: prompt.prompt_id)


def check_counts(*options: tuple[str, int, int]) -> None:
    """Refuse the first `(option, value, least)` whose value is too small.

    Raises:
        InputError: naming the option and what it may be.
    """
    for option, value, least in options:
        if value < least:
            raise InputError(f"{option} {value} is not usable", f"it must be at least {least}")


def condition(con: duckdb.DuckDBPyConnection, view: str, where: str) -> str:
    """A WHERE clause around the user's condition on `view`, or nothing.

    The text is the user's own SQL; it is one condition, and the connection reads nothing but the
    store.

    Raises:
        QueryError: it is not a condition, or names unknown columns.
    """
    if not where:
        return ""
    clause = f" WHERE ({where}\n)"
    text = f"EXPLAIN SELECT count(*) FROM {view}{clause}"
    with where_errors(view, where):
        read_only.check_condition(where)
        con.execute(text)
    return clause


@contextmanager
def where_errors(view: str, where: str) -> Iterator[None]:
    """Say that it was the user's condition which failed, and what it may name."""
    try:
        with connection.errors():
            yield
    except QueryError as error:
        if not where:
            raise
        raise QueryError(
            f"--where {where!r} does not work on {view}",
            error.why,
            f"s2d query 'DESCRIBE {view}' shows its columns",
        ) from error
