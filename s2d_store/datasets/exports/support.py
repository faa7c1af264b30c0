"""Stored top-k laid out for trainers that compare position t with the student's output at t.

The output at position t is the distribution of token t + 1, so the teacher's distribution of a
response token stands one position to its left. Dimensions: N tokens of all rows, K entries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.datasets.exports.sequences import Sequences, lists
from s2d_store.datasets.read import LockedDataset
from s2d_store.encoding.list_columns import flat_lists, from_numpy
from s2d_store.errors import DatasetError
from s2d_store.numerics import Int64, predicting_positions, ranges


def widest(dataset: LockedDataset, format_: str) -> int:
    """The largest k of a dataset's rows.

    Raises:
        DatasetError: it has no top-k.
    """
    if "k" not in dataset.columns:
        raise DatasetError(
            f"dataset {dataset.lock.name} ({dataset.lock.kind}) has no top-k",
            f"{format_} distils from it",
            "build one with --query warmup, whose rows name a scorer's top-k",
        )
    return int(dataset.light(["k"]).column("k").to_numpy().max())


def place(
    table: pa.Table, laid: Sequences, width: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
    """Ids, logprobs and validity of the entries at each position.

    Args:
        table: k, topk_token_ids, topk_logprobs, response_token_ids.
        laid: the same rows laid out.
        width: K, at least each row's k.

    Returns:
        int32, float32 and bool (N, K): 0, 0.0 and False where there is no entry, or one of
        probability zero, or the position predicts no token that the policy sampled.
    """
    ids, _ = flat_lists(table.column("topk_token_ids"))
    logprobs, _ = flat_lists(table.column("topk_logprobs"))
    _, tokens = flat_lists(table.column("response_token_ids"))
    responses = np.diff(tokens)
    ks = np.repeat(table.column("k").to_numpy().astype(np.int64), responses)
    positions = np.repeat(predicting_positions(laid.offsets[:-1], laid.prompts, responses), ks)
    column = ranges(np.zeros_like(ks), ks)
    shape = len(laid.ids), width
    valid_NK = np.zeros(shape, np.bool_)
    valid_NK[positions, column] = (ids >= 0) & np.isfinite(logprobs)
    valid_NK &= laid.predicting[:, None]
    ids_NK, logprobs_NK = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    ids_NK[positions, column] = ids
    logprobs_NK[positions, column] = logprobs
    return np.where(valid_NK, ids_NK, 0), np.where(valid_NK, logprobs_NK, 0), valid_NK


def nested(values: Mapping[str, NDArray[np.generic]], offsets: Int64) -> dict[str, pa.ListArray]:
    """Arrays (N, K) as columns of lists of lists: K values per position."""
    made = {}
    for name, array_NK in values.items():
        inner = np.arange(len(array_NK) + 1) * array_NK.shape[1]
        by_position = lists(array_NK.reshape(-1), inner)
        made[name] = pa.ListArray.from_arrays(from_numpy(offsets.astype(np.int32)), by_position)
    return made
