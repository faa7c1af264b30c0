"""What a known tokenizer adds to an import: texts of ids, ids of texts, prompts found again.

Only where `--tokenizer POLICY` is given. Ids that a file has are kept as they are and checked; a
text is turned into ids where nothing else is known, and marked as such.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers.record import Message, Record, TextForm
from s2d_store.messages import from_stored
from s2d_store.policies import registry
from s2d_store.policies.chat_template import render_chat
from s2d_store.policies.tokenizer import load_tokenizer
from s2d_store.store import Store

_COLUMNS = ("tokenizer_fingerprint", "tokenizer_hash", "template_hash", "vocab_size")
# Rows of a commit whose ids are compared with their text.
_COMPARED = 64


@dataclass
class TokenUse:
    """A registered policy's tokenizer, and the store's prompts as it renders them.

    Attributes:
        name: the policy's.
        tokenizer: of transformers.
        columns: what table policies says of it, for policies that share it.
        vocab_size: ids lie below.
        prompts: id, messages and tools of the store's prompts.
    """

    name: str
    tokenizer: Any
    columns: dict[str, Any]
    vocab_size: int
    prompts: Sequence[tuple[str, list[Message], list[Message] | None]]
    _rendered: dict[str, list[int]] | None = None
    _found: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, policy: str) -> TokenUse:
        """The tokenizer of a registered policy.

        Raises:
            NotFoundError: there is no such policy, or its files are gone.
            InputError: it is known by name alone.
        """
        found = registry.find(store, policy)
        row = store.sql(
            f"SELECT {', '.join(_COLUMNS)} FROM policies WHERE policy_id = $id",
            {"id": found.policy_id},
        ).fetchall()[0]
        prompts = store.sql("SELECT prompt_id, messages, tools FROM prompts").fetchall()
        return cls(
            found.name,
            load_tokenizer(found.location),
            dict(zip(_COLUMNS, row, strict=True)),
            int(row[-1]),
            [
                (key, [from_stored(m) for m in messages], json.loads(tools) if tools else None)
                for key, messages, tools in prompts
                if messages
            ],
        )

    def text_of(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Ids as text."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=not special)
        return text

    def prompt_of_text(self, text: str, form: TextForm) -> str | None:
        """The stored prompt that renders to this text, if any."""
        return self._lookup(form).get(text)

    def prompt_of_ids(self, ids: Sequence[int]) -> str | None:
        """The stored prompt that renders to these ids, if any."""
        return self._lookup("ids").get(_key(ids))

    def ids_of_prompt(self, prompt_id: str) -> list[int] | None:
        """A stored prompt's ids, or None for one that cannot be rendered or is not stored."""
        return self._all().get(prompt_id)

    def ids_of_messages(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
    ) -> list[int]:
        """Ids of a prompt through the chat template.

        Raises:
            InputError: there is no template, or it rejects the messages.
        """
        return render_chat(self.tokenizer, messages, tools=tools)

    def ids_of_text(self, text: str) -> list[int]:
        """Ids of a text as it stands: nothing is put before or behind it."""
        return [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    @property
    def end(self) -> int | None:
        """The token that ends a response."""
        end: int | None = self.tokenizer.eos_token_id
        return end

    def check_texts(self, rows: Iterable[tuple[Record, Sequence[int]]]) -> None:
        """Refuse a tokenizer that reads most ids as another text than the file has.

        Args:
            rows: records of one commit, with the ids that their policy sampled.

        Raises:
            InputError: names a rollout, its text and what the ids decode to.
        """
        compared, wrong, example = 0, 0, ("", "", "")
        for record, ids in rows:
            if not record.text or compared == _COMPARED:
                continue
            compared += 1
            told = record.text.strip()
            read = self.text_of(ids)
            if told not in read and told not in self.text_of(ids, special=True):
                wrong += 1
                example = (record.where, told[:60], read[:60])
        if wrong * 2 > compared:
            where, told, read = example
            raise InputError(
                f"the tokenizer of {self.name} does not fit: {wrong} of {compared} rollouts differ",
                f"{where} has text {told!r}, its ids decode to {read!r}",
                "--tokenizer POLICY of the model that sampled them",
            )

    def _lookup(self, form: str) -> dict[str, str]:
        if form not in self._found:
            known = self._all().items()
            if form == "ids":
                self._found[form] = {_key(ids): prompt for prompt, ids in known}
            else:
                special = form == "templated"
                texts = {self.text_of(ids, special=special): prompt for prompt, ids in known}
                self._found[form] = texts
        return self._found[form]

    def _all(self) -> dict[str, list[int]]:
        if self._rendered is None:
            self._rendered = {}
            for key, messages, tools in self.prompts:
                try:
                    self._rendered[key] = self.ids_of_messages(messages, tools)
                except InputError:
                    continue  # one that this template rejects was not asked through it
        return self._rendered


def _key(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))
