"""Top-k of random logits, of rounded ones as a model in bfloat16 gives, and of others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from s2d_store.encoding.topk import TopK
from s2d_store.rollouts.records import topk_table

VOCAB = 4_096


def entries(lengths: list[int], ks: list[int], seed: int, rounding: int | None) -> list[TopK]:
    """Top-k of random logits, one row each; `rounding` keeps so many bits of their mantissa."""
    rng = np.random.default_rng(seed)
    rows = []
    for length, k in zip(lengths, ks, strict=True):
        logits_TV = (rng.normal(size=(length, VOCAB)) * 6).astype(np.float32)
        if rounding is not None:
            bits = logits_TV.view(np.int32) & np.int32(-1 << (23 - rounding))
            logits_TV = bits.view(np.float32)
        top_T1 = logits_TV.max(axis=1, keepdims=True)
        sums_T1 = np.exp(logits_TV - top_T1).sum(axis=1, keepdims=True, dtype=np.float32)
        logprobs_TV = (logits_TV - top_T1) - np.log(sums_T1)
        ids_TK = np.argsort(-logprobs_TV, axis=1, kind="stable")[:, :k]
        logprobs_TK = np.take_along_axis(logprobs_TV, ids_TK, axis=1)
        rows.append(TopK(ids_TK.astype(np.int32), logprobs_TK, logprobs_TK[:, -1]))
    return rows


def table(rows: list[TopK]) -> pa.Table:
    return topk_table([(f"r{i:03d}", row) for i, row in enumerate(rows)], "p", "own", "run")


def bits(lists: pa.ChunkedArray) -> list[bytes]:
    return [np.array(values, np.float32).tobytes() for values in lists.to_pylist()]
