"""(T, K) arrays <-> flat list columns. Lists stay flat: T*K values a rollout, k a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.list_columns import list_array

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class TopK:
    """Top-k logprobs at each response position; row t is the distribution that response token t
    was (or would be) drawn from.

    Attributes:
        token_ids: int32 (T, K); for a policy's own top k in descending order of logprob.
        logprobs: float32 (T, K), aligned with `token_ids`.
        sampled_logprobs: float32 (T,), this model's logprob of response token t.
    """

    token_ids: IntArray
    logprobs: FloatArray
    sampled_logprobs: FloatArray


def to_columns(rows: Sequence[TopK]) -> dict[str, pa.Array]:
    """Columns `k`, `token_ids`, `logprobs`, `sampled_logprobs` of the topk table, one row each."""
    return {
        "k": pa.array([row.token_ids.shape[1] for row in rows], pa.int32()),
        "token_ids": list_array([row.token_ids for row in rows], pa.int32()),
        "logprobs": list_array([row.logprobs for row in rows], pa.float32()),
        "sampled_logprobs": list_array([row.sampled_logprobs for row in rows], pa.float32()),
    }


def from_columns(table: pa.Table) -> list[TopK]:
    """The inverse of `to_columns`: one `TopK` with (T, K) views a row."""
    columns = {name: table.column(name).combine_chunks() for name in ("token_ids", "logprobs")}
    sampled = table.column("sampled_logprobs").combine_chunks()
    result = []
    for row, k in enumerate(table.column("k").to_pylist()):
        ids, logprobs = (
            columns[name][row].values.to_numpy(zero_copy_only=False).reshape(-1, k)
            for name in ("token_ids", "logprobs")
        )
        own = sampled[row].values.to_numpy(zero_copy_only=False)
        result.append(TopK(token_ids=ids, logprobs=logprobs, sampled_logprobs=own))
    return result
