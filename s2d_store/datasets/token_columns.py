"""The heavy columns of a dataset's rows: from which table each comes, and what it means where the
store has none. Needs pyarrow and numpy alone: datasets are read by reference without the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s2d_store.encoding.list_columns import from_numpy, to_numpy

TOKENS = {
    "prompt_token_ids": "prompt_token_ids",
    "response_token_ids": "response_token_ids",
}
LOGPROBS = {"response_logprobs": "response_logprobs"}
MASK = {"response_mask": "response_mask"}
# A ragged top-k adds one entry here: its counts, list<int16> of T.
TOPK = {
    "token_ids": "topk_token_ids",
    "logprobs": "topk_logprobs",
    "sampled_logprobs": "sampled_logprobs",
}
REF = {"sampled_logprobs": "ref_logprobs"}
TYPES = {
    "prompt_token_ids": pa.list_(pa.int32()),
    "response_token_ids": pa.list_(pa.int32()),
    "response_logprobs": pa.list_(pa.float32()),
    "response_mask": pa.list_(pa.bool_()),
    "topk_token_ids": pa.list_(pa.int32()),
    "topk_logprobs": pa.list_(pa.float32()),
    "sampled_logprobs": pa.list_(pa.float32()),
    "ref_logprobs": pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class Origin:
    """Heavy columns that lie together in the files of one table.

    Attributes:
        prefix: rollout, topk or ref: the rows' columns PREFIX_file and PREFIX_position say where.
        table: the store's table.
        columns: name in the dataset by name in the table.
    """

    prefix: str
    table: str
    columns: Mapping[str, str]


def origins(*, logprobs: bool, mask: bool, topk: bool, ref: bool) -> tuple[Origin, ...]:
    """What a dataset's rows hold: tokens in any case, the rest as asked for."""
    rollout = TOKENS | (LOGPROBS if logprobs else {}) | (MASK if mask else {})
    found = [Origin("rollout", "rollouts", rollout)]
    if topk:
        found.append(Origin("topk", "topk", TOPK))
    if ref:
        found.append(Origin("ref", "topk", REF))
    return tuple(found)


def fill_unknown(table: pa.Table, response_tokens: NDArray[np.int64]) -> pa.Table:
    """Heavy columns as trainers take them, without any null.

    No mask means that the policy sampled every token. A logprob that is null belongs to a token
    that it did not sample, and becomes 0: a dataset with others is refused when it is built.

    Args:
        table: heavy columns by their name in the dataset.
        response_tokens: int64 (R,), T of each row.
    """
    for index, name in enumerate(table.column_names):
        column = table.column(name)
        if name == "response_mask" and column.null_count:
            mask = _all_true_for_nulls(column.combine_chunks(), response_tokens)
            table = table.set_column(index, name, mask)
        elif name == "response_logprobs" and pc.list_flatten(column).null_count:
            chunks = [_zeros_for_nulls(chunk) for chunk in column.chunks]
            table = table.set_column(index, name, pa.chunked_array(chunks, TYPES[name]))
    return table


def _zeros_for_nulls(lists: pa.ListArray) -> pa.ListArray:
    lengths = to_numpy(lists.value_lengths().fill_null(0))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = lists.flatten().fill_null(0.0)
    return pa.ListArray.from_arrays(from_numpy(offsets), values, TYPES["response_logprobs"])


def _all_true_for_nulls(lists: pa.ListArray, response_tokens: NDArray[np.int64]) -> pa.ListArray:
    known = to_numpy(lists.is_valid())
    lengths = np.where(known, to_numpy(lists.value_lengths().fill_null(0)), response_tokens)
    values = np.ones(int(lengths.sum()), np.bool_)
    values[np.repeat(known, lengths)] = to_numpy(lists.flatten())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(from_numpy(offsets), pa.array(values), TYPES["response_mask"])
