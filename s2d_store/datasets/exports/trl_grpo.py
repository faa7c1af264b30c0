"""`trl-grpo`: JSONL of distinct prompts with their gold answers, for TRL's GRPOTrainer.

TRL's accuracy_reward reads the column `solution`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.prompts import prompts
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.exports.texts import as_json
from s2d_store.datasets.exports.trl_sft import keep_template
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One JSONL file, one line per distinct prompt in the order of first use; see `Write`."""
    written, sampled = Written(), SampledWith.of(store, dataset)
    with draft.open("w", encoding="utf-8") as file:
        for prompt in prompts(store, dataset, options, written):
            line: dict[str, Any] = {
                "prompt": prompt.messages,
                "solution": prompt.answer,
                "prompt_id": prompt.prompt_id,
                "source": prompt.source,
            }
            if sampled.any_tools:
                line["tools"] = prompt.tools
            file.write(as_json(line))
            written.rows += 1
    written.settings["trl.GRPOConfig"] = {"shuffle_dataset": False}
    keep_template(written, "trl.GRPOConfig", sampled)
    return written


EXPORTER = Exporter(
    "trl-grpo",
    "distinct prompts with column solution, for TRL's GRPOTrainer and its accuracy_reward",
    write,
    options=("unlabelled", "instruction"),
)
