"""(T, K) arrays <-> flat list columns. Lists stay flat: T*K values a rollout, k a column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.engines.base import TopK


def list_array(arrays: Sequence[NDArray[np.generic]], value_type: pa.DataType) -> pa.ListArray:
    """Stack arrays of any shape as one Arrow list column, one list an array, row-major."""
    offsets = np.zeros(len(arrays) + 1, dtype=np.int32)
    np.cumsum([a.size for a in arrays], out=offsets[1:])
    dtype = value_type.to_pandas_dtype()
    flat = np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.empty(0, dtype)
    values = pa.array(np.ascontiguousarray(flat, dtype=dtype), type=value_type)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


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
