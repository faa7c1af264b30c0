"""`distillkit`: a folder that `datasets.load_from_disk` opens, with raw top-k, for DistillKit.

Its loss compares the student's output at t with row t, without a shift, where labels >= 0 at t; so
labels here are the next token's, and a cross-entropy that shifts them once more must stay off. Rows
begin at the prompt's first position and there are L - 1 of them; those of the prompt are filled and
masked. Values are lossless.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.rows import dataset_tables
from s2d_store.datasets.exports.sequences import IGNORED, lists, sequences
from s2d_store.datasets.exports.support import nested, place, widest
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError
from s2d_store.store import Store

_LIGHT = ("row", "update", "rollout_id")


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """A folder as `datasets.Dataset.save_to_disk` writes one; see `Write`.

    Raises:
        DatasetError: no top-k, or not k entries at every token.
    """
    k, written = widest(dataset, "distillkit"), Written()
    files: list[dict[str, str]] = []
    for table in dataset_tables(store, dataset):
        rows = _columns(table, k, dataset.lock.name)
        path = draft / f"data-{len(files):05d}.arrow"
        with pa.ipc.new_stream(path, rows.schema) as stream:
            stream.write_table(rows)
        files.append({"filename": path.name})
        written.rows += rows.num_rows
    state: dict[str, Any] = {
        "_data_files": files,
        "_fingerprint": dataset.lock.fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (draft / "state.json").write_text(json.dumps(state, indent=2))
    # Without features: they are those of the files.
    (draft / "dataset_info.json").write_text(json.dumps({"dataset_name": dataset.lock.name}))
    written.settings["distillkit"] = {
        "dataset.train_dataset": "disk_path: this folder",
        "dataset.prepacked": False,
        "dataset.seed": "DistillKit shuffles: the column update is not kept",
        "teacher.kind": "dataset",
        "teacher.logprob_compressor": {"d": "the vocabulary's size", "k": k, "exact_k": k},
        "loss_functions": "kl alone: no cross_entropy, whose labels would be shifted twice",
    }
    return written


def _columns(table: pa.Table, k: int, name: str) -> pa.Table:
    laid = sequences(table)
    ids_NK, logprobs_NK, valid_NK = place(table, laid, k)
    at = laid.predicting
    if not valid_NK[at].all():
        raise DatasetError(
            f"dataset {name} has tokens with fewer than {k} entries of top-k",
            "DistillKit wants as many at every token, and a finite logprob of each",
            "score again without --mass, or export as axolotl-kd, which masks single entries",
        )
    # Masked, whatever they are: as many different ids as there are, equally likely.
    ids_NK[~at], logprobs_NK[~at] = np.arange(k), -np.log(k)
    labels = np.full(len(laid.ids), IGNORED, np.int32)
    labels[at] = laid.ids[np.flatnonzero(at) + 1]
    last = np.zeros(len(laid.ids), np.bool_)
    last[laid.offsets[1:] - 1] = True
    rows = laid.offsets - np.arange(len(laid.offsets))
    columns: dict[str, Any] = {
        "input_ids": lists(laid.ids, laid.offsets),
        "labels": lists(labels, laid.offsets),
        **nested({"token_ids": ids_NK[~last], "top_values": logprobs_NK[~last]}, rows),
    }
    return pa.table(columns | {c: table.column(c) for c in _LIGHT})


EXPORTER = Exporter(
    "distillkit",
    "a folder with ids and raw top-k for DistillKit's offline distillation",
    write,
    form="folder",
)
