"""`axolotl-kd`: Parquet in the form that axolotl's knowledge distillation prepares for itself.

Row t of the targets is the distribution of token t + 1 (axolotl's alignment `current`), so none of
axolotl's own preparation must run on it. What is not the policy's is masked entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.plain import write_tables
from s2d_store.datasets.exports.rows import dataset_tables
from s2d_store.datasets.exports.sequences import lists, sequences
from s2d_store.datasets.exports.support import nested, place, widest
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store

_LIGHT = ("row", "update", "rollout_id")
# Of masked entries, as axolotl's collator pads them.
PAD_LOGPROB = -1e9


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One Parquet file; see `Write`.

    Raises:
        DatasetError: no top-k.
    """
    k = widest(dataset, "axolotl-kd")

    def stream() -> Iterator[pa.Table]:
        for table in dataset_tables(store, dataset):
            yield _columns(table, k)

    written = Written(write_tables(draft, stream()))
    written.settings["axolotl"] = {
        "plugins": ["axolotl.integrations.kd.KDPlugin"],
        "kd_trainer": True,
        "kd_temperature": 1.0,
        "kd_prepared_targets_alignment": "current",
        "datasets": [{"path": "this file", "ds_type": "parquet"}],
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "sequence_len": "at least the longest row",
        "sample_packing": False,
        "shuffle_merged_datasets": False,
        "curriculum_sampling": True,
    }
    written.facts["tail"] = "axolotl renormalises over the k entries: the mass outside is lost"
    return written


def _columns(table: pa.Table, k: int) -> pa.Table:
    laid = sequences(table)
    ids_NK, logprobs_NK, valid_NK = place(table, laid, k)
    logprobs_NK = np.where(valid_NK, logprobs_NK, np.float32(PAD_LOGPROB))
    columns: dict[str, Any] = {
        "input_ids": lists(laid.ids, laid.offsets),
        "attention_mask": lists(np.ones(len(laid.ids), np.int8), laid.offsets),
        "labels": lists(laid.labels, laid.offsets),
        **nested(
            {
                "target_token_ids": ids_NK,
                "target_logprobs": logprobs_NK.astype(np.float32),
                "target_mask": valid_NK.astype(np.int8),
            },
            laid.offsets,
        ),
    }
    return pa.table(columns | {c: table.column(c) for c in _LIGHT})


EXPORTER = Exporter(
    "axolotl-kd",
    "ids and top-k in the prepared form of axolotl's knowledge distillation",
    write,
)
