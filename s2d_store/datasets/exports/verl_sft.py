"""`verl-sft`: Parquet of whole conversations, for verl's MultiTurnSFTDataset.

verl renders each message alone and joins them, and shuffles the rows whatever it is told: ids and
order are kept by examples/verl, which reads the locked dataset itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.prompts import MESSAGES, write_parquet
from s2d_store.datasets.exports.retokenised import Retokenised
from s2d_store.datasets.exports.rewards import count_wrong
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.exports.texts import texts, usable
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError
from s2d_store.messages import Message
from s2d_store.store import Store

SCHEMA = pa.schema([("messages", MESSAGES), ("row", pa.int64())])
THINKING = "enable_thinking"


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One Parquet file; see `Write`.

    Raises:
        DatasetError: the rollouts were sampled without a chat template.
    """
    written, sampled = Written(), SampledWith.of(store, dataset)
    if any(sampled.plain(row["run_id"]) for row in sampled.runs):
        raise DatasetError(
            f"dataset {dataset.lock.name} has rollouts that were sampled without a chat template",
            "verl renders messages with one",
            "read the dataset as examples/verl does, which needs none",
        )
    chosen = usable(store, dataset, options, written)
    count_wrong(dataset, chosen, written)
    counted = Retokenised.open(store, sampled, options)
    thinking = any(THINKING in sampled.kwargs(row["run_id"]) for row in sampled.runs)
    schema = SCHEMA.append(pa.field(THINKING, pa.bool_())) if thinking else SCHEMA

    def rows() -> Iterator[tuple[list[Message], dict[str, Any]]]:
        for text in texts(store, dataset, chosen):
            if text.tools:
                written.drop("tools", 1)
                continue
            counted.add(text)
            messages = [*text.prompt, {"role": "assistant", "content": text.response}]
            row: dict[str, Any] = {"messages": messages, "row": text.row}
            if thinking:
                row[THINKING] = sampled.kwargs(text.run_id).get(THINKING)
            yield messages, row

    written.rows, refused = write_parquet(draft, schema, rows())
    written.drop("other_fields", refused)
    written.settings["verl.sft"] = {
        "data.messages_key": "messages",
        "data.max_length": "above the longest row, or truncation=error stops",
        "data.ignore_input_ids_mismatch": "True where the template needs it",
    }
    written.facts |= {"order": "not kept: verl's SFT trainer shuffles", **counted.facts()}
    return written


EXPORTER = Exporter(
    "verl-sft",
    "whole conversations, for verl's SFT trainer, which tokenizes them again and shuffles",
    write,
    options=("truncated", "tokenizer"),
)
