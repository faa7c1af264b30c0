"""Rows without a model: rollouts, rewards and top-k that fit together, for tests of queries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store import ids, prompts
from s2d_store.encoding import topk
from s2d_store.encoding.topk import TopK
from s2d_store.encoding.topk_ragged import keep_mass
from s2d_store.schema import TABLES, without_encoding
from s2d_store.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VOCABULARY = 50
# What rows have in common; the rest depends on the row.
PROMPT: dict[str, Any] = {
    "source": "sums",
    "split": "train",
    "messages": [{"role": "user", "content": "1 + 1"}],
    "answer": "2",
    "meta": "{}",
    "created_at": NOW,
}
ROLLOUT: dict[str, Any] = {
    "purpose": "train",
    "round": 0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "max_tokens": 16,
    "seed": 0,
    "engine": "transformers",
    "engine_version": "0",
    "prompt_token_ids": [1, 2, 3],
    "response_text": "text",
    "finish_reason": "stop",
    "prompt_tokens": 3,
    "created_at": NOW,
}
REWARD: dict[str, Any] = {
    "verifier": "math-verify",
    "verifier_version": "1",
    "reward": 1.0,
    "outcome": "correct",
    "extracted": "",
    "detail": "",
    "seconds": 0.001,
    "run_id": "verify",
    "created_at": NOW,
}


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of the declared schema; what goes without saying is filled in."""
    return pa.Table.from_pylist(
        [_whole(name, row) for row in rows], schema=without_encoding(TABLES[name]).schema
    )


def _whole(name: str, row: dict[str, Any]) -> dict[str, Any]:
    if name == "rollouts":
        together = (row["run_id"], row["prompt_id"], row["policy_id"], row.get("round", 0))
        group = ids.group_id(*together, [row.get("temperature"), row.get("top_p")])
        sampled = {"sampled_tokens": row.get("response_tokens")}
        return {"group_id": group, "origin": "sampled", "tokens_from": "sampled"} | sampled | row
    usual: dict[str, dict[str, Any]] = {
        "prompts": {"answer_type": "none" if row.get("answer") is None else "text"},
        "policies": {"kind": "weights"},
        "rewards": {"attempt": 0},
        "runs": {"attempt": 0},
        "updates": {
            "trained_tokens": row.get("response_tokens"),
            "label_visits": row.get("labels"),
        },
    }
    return usual.get(name, {}) | row


def policy(name: str, *, tokenizer: str = "tok", parent: str | None = None) -> dict[str, Any]:
    return {
        "policy_id": ids.content_id("policy", name),
        "name": name,
        "location": f"models/{name}",
        "revision": None,
        "tokenizer_fingerprint": tokenizer,
        "vocab_size": VOCABULARY,
        "n_parameters": 1000,
        "parent_policy_id": parent,
        "run_id": None,
        "update": None,
        "created_at": NOW,
    }


def random_topk(rng: np.random.Generator, tokens: np.ndarray, k: int) -> TopK:
    """A teacher's own top-k over VOCABULARY, consistent with the sampled tokens."""
    logits = rng.normal(size=(len(tokens), VOCABULARY)) * 2
    logprobs = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    order = np.argsort(-logprobs, axis=1)[:, :k].astype(np.int32)
    sampled = logprobs[np.arange(len(tokens)), tokens]
    return TopK(order, np.take_along_axis(logprobs, order, 1), sampled)


def fill(
    store: Store,
    *,
    n_prompts: int = 6,
    n: int = 4,
    k: int = 5,
    role: str = "teacher",
    run: str = "gen",
    name: str = "teacher",
    purpose: str = "train",
    verifier: str = "math-verify",
    seed: int = 0,
    mass: float = 1.0,
) -> None:
    """Add prompts, one policy, n rollouts per prompt, a reward (right when sample_index is even)
    and own top-k for each."""
    rng = np.random.default_rng(seed)
    records = [
        (f"line {i}", {"question": f"{i} + {i}", "answer": str(2 * i)}) for i in range(n_prompts)
    ]
    prompts.add(store, records, prompts.PromptOptions(source="sums"))
    prompt_ids = [r[0] for r in store.sql("SELECT prompt_id FROM prompts ORDER BY 1").fetchall()]
    made = policy(name)
    store.commit({"policies": table("policies", [made])})
    rollouts, rewards, entries = [], [], []
    for prompt in prompt_ids[:n_prompts]:
        for index in range(n):
            tokens = rng.integers(0, VOCABULARY, rng.integers(3, 9)).astype(np.int32)
            entry = random_topk(rng, tokens, k)
            rollout = ids.rollout_id(run, prompt, made["policy_id"], index, 0)
            entries.append((rollout, entry))
            rollouts.append(
                ROLLOUT
                | {
                    "rollout_id": rollout,
                    "role": role,
                    "run_id": run,
                    "prompt_id": prompt,
                    "policy_id": made["policy_id"],
                    "purpose": purpose,
                    "sample_index": index,
                    "seed": index,
                    "response_token_ids": tokens.tolist(),
                    "response_logprobs": entry.sampled_logprobs.tolist(),
                    "response_tokens": len(tokens),
                }
            )
            rewards.append(
                REWARD
                | {
                    "rollout_id": rollout,
                    "verifier": verifier,
                    "reward": float(index % 2 == 0),
                    "outcome": "correct" if index % 2 == 0 else "wrong",
                }
            )
    stored = pa.table(
        {
            "rollout_id": [rollout for rollout, _ in entries],
            "scorer_policy_id": [made["policy_id"]] * len(entries),
            "support": ["own"] * len(entries),
            **topk.to_columns([entry for _, entry in entries]),
            "run_id": [run] * len(entries),
            "created_at": pa.array([NOW] * len(entries), pa.timestamp("us", tz="UTC")),
        }
    )
    store.commit(
        {
            "topk": stored if mass == 1 else keep_mass(stored, mass),
            "rewards": table("rewards", rewards),
            "rollouts": table("rollouts", rollouts),
        }
    )
