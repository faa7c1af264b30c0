"""(T, K) arrays <-> flat list columns. Lists stay flat: T*K values a rollout, k a column."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from s2d_store.engines.base import TopK
from s2d_store.lists import list_array


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
