"""Stored rollouts as verifiers see them: the response with everything known of its prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import duckdb

import queries
from s2d_store.messages import from_stored
from s2d_store.sql import connection
from s2d_store.verifiers.base import Item, Needs

_FETCH_ROWS = 1024


@dataclass(frozen=True)
class Pending:
    """A rollout to grade, and the attempt that its verdict will be."""

    item: Item
    attempt: int


def pending_items(con: duckdb.DuckDBPyConnection, needs: Needs) -> Iterator[Pending]:
    """The rollouts of temporary table `_pending`; of each only what the verifier needs is read."""
    # A query is read to its end before the connection takes another: prompts come by batches of
    # their own, over a second cursor.
    reading, looking_up = con, con.cursor()
    with connection.errors():
        reading.execute(queries.internal("verify_items"), {"tokens": needs.tokens})
    while batch := reading.fetchmany(_FETCH_ROWS):
        facts = prompt_facts(looking_up, {row[1] for row in batch}, needs)
        for rollout_id, prompt_id, attempt, response, token_ids in batch:
            item = facts.get(prompt_id, _UNKNOWN)
            yield Pending(item_of(item, rollout_id, response, token_ids), attempt)


def item_of(prompt: Item, rollout_id: str, response: str, token_ids: Any = None) -> Item:
    """A response to a prompt of `prompt_facts`."""
    return replace(prompt, rollout_id=rollout_id, response=response, token_ids=token_ids)


def prompt_facts(
    con: duckdb.DuckDBPyConnection, prompt_ids: Iterable[str], needs: Needs
) -> dict[str, Item]:
    """Items without a response, by prompt id; `con` has table prompts."""
    asked = {"prompts": sorted(prompt_ids), "context": needs.context}
    with connection.errors():
        rows = con.execute(queries.internal("prompt_facts"), asked).fetchall()
    return {row[0]: _fact(*row[1:]) for row in rows}


def _fact(
    answer: str | None,
    answer_type: str,
    answers: list[str] | None,
    messages: list[dict[str, Any]] | None,
    source: str,
    task: str | None,
    meta: str | None,
) -> Item:
    return Item(
        rollout_id="",
        response="",
        answer=answer,
        answer_type=answer_type,
        answers=tuple(answers or ()),
        messages=[from_stored(message) for message in messages or ()],
        source=source,
        task=_mapping(task),
        meta=_mapping(meta),
    )


def _mapping(text: str | None) -> dict[str, Any]:
    """A JSON object; another value stands under the key `value`."""
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {"value": found}


_UNKNOWN = Item(rollout_id="", response="", answer_type="none")
