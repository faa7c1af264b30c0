"""Add prompts to a store: every record is checked before the first is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from s2d_store.errors import InputError
from s2d_store.prompts.rows import PromptOptions, to_row
from s2d_store.schema import TABLES
from s2d_store.store import Store
from s2d_store.verifiers.gold import gold_readable

# Of a gold answer, in messages.
MAX_SHOWN = 200


@dataclass(frozen=True)
class Added:
    """What `add` did.

    Attributes:
        added: prompts stored now.
        present: prompts that were stored before.
        duplicates: records left out as their prompt stands above.
        labelled: prompts of the input with a gold answer.
        with_tools: prompts of the input with tool definitions.
        conflicts: of the duplicates, those with another gold answer, in words.
        unreadable: gold answers of the input that math-verify cannot read: where, and why.
    """

    added: int
    present: int
    duplicates: int
    labelled: int
    with_tools: int = 0
    conflicts: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def add(
    store: Store, records: Iterable[tuple[str, dict[str, Any]]], options: PromptOptions
) -> Added:
    """Check every record, then store the new prompts in one commit.

    Raises:
        InputError: see `check`. Nothing is stored then.
    """
    rows, first_at, duplicates, conflicts = _checked(store, records, options)
    table = pa.Table.from_pylist(list(rows.values()), schema=TABLES["prompts"].schema)
    added = store.commit({"prompts": table})["prompts"]
    return Added(
        added,
        len(rows) - added,
        duplicates,
        labelled=sum(row["answer"] is not None for row in rows.values()),
        with_tools=sum(row["tools"] is not None for row in rows.values()),
        conflicts=tuple(conflicts),
        unreadable=tuple(_unreadable(rows, first_at)),
    )


def check(
    store: Store, records: Iterable[tuple[str, dict[str, Any]]], options: PromptOptions
) -> None:
    """Refuse what `add` would refuse; nothing is stored.

    Raises:
        InputError: a record without its field, the same prompt twice in the input, or a prompt
            that is stored with another answer or split.
    """
    _checked(store, records, options)


def _checked(
    store: Store, records: Iterable[tuple[str, dict[str, Any]]], options: PromptOptions
) -> tuple[dict[str, dict[str, Any]], dict[str, str], int, list[str]]:
    """Rows by prompt id, where each stands first, how many repeat one, and with other answers."""
    rows: dict[str, dict[str, Any]] = {}
    first_at: dict[str, str] = {}
    duplicates, conflicts = 0, []
    for where, record in records:
        row = to_row(where, record, options)
        key = row["prompt_id"]
        if key not in rows:
            rows[key], first_at[key] = row, where
            continue
        first, other = rows[key], _gold(rows[key]) != _gold(row)
        if other:
            conflicts.append(
                f"{where} has gold answer {_shown(row)}, {first_at[key]} has {_shown(first)}"
            )
        if not options.skip_duplicates:
            raise InputError(
                f"{where} repeats the prompt of {first_at[key]}"
                + (" with another gold answer" if other else ""),
                conflicts[-1] if other else f"{_beginning(row)} would count twice in every budget",
                "--skip-duplicates keeps the first",
            )
        duplicates += 1
    if not rows:
        raise InputError("the input holds no prompts")
    _check_stored(store, rows, first_at)
    return rows, first_at, duplicates, conflicts


def _unreadable(rows: Mapping[str, dict[str, Any]], first_at: Mapping[str, str]) -> Iterator[str]:
    """Gold answers that are no mathematics: where each stands, and why it cannot be read."""
    for key, row in rows.items():
        for answer in row["answers"] or [row["answer"]]:
            reason = None if row["answer_type"] in ("none", "number") else gold_readable(answer)
            if reason:
                yield f"{first_at[key]}: {reason}"


def _gold(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["answer_type"], row["answer"], tuple(row["answers"] or ())


def _shown(row: Mapping[str, Any]) -> str:
    text = ascii(row["answers"] or row["answer"])
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _beginning(row: Mapping[str, Any]) -> str:
    return ascii((row["messages"][-1]["content"] or "")[:60])


def _check_stored(
    store: Store, rows: Mapping[str, dict[str, Any]], first_at: Mapping[str, str]
) -> None:
    text = "SELECT prompt_id, answer_type, answer, answers, split FROM prompts"
    for key, answer_type, answer, answers, split in store.sql(text).fetchall():
        row = rows.get(key)
        if not row:
            continue
        before = {"answer_type": answer_type, "answer": answer, "answers": answers, "split": split}
        if (_gold(row), row["split"]) != (_gold(before), split):
            raise InputError(
                f"the prompt of {first_at[key]} is stored already, in another form",
                f"stored: {_form(before)}; now: {_form(row)}",
                "stored prompts never change: leave it out, or correct the split or answer",
            )


def _form(row: Mapping[str, Any]) -> str:
    kind = f" ({row['answer_type']})" if row["answer_type"] not in ("text", "none") else ""
    return f"answer {_shown(row)}{kind}, split {row['split']!r}"
