"""The prompts of imported rollouts: a stored one found again, or a new row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from s2d_store import ids
from s2d_store.errors import InputError
from s2d_store.importers.record import Asked, Record
from s2d_store.importers.tokens import TokenUse
from s2d_store.messages import to_stored
from s2d_store.prompts import plain_json
from s2d_store.prompts.chat import read_messages
from s2d_store.prompts.gold import Gold, read_gold

# Prompts that are looked up again before they are made anew.
_CACHED = 16_384


@dataclass(slots=True)
class Found:
    """A rollout's prompt.

    Attributes:
        prompt_id: its id.
        exact: whether its messages are those that were asked, not a text that a template rendered.
        answer: the gold answer as the file has it, where the store's form of it is another.
    """

    prompt_id: str
    exact: bool
    answer: Any = None


@dataclass
class Prompts:
    """Finds or makes the prompt of each rollout.

    Attributes:
        source: name of the data set of new prompts.
        split: their split.
        tokens: to find stored prompts by how they render.
        new: rows that no commit has had yet, by id.
    """

    source: str
    split: str
    tokens: TokenUse | None
    matched: set[str] = field(default_factory=set)
    new: dict[str, dict[str, Any]] = field(default_factory=dict)
    _of_text: dict[tuple[Any, ...], Found] = field(default_factory=dict)
    _made: set[int] = field(default_factory=set)

    def take_new(self) -> list[dict[str, Any]]:
        """Rows that no commit has had yet."""
        rows, self.new = list(self.new.values()), {}
        return rows

    def find(self, record: Record) -> Found:
        """The prompt of a rollout.

        Raises:
            InputError: neither messages, text nor ids, or messages of no known form.
        """
        asked = record.asked
        known = self._stored(record)
        if known is not None:
            self.matched.add(known)
            return Found(known, True, asked.answer)
        if asked.messages is None and asked.text is None:
            ids_ = record.prompt_token_ids
            if ids_ is None:
                raise InputError("the record has no prompt: no messages, no text, no ids")
            return self._add(asked, ids.content_id("prompt tokens", list(ids_)), [], exact=True)
        if asked.messages is None and isinstance(asked.answer, str | None) and not asked.tools:
            # Rollouts of one prompt mostly stand together.
            key = (asked.text, asked.form, asked.answer)
            if key not in self._of_text:
                if len(self._of_text) > _CACHED:
                    self._of_text.clear()
                self._of_text[key] = self._of_messages(asked)
            return self._of_text[key]
        return self._of_messages(asked)

    def _of_messages(self, asked: Asked) -> Found:
        given = asked.text if asked.messages is None else list(asked.messages)
        messages = [to_stored(m) for m in read_messages("the record", given)]
        tools = json.dumps(asked.tools, ensure_ascii=False) if asked.tools else None
        exact = asked.messages is not None or asked.form == "plain"
        return self._add(asked, ids.prompt_id(messages, tools), messages, exact=exact, tools=tools)

    def _stored(self, record: Record) -> str | None:
        asked, tokens = record.asked, self.tokens
        if tokens is None or asked.messages is not None:
            return None
        if record.prompt_token_ids is not None:
            return tokens.prompt_of_ids(record.prompt_token_ids)
        if asked.text is None or asked.form == "plain":
            return None
        return tokens.prompt_of_text(asked.text, asked.form)

    def _add(
        self,
        asked: Asked,
        prompt_id: str,
        messages: list[dict[str, Any]],
        *,
        exact: bool,
        tools: str | None = None,
    ) -> Found:
        gold, task = _gold(asked)
        told = None if gold.answer == asked.answer else asked.answer
        number = int(prompt_id, 16)
        if number not in self._made:
            self._made.add(number)
            self.new[prompt_id] = {
                "prompt_id": prompt_id,
                "source": asked.source or self.source,
                "split": asked.split or self.split,
                "messages": messages,
                "tools": tools,
                "answer": gold.answer,
                "answer_type": gold.type,
                "answers": None if gold.answers is None else list(gold.answers),
                "task": plain_json.dump("task", task) if task else None,
                "meta": plain_json.dump("meta", asked.meta or {}),
                "created_at": datetime.now(UTC),
            }
        return Found(prompt_id, exact, told)


def _gold(asked: Asked) -> tuple[Gold, Mapping[str, Any] | None]:
    """The gold answer, and the task; an answer of another kind belongs to the task."""
    try:
        return read_gold("the record", asked.answer), asked.task
    except InputError:
        return Gold("none", None), {**(asked.task or {}), "answer": asked.answer}
