"""Stores whose spending is counted by hand: a few rollouts of 10 tokens per run, no model.

Every prompt has 5 tokens and every response 10; every policy 1,000 parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from s2d_store.store import Store
from tests.support.synthetic import NOW, policy, table

PROMPT_TOKENS, TOKENS = 5, 10


def policy_id(name: str) -> str:
    return str(policy(name)["policy_id"])


def add_policy(
    store: Store, name: str, parent: str = "", run: str = "", update: int | None = None
) -> None:
    row = policy(name, parent=policy_id(parent) if parent else None)
    store.commit({"policies": table("policies", [row | {"run_id": run or None, "update": update}])})


def add_run(
    store: Store, run: str, kind: str, stage: str = "", config: Mapping[str, Any] | None = None
) -> None:
    row = {
        "run_id": run,
        "kind": kind,
        "stage": stage or None,
        "status": "done",
        "config": json.dumps(dict(config or {})),
        "code_version": "1",
        "parents": [],
        "entered_at": NOW,
    }
    store.commit({"runs": table("runs", [row])})


def generate(
    store: Store,
    run: str,
    name: str,
    prompts: Sequence[str],
    *,
    stage: str = "",
    role: str = "student",
    purpose: str = "train",
    graded_by: str = "",
) -> list[str]:
    """One rollout a prompt, called `RUN-PROMPT`; graded when a verify run is named."""
    add_run(store, run, "generate", stage)
    ids = [f"{run}-{prompt}" for prompt in prompts]
    same = {
        "role": role,
        "run_id": run,
        "policy_id": policy_id(name),
        "purpose": purpose,
        "round": 0,
        "sample_index": 0,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "max_tokens": 16,
        "seed": 0,
        "engine": "vllm",
        "engine_version": "9",
        "prompt_token_ids": [1] * PROMPT_TOKENS,
        "response_token_ids": [2] * TOKENS,
        "response_logprobs": [-1.0] * TOKENS,
        "response_text": "text",
        "finish_reason": "stop",
        "prompt_tokens": PROMPT_TOKENS,
        "response_tokens": TOKENS,
        "created_at": NOW,
    }
    rows = [
        same | {"rollout_id": rollout, "prompt_id": prompt}
        for rollout, prompt in zip(ids, prompts, strict=True)
    ]
    store.commit({"rollouts": table("rollouts", rows)})
    if graded_by:
        grade(store, ids, graded_by)
    return ids


def grade(store: Store, rollouts: Sequence[str], run: str, version: str = "1") -> None:
    same = {
        "verifier": "math-verify",
        "verifier_version": version,
        "reward": 1.0,
        "outcome": "correct",
        "extracted": "",
        "detail": "",
        "seconds": 0.0,
        "run_id": run,
        "created_at": NOW,
    }
    store.commit({"rewards": table("rewards", [same | {"rollout_id": r} for r in rollouts])})


def score(
    store: Store, run: str, scorer: str, rollouts: Sequence[str], support: str = "own"
) -> None:
    same = {
        "scorer_policy_id": policy_id(scorer),
        "support": support,
        "k": 1,
        "token_ids": [2] * TOKENS,
        "logprobs": [-1.0] * TOKENS,
        "sampled_logprobs": [-1.0] * TOKENS,
        "run_id": run,
        "created_at": NOW,
    }
    store.commit({"topk": table("topk", [same | {"rollout_id": r} for r in rollouts])})


def dataset(
    store: Store,
    name: str,
    kind: str,
    rollouts: Sequence[str],
    *,
    labelled: bool = False,
    rows_per_update: int = 2,
    scorers: Sequence[str] | None = (),
    **locked: Any,
) -> str:
    """A locked dataset's records, id `id-NAME`; `scorers=None` leaves those out of its lock, which
    holds what else is given."""
    lock: dict[str, Any] = {"name": name, "kind": kind, "query": kind, "dataset_id": f"id-{name}"}
    lock |= {"params": {"k": 1}, "seed": 7, "versions": {"rollouts": 3}, "fingerprint": "f"}
    lock |= {"counts": {"rows": len(rollouts)}, "code_version": "1"}
    if scorers is not None:
        lock["scorers"] = [policy_id(scorer) for scorer in scorers]
    lock |= locked
    record = {
        "dataset_id": f"id-{name}",
        "name": name,
        "query": kind,
        "fingerprint": "f",
        "lock": json.dumps(lock),
        "created_at": NOW,
    }
    rows = [
        {
            "dataset_id": f"id-{name}",
            "row": i,
            "update": i // rows_per_update + 1,
            "rollout_id": rollout,
            "prompt_id": rollout.rsplit("-", 1)[1],
            "labelled": labelled,
        }
        for i, rollout in enumerate(rollouts)
    ]
    store.commit(
        {"datasets": table("datasets", [record]), "dataset_rows": table("dataset_rows", rows)}
    )
    return f"id-{name}"


def train(
    store: Store,
    run: str,
    dataset_id: str,
    stage: str,
    updates: int = 0,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Updates of a run over a dataset's rows: the first `updates`, or all."""
    add_run(store, run, "train", stage, config)
    sizes = store.sql(
        "SELECT update, count(*) FROM dataset_rows WHERE dataset_id = $id GROUP BY 1 ORDER BY 1",
        {"id": dataset_id},
    ).fetchall()
    figures = dict.fromkeys(("loss", "grad_norm", "lr", "seconds"), 1.0)
    rows = [
        figures
        | {
            "run_id": run,
            "update": update,
            "dataset_id": dataset_id,
            "rows": n,
            "prompt_tokens": n * PROMPT_TOKENS,
            "response_tokens": n * TOKENS,
            "labels": 0,
        }
        for update, n in sizes[: updates or None]
    ]
    store.commit({"updates": table("updates", rows)})


