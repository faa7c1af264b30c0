"""How many rows a trainer that tokenizes their text would train on with other tokens.

Text is not what was sampled: special tokens vanish when it is decoded, merges differ, and a chat
template may write something behind the response. What is counted here is what TRL's and verl's
readers would make of each row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2d_store.datasets.exports.base import Options
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.exports.texts import Text, plain_prompt
from s2d_store.errors import S2DError
from s2d_store.policies.chat_template import render_conversation
from s2d_store.policies.registry import find, recorded
from s2d_store.policies.tokenizer import load_tokenizer
from s2d_store.store import Store

NONE = "none"


@dataclass
class Retokenised:
    """Counts rows by what their text becomes; see the module's text.

    Attributes:
        tokenizer: a transformers tokenizer; None where nothing is counted.
        sampled: how the rows were sampled.
        why: why nothing is counted; empty where something is.
        same: rows that get the sampled tokens.
        longer: rows that get further tokens behind them, as of a template's newline.
        other: rows that get other tokens.
        rejected: rows that the chat template refuses.
    """

    tokenizer: Any
    sampled: SampledWith
    why: str = ""
    same: int = 0
    longer: int = 0
    other: int = 0
    rejected: int = 0
    _template: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._template = self.sampled.own_template or None

    @classmethod
    def open(cls, store: Store, sampled: SampledWith, options: Options) -> Retokenised:
        """With the tokenizer that was asked for, else that of the policy that sampled.

        Raises:
            S2DError: the tokenizer that was asked for cannot be loaded.
        """
        if options.tokenizer == NONE:
            return cls(None, sampled, "not asked for")
        if Path(options.tokenizer).is_dir() and options.tokenizer:
            return cls(load_tokenizer(options.tokenizer), sampled)
        if options.tokenizer:
            return cls(load_tokenizer(find(store, options.tokenizer).location), sampled)
        location = recorded(store, sampled.policy_ids[0]).location if sampled.policy_ids else ""
        try:
            return cls(load_tokenizer(location), sampled)
        except S2DError as error:
            return cls(None, sampled, error.what)

    def add(self, text: Text) -> None:
        """Count one row."""
        if self.tokenizer is None:
            return
        try:
            ids = self._ids(text)
        except S2DError:
            self.rejected += 1
            return
        if ids == text.token_ids:
            self.same += 1
        elif ids[: len(text.token_ids)] == text.token_ids:
            self.longer += 1
        else:
            self.other += 1

    def _ids(self, text: Text) -> list[int]:
        if self.sampled.plain(text.run_id):
            whole = plain_prompt(text.prompt) + text.response
            eos = self.tokenizer.eos_token or ""
            # TRL appends it where it does not stand.
            whole += "" if eos and whole.endswith(eos) else eos
            return [int(i) for i in self.tokenizer(whole)["input_ids"]]
        return render_conversation(
            self.tokenizer,
            [*text.prompt, {"role": "assistant", "content": text.response}],
            self._template,
            tools=text.tools,
            kwargs=self.sampled.kwargs(text.run_id),
        )

    def facts(self) -> dict[str, Any]:
        """What the sidecar says."""
        if self.tokenizer is None:
            return {"retokenised": None, "retokenised_unknown": self.why}
        counted = {n: getattr(self, n) for n in ("same", "longer", "other", "rejected")}
        return {"retokenised": counted}
