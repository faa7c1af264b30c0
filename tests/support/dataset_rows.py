"""Rollouts of chosen lengths, rewards and policies, for tests of dataset queries; no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import queries
from s2d_store.datasets import token_columns
from s2d_store.datasets.build import build
from s2d_store.datasets.read import LockedDataset
from s2d_store.encoding import topk
from s2d_store.encoding.topk import TopK
from s2d_store.store import Store
from tests.support.synthetic import NOW, VOCABULARY, policy, table

K = 3


@dataclass(frozen=True)
class Made:
    """One rollout to store: prompt number, sample, length, reward (None: not graded)."""

    prompt: int
    sample: int = 0
    tokens: int = 4
    reward: float | None = None
    round: int = 0


def policy_id(name: str) -> str:
    return str(policy(name)["policy_id"])


def add_policies(store: Store, *rows: dict[str, Any]) -> None:
    store.commit({"policies": table("policies", list(rows))}, fresh=True)


def add_prompts(store: Store, n: int, *, answer: str | None = "1") -> None:
    """Prompts `p000`, `p001`, ..; the ids are not hashes here."""
    rows = [
        {
            "prompt_id": f"p{i:03d}",
            "source": "made",
            "split": "train",
            "messages": [
                {"role": "system", "content": "Answer."},
                {"role": "user", "content": f"What is {i} + {i}? ☃"},
            ],
            "answer": answer,
            "meta": "{}",
            "created_at": NOW,
        }
        for i in range(n)
    ]
    store.commit({"prompts": table("prompts", rows)}, fresh=True)


def add_rollouts(
    store: Store,
    run: str,
    name: str,
    made: Sequence[Made],
    *,
    role: str = "student",
    scorer: str = "",
    support: str = "own",
    verifier: str = "math-verify",
    **sampling: Any,
) -> list[str]:
    """Store rollouts `RUN-PPP-S-R`, their rewards, and top-k of `scorer` where one is named.

    `sampling` are further columns, as temperature, in place of plain sampling's.
    """
    rng = np.random.default_rng(len(run))
    ids = [f"{run}-{m.prompt:03d}-{m.sample}-{m.round}" for m in made]
    tokens = [rng.integers(0, VOCABULARY, m.tokens).astype(np.int32) for m in made]
    rollouts, rewards = [], []
    for rollout, one, drawn in zip(ids, made, tokens, strict=True):
        rollouts.append(
            {
                "rollout_id": rollout,
                "role": role,
                "run_id": run,
                "prompt_id": f"p{one.prompt:03d}",
                "policy_id": policy_id(name),
                "purpose": "train",
                "round": one.round,
                "sample_index": one.sample,
                "temperature": 1.0,
                "top_p": 1.0,
                "top_k": 0,
                "max_tokens": 64,
                "seed": 0,
                "engine": "vllm",
                "engine_version": "0",
                "prompt_token_ids": [1, 2, 3],
                "response_token_ids": drawn.tolist(),
                "response_logprobs": [-1.0] * one.tokens,
                "response_text": f"the answer\nof {rollout} is ½",
                "finish_reason": "stop",
                "prompt_tokens": 3,
                "response_tokens": one.tokens,
                "created_at": NOW,
            }
            | sampling
        )
        if one.reward is not None:
            rewards.append(
                {
                    "rollout_id": rollout,
                    "verifier": verifier,
                    "verifier_version": "1",
                    "reward": one.reward,
                    "outcome": "correct" if one.reward > 0 else "wrong",
                    "extracted": "",
                    "detail": "",
                    "seconds": 0.0,
                    "run_id": "verify",
                    "created_at": NOW,
                }
            )
    store.commit(
        {"rewards": table("rewards", rewards), "rollouts": table("rollouts", rollouts)}, fresh=True
    )
    if scorer:
        add_scores(store, scorer, ids, [m.tokens for m in made], support)
    return ids


def add_scores(
    store: Store, scorer: str, ids: Sequence[str], lengths: Sequence[int], support: str = "own"
) -> None:
    """Top-k of K entries per token, all alike."""
    row = np.log(np.array([0.5, 0.3, 0.1], np.float32))
    entries = [
        TopK(
            token_ids=np.tile(np.arange(K, dtype=np.int32), (n, 1)),
            logprobs=np.tile(row, (n, 1)),
            sampled_logprobs=np.full(n, row[0], np.float32),
        )
        for n in lengths
    ]
    n = len(ids)
    columns = {
        "rollout_id": list(ids),
        "scorer_policy_id": [policy_id(scorer)] * n,
        "support": [support] * n,
        **topk.to_columns(entries),
        "run_id": ["score"] * n,
        "created_at": pa.array([NOW] * n, pa.timestamp("us", tz="UTC")),
    }
    store.commit({"topk": pa.table(columns)}, fresh=True)


def built(store: Store, name: str, query: str, **given: object) -> pa.Table:
    """Build a dataset from a shipped query, with its parameters and `seed`, and read its files."""
    seed = int(str(given.pop("seed", 0)))
    text = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in given.items()
    }
    build(store, name, queries.catalog()[query], text, seed)
    return read(store.folder / "datasets" / name)


def trained(
    store: Store, run: str, dataset: str, start: str, made: str, updates: int = 0, **config: Any
) -> None:
    """Record a run of these settings that took the dataset's first `updates`, or all, and made a
    policy."""
    sizes = store.sql(
        "SELECT dataset_id, update, count(*) AS rows FROM dataset_rows "
        "WHERE dataset_id = dataset_named($name) GROUP BY ALL ORDER BY update",
        {"name": dataset},
    ).fetchall()[: updates or None]
    settings = {"policy_id": policy_id(start), "dataset_id": sizes[0][0], "lr": 1e-3, **config}
    entered: dict[str, Any] = {
        "run_id": run,
        "kind": "train",
        "stage": run,
        "status": "done",
        "parents": [],
    }
    entered |= {"config": json.dumps(settings), "code_version": "1", "entered_at": NOW}
    same: dict[str, Any] = dict.fromkeys(("loss", "grad_norm", "lr", "seconds"), 1.0)
    same |= dict.fromkeys(("labels", "prompt_tokens", "response_tokens"), 0) | {"run_id": run}
    taken = [same | {"dataset_id": i, "update": u, "rows": n} for i, u, n in sizes]
    store.commit({"runs": table("runs", [entered]), "updates": table("updates", taken)}, fresh=True)
    last = {"run_id": run, "update": len(taken)}
    add_policies(store, policy(made, parent=policy_id(start)) | last)


def read(folder: Path) -> pa.Table:
    """All rows of a dataset, in either form, as trainers read them."""
    dataset = LockedDataset.open(folder)
    types = {**token_columns.TYPES, **_light_types(folder)}
    tables = []
    for rows in dataset.updates():
        columns: dict[str, pa.Array] = {}
        for name in dataset.columns:
            if name in rows.lists:
                values, offsets = rows.lists[name]
                cuts = pa.array(offsets.astype(np.int32))
                flat = pa.array(values, types[name].value_type)
                columns[name] = pa.ListArray.from_arrays(cuts, flat, types[name])
            else:
                columns[name] = pa.array(rows.scalars[name], types[name], from_pandas=True)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).combine_chunks()


def _light_types(folder: Path) -> dict[str, pa.DataType]:
    """Types of the columns that a dataset's own files hold."""
    schema = pq.read_schema(sorted(folder.glob("*.parquet"))[0])
    return {f.name: f.type for f in schema if f.name not in token_columns.TYPES}


def user_query(sql: str, name: str = "mine", kind: str = "", **params: str) -> queries.Query:
    """A user's query; parameters are VARCHAR with these defaults."""
    declared = tuple(queries.Param(key, "VARCHAR", value, "") for key, value in params.items())
    return queries.Query(name, "user", "", "", declared, (), sql, kind)
