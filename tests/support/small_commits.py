"""Small commits to several tables, for tests with many writers.

Commit `i` of a writer holds a teacher's and a student's rollout of round `i`, in a run named like
the writer, with their rewards and top-k; before it, all writers store the same policy `shared-i`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store import ids
from s2d_store.encoding import topk
from s2d_store.store import Store
from tests.support import synthetic

ROLES = ("teacher", "student")


def commit(store: Store, writer: str, i: int) -> None:
    policy = synthetic.policy(f"shared-{i}")
    store.commit({"policies": synthetic.table("policies", [policy])})
    store.commit(rows(writer, i, policy["policy_id"]), fresh=True)


def rollout_ids(writer: str, i: int, policy_id: str) -> list[str]:
    """Ids of one commit's rollouts, in the order of ROLES."""
    return [ids.rollout_id(writer, role, policy_id, i, i) for role in ROLES]


def rows(writer: str, i: int, policy_id: str, prompt_id: str = "prompt") -> dict[str, pa.Table]:
    """One commit's rollouts, rewards and top-k."""
    rng = np.random.default_rng(i)
    tokens = rng.integers(0, synthetic.VOCABULARY, 4).astype(np.int32)
    entry = synthetic.random_topk(rng, tokens, 3)
    named = rollout_ids(writer, i, policy_id)
    usual: dict[str, Any] = {
        "run_id": writer,
        "prompt_id": prompt_id,
        "policy_id": policy_id,
        "round": i,
        "sample_index": i,
        "response_token_ids": tokens.tolist(),
        "response_logprobs": entry.sampled_logprobs.tolist(),
        "response_tokens": len(tokens),
    }
    rollouts = [
        synthetic.ROLLOUT | usual | {"rollout_id": rollout_id, "role": role}
        for rollout_id, role in zip(named, ROLES, strict=True)
    ]
    rewards = [synthetic.REWARD | {"rollout_id": rollout_id} for rollout_id in named]
    n = len(ROLES)
    scored = pa.table(
        {
            "rollout_id": named,
            "scorer_policy_id": ["scorer"] * n,
            "support": ["own"] * n,
            **topk.to_columns([entry] * n),
            "run_id": [writer] * n,
            "created_at": pa.array([synthetic.NOW] * n, pa.timestamp("us", tz="UTC")),
        }
    )
    return {
        "topk": scored,
        "rewards": synthetic.table("rewards", rewards),
        "rollouts": synthetic.table("rollouts", rollouts),
    }
