"""`open-instruct`: JSONL of distinct prompts, for open-instruct's RL with verifiable rewards."""

from __future__ import annotations

from pathlib import Path

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.prompts import prompts
from s2d_store.datasets.exports.texts import as_json
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store

# open-instruct's verifier of that name reads the last \boxed, or the last number.
DEFAULT_VERIFIER = "math"


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One JSONL file, one line per distinct prompt in the order of first use; see `Write`.

    `dataset` is open-instruct's name of what grades the response to `ground_truth`.
    """
    written = Written()
    with draft.open("w", encoding="utf-8") as file:
        for prompt in prompts(store, dataset, options, written):
            line = {
                "messages": prompt.messages,
                "ground_truth": prompt.answer or "",
                "dataset": options.data_source or DEFAULT_VERIFIER,
                "prompt_id": prompt.prompt_id,
            }
            file.write(as_json(line))
            written.rows += 1
    return written


EXPORTER = Exporter(
    "open-instruct",
    "distinct prompts with ground_truth and dataset, for open-instruct",
    write,
    options=("data_source", "unlabelled", "instruction"),
)
