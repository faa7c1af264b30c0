"""`verl-rl`: Parquet of distinct prompts, for verl's RLHFDataset and its rewards.

verl's rule rewards are chosen by data_source and know about 25 names; any other raises on the first
batch. Without --data-source the column says `s2d`, and the sidecar names the reward function that
grades it: the verifier math-verify, as `s2d verify` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.prompts import MESSAGES, prompts, write_parquet
from s2d_store.datasets.read import LockedDataset
from s2d_store.messages import Message
from s2d_store.store import Store

OWN_SOURCE = "s2d"
SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("split", pa.string()),
                    ("index", pa.int64()),
                    ("prompt_id", pa.string()),
                    ("dataset", pa.string()),
                    ("source", pa.string()),
                ]
            ),
        ),
    ]
)
REWARD_FUNCTION = {
    "reward.custom_reward_function.path": "pkg://s2d_store.verifiers.verl_reward",
    "reward.custom_reward_function.name": "compute_score",
}


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One Parquet file, one row per distinct prompt in the order of first use; see `Write`."""
    written = Written(settings={"verl": {"data.shuffle": False}})

    def rows() -> Iterator[tuple[list[Message], dict[str, Any]]]:
        for prompt in prompts(store, dataset, options, written):
            yield (
                prompt.messages,
                {
                    "data_source": options.data_source or OWN_SOURCE,
                    "prompt": prompt.messages,
                    "ability": options.ability,
                    "reward_model": {"style": "rule", "ground_truth": prompt.answer or ""},
                    "extra_info": {
                        "split": prompt.split,
                        "index": prompt.first,
                        "prompt_id": prompt.prompt_id,
                        "dataset": dataset.lock.name,
                        "source": prompt.source,
                    },
                },
            )

    written.rows, refused = write_parquet(draft, SCHEMA, rows())
    written.drop("other_fields", refused)
    if not options.data_source:
        written.settings["verl"] |= REWARD_FUNCTION
    return written


EXPORTER = Exporter(
    "verl-rl",
    "distinct prompts with reward_model, for verl's RLHFDataset",
    write,
    options=("data_source", "ability", "unlabelled", "instruction"),
)
