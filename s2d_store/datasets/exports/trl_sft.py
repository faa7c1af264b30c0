"""`trl-sft`: JSONL of prompt and completion, which TRL's SFTTrainer templates and tokenizes again.

Where the sampled tokens themselves are wanted, format `tokens` has them.
"""

from __future__ import annotations

from pathlib import Path

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.retokenised import Retokenised
from s2d_store.datasets.exports.rewards import count_wrong
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.exports.texts import as_json, prompt_completion, texts, usable
from s2d_store.datasets.exports.tokens import order_settings
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One JSONL file; see `Write`."""
    written, sampled = Written(settings=order_settings(dataset)), SampledWith.of(store, dataset)
    sampled.check_one_form()
    chosen = usable(store, dataset, options, written)
    count_wrong(dataset, chosen, written)
    counted = Retokenised.open(store, sampled, options)
    with draft.open("w", encoding="utf-8") as file:
        for text in texts(store, dataset, chosen):
            counted.add(text)
            file.write(as_json(prompt_completion(text, sampled)))
            written.rows += 1
    keep_template(written, "trl.SFTConfig", sampled)
    written.facts |= counted.facts()
    return written


def keep_template(written: Written, config: str, sampled: SampledWith) -> None:
    """Note the chat template that rollouts were sampled with, where it is not the policy's own."""
    if sampled.own_template:
        written.facts["chat_template"] = sampled.own_template
        path = "a file that holds the text of chat_template"
        written.settings.setdefault(config, {})["chat_template_path"] = path


EXPORTER = Exporter(
    "trl-sft",
    "prompt and completion as messages, for TRL's SFTTrainer, which tokenizes them again",
    write,
    options=("truncated", "tokenizer"),
)
