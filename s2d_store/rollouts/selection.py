"""Which prompts and rollouts a command works on: SQL conditions of the user's, checked."""

from __future__ import annotations

from dataclasses import dataclass

from s2d_store import sql
from s2d_store.errors import InputError, QueryError
from s2d_store.store import Store


@dataclass(frozen=True)
class Prompt:
    """A stored prompt: id, chat messages, gold answer or None."""

    prompt_id: str
    messages: list[dict[str, str]]
    answer: str | None


def select_prompts(store: Store, where: str = "", limit: int = 0) -> list[Prompt]:
    """Prompts in order of their id (a hash, so any `limit` is a fair sample).

    Raises:
        QueryError: the condition is not SQL over table prompts.
        InputError: nothing matches.
    """
    con = store.connect()
    # `where` is the user's own SQL: the connection reads nothing but the store.
    text = "SELECT prompt_id, messages, answer FROM prompts" + condition(where)
    try:
        with sql.errors():
            rows = con.execute(f"{text} ORDER BY prompt_id LIMIT {limit or 'ALL'}").fetchall()
    except QueryError as error:
        raise QueryError(
            f"--where {where!r} does not work on table prompts",
            error.why,
            "s2d query 'DESCRIBE prompts' shows its columns",
        ) from error
    if not rows:
        stored = con.execute("SELECT count(*), string_agg(DISTINCT split, ', ') FROM prompts")
        count, splits = stored.fetchone() or (0, "")
        raise InputError(
            "no prompts to work on" + (f": none of {count} matches {where!r}" if count else ""),
            f"splits in the store: {splits}" if count else "the store holds no prompts",
            "change --where" if count else "s2d prompts add FILE --source NAME",
        )
    return [Prompt(*row) for row in rows]


def condition(where: str) -> str:
    """A WHERE clause around the user's condition, or nothing."""
    return f" WHERE ({where})" if where else ""
