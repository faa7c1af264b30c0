"""Locked datasets for tests, written without the store: rows of a bigram teacher's top-k."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("update", pa.int32()),
        ("rollout_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("response_token_ids", pa.list_(pa.int32())),
        ("response_logprobs", pa.list_(pa.float32())),
        ("k", pa.int32()),
        ("topk_token_ids", pa.list_(pa.int32())),
        ("topk_logprobs", pa.list_(pa.float32())),
        ("sampled_logprobs", pa.list_(pa.float32())),
        ("labelled", pa.bool_()),
        ("advantage", pa.float64()),
    ]
)
# Columns that a dataset may have besides: written where the rows have them.
OPTIONAL = pa.schema(
    [
        ("response_mask", pa.list_(pa.bool_())),
        ("ref_logprobs", pa.list_(pa.float32())),
        ("sampler_logprobs", pa.list_(pa.float32())),
    ]
)


def bigram_rows(
    updates: Sequence[int], *, vocab_size: int = 100, k: int = 8, seed: int = 0, longest: int = 12
) -> list[dict[str, Any]]:
    """One row per entry of `updates` (the update it feeds); the teacher's next token depends on the
    current one alone, so a small student can learn it."""
    rng = np.random.default_rng(seed)
    logits = 3.0 * rng.standard_normal((vocab_size, vocab_size))
    logprobs_VV = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = []
    for index, update in enumerate(updates):
        prompt = rng.integers(4, vocab_size, size=rng.integers(1, 7))
        response: list[int] = []
        distributions = []
        current = int(prompt[-1])
        for _ in range(rng.integers(1, longest + 1)):
            distributions.append(logprobs_VV[current])
            current = int(rng.choice(vocab_size, p=np.exp(logprobs_VV[current])))
            response.append(current)
        rows.append(_row(index, update, prompt, response, np.stack(distributions), k))
    return rows


def _row(
    index: int, update: int, prompt: Any, response: list[int], logprobs_TV: NDArray[Any], k: int
) -> dict[str, Any]:
    ids_TK = np.argsort(-logprobs_TV, axis=1)[:, :k]
    sampled = logprobs_TV[np.arange(len(response)), response]
    return {
        "row": index,
        "update": update,
        "rollout_id": f"rollout-{index}",
        "prompt_id": f"prompt-{index // 2}",
        "prompt_token_ids": prompt,
        "response_token_ids": response,
        "response_logprobs": sampled,
        "k": k,
        "topk_token_ids": ids_TK.ravel(),
        "topk_logprobs": np.take_along_axis(logprobs_TV, ids_TK, axis=1).ravel(),
        "sampled_logprobs": sampled,
        "labelled": index % 2 == 0,
        "advantage": 1.0 if index % 2 == 0 else -1.0,
    }


def write_locked(
    folder: Path,
    rows: list[dict[str, Any]],
    *,
    rows_a_part: int = 1000,
    rows_a_group: int = 1000,
    columns: Sequence[str] = (),
    kind: str = "warmup",
    params: Mapping[str, Any] | None = None,
) -> Path:
    """Write parts and `lock.json`; returns the folder. Without `columns` all that the rows have."""
    folder.mkdir(parents=True)
    known = pa.unify_schemas([SCHEMA, OPTIONAL])
    columns = columns or [name for name in known.names if rows and name in rows[0]]
    schema = pa.schema([known.field(name) for name in columns])
    files = []
    for number, start in enumerate(range(0, len(rows), rows_a_part)):
        part = folder / f"part-{number:05d}.parquet"
        chosen = [
            {name: row[name] for name in columns} for row in rows[start : start + rows_a_part]
        ]
        table = pa.Table.from_pylist(chosen, schema=schema)
        pq.write_table(table, part, row_group_size=rows_a_group)
        files.append({"path": part.name, "rows": len(chosen), "bytes": part.stat().st_size})
    lock = {
        "format_version": 2,
        "name": folder.name,
        "kind": kind,
        "fingerprint": f"fingerprint-of-{folder.name}",
        "seed": 0,
        "query": "",
        "params": dict(params or {}),
        "tokenizer_fingerprint": "0" * 64,
        "counts": {
            "rows": len(rows),
            "updates": len({row["update"] for row in rows}),
            "prompt_tokens": sum(len(row["prompt_token_ids"]) for row in rows),
            "response_tokens": sum(len(row["response_token_ids"]) for row in rows),
            "labels": 0,
        },
        "files": files,
        "columns": list(columns),
    }
    (folder / "lock.json").write_text(json.dumps(lock))
    return folder