def experiment(store: Store) -> None:
    """A teacher trained on labels, then warmup, OPD and GRPO of a student; nobody's rollouts too.

    teacher --GRPO on a b c d--> teacher-rl (2 updates)
    base --warmup on teacher-rl's rollouts of c d e--> warm (2 updates, labels c d e)
    warm --OPD on its own rollouts of e f, scored by teacher-rl--> opd (1 update, no labels)
    opd --GRPO on warm's same rollouts e f and its own of a g--> final (2 updates, labels a e f g)
    """
    add_policy(store, "teacher")
    add_policy(store, "base")
    on_teacher = generate(
        store, "gt", "teacher", "abcd", stage="rl", role="teacher", graded_by="verify"
    )
    train(store, "train-t", dataset(store, "t", "grpo", on_teacher, labelled=True), "rl")
    add_policy(store, "teacher-rl", "teacher", "train-t", 2)

    bridge = generate(
        store, "gw", "teacher-rl", "cdex", stage="warmup", role="teacher", graded_by="verify"
    )
    score(store, "gw", "teacher-rl", bridge)
    warmup = dataset(store, "w", "warmup", bridge[:3], labelled=True, scorers=["teacher-rl"])
    train(store, "train-w", warmup, "warmup")
    add_policy(store, "warm", "base", "train-w", 2)

    own = generate(store, "gs", "warm", "ef", stage="opd")
    score(store, "score", "teacher-rl", own)
    add_policy(store, "stranger")
    score(store, "score-2", "stranger", own)
    train(store, "train-o", dataset(store, "o", "opd", own, scorers=["teacher-rl"]), "opd")
    add_policy(store, "opd", "warm", "train-o", 1)

    grade(store, own, "verify")
    later = generate(store, "gf", "opd", "ag", stage="grpo", graded_by="verify")
    train(store, "train-f", dataset(store, "f", "grpo", own + later, labelled=True), "grpo")
    add_policy(store, "final", "opd", "train-f", 2)

    generate(store, "other", "stranger", "abz", stage="other")
    generate(store, "eval", "final", "vw", stage="eval", purpose="eval", graded_by="verify")
