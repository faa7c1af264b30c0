"""`tokens`: Parquet with what was sampled, as ids: nothing is tokenized again.

One row per row of the dataset, in training order. TRL's SFTTrainer and SkyRL's SFT take it as it
is. Dimensions: T response tokens, L prompt and response tokens, at most k top-k entries per token.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.plain import write_tables
from s2d_store.datasets.exports.rows import dataset_tables, facts, rows_per_update, with_facts
from s2d_store.datasets.exports.sequences import arrow, lists, sequences, topk_lists
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store

# Columns of the dataset that go along under their own names; those that it lacks are left out.
_LIGHT = ("row", "update", "rollout_id", "prompt_id", "reward", "advantage", "group_id")
_OF_SCORER = ("scorer_policy_id", "support", "k")
# T values each.
_BY_TOKEN = ("response_logprobs", "sampled_logprobs", "ref_logprobs")


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One Parquet file; see `Write`."""
    rows = write_tables(draft, token_tables(store, dataset))
    return Written(rows, settings=order_settings(dataset))


def token_tables(store: Store, dataset: LockedDataset) -> Iterator[pa.Table]:
    """The rows: ids, labels and masks (L each), logprobs (T each), top-k (T lists each)."""
    stream = with_facts(dataset_tables(store, dataset), facts(store, dataset), "finish_reason")
    return (token_columns(table) for table in stream)


def token_columns(table: pa.Table) -> pa.Table:
    """A dataset's columns as other trainers take them.

    Args:
        table: the dataset's columns, and finish_reason.
    """
    laid = sequences(table)
    columns: dict[str, Any] = {
        "input_ids": lists(laid.ids, laid.offsets),
        "labels": lists(laid.labels, laid.offsets),
        "loss_mask": lists(laid.sampled.astype("int8"), laid.offsets),
        "prompt_tokens": arrow(laid.prompts.astype("int32")),
        "finish_reason": table.column("finish_reason"),
    }
    has = set(table.column_names)
    columns |= {name: table.column(name) for name in (*_LIGHT, *_BY_TOKEN) if name in has}
    if "topk_token_ids" in has:
        columns |= {name: table.column(name) for name in _OF_SCORER if name in has}
        columns |= topk_lists(table)
    return pa.table(columns)


def order_settings(dataset: LockedDataset) -> dict[str, dict[str, Any]]:
    """Settings of TRL's SFTTrainer that keep every token, and the rows of each update together."""
    fewest, most = rows_per_update(dataset)
    together = (
        most if fewest == most else f"{fewest} to {most}: update is kept by its sampler alone"
    )
    return {
        "trl.SFTConfig": {
            "max_length": None,
            "packing": False,
            "shuffle_dataset": False,
            "train_sampling_strategy": "sequential",
            "num_train_epochs": 1,
            "per_device_train_batch_size * gradient_accumulation_steps * processes": together,
        }
    }


EXPORTER = Exporter(
    "tokens",
    "ids, labels, loss mask, update, reward, advantage, logprobs and top-k, as sampled",
    write,
)
