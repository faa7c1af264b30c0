"""A small store that passes every audit, and single facts that each break one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

import queries
from s2d_store import ids, prompts
from s2d_store.audits import AuditResult, audit
from s2d_store.datasets.build import build
from s2d_store.encoding import topk as columns_of
from s2d_store.encoding.topk import TopK
from s2d_store.store import Store
from tests.support.synthetic import NOW, VOCABULARY, policy, table

T, K = 20, 5
LOGPROB = -1.5
WORDS = 30
Row = dict[str, Any]


def put(store: Store, **tables: pa.Table) -> None:
    # Every row here is new; looking up whether it is stored takes most of a small commit's time.
    store.commit(tables, fresh=True)


def policy_id(name: str) -> str:
    return str(policy(name)["policy_id"])


def words(seed: int) -> list[str]:
    """A question's words, like no other seed's."""
    rng = np.random.default_rng(seed)
    return [f"word{i}" for i in rng.integers(0, 10_000, WORDS)]


def add_prompts(store: Store, texts: Sequence[str], split: str = "train") -> list[str]:
    options = prompts.PromptOptions(source="made", split=split)
    records = [(text[:20], {"question": text, "answer": "1"}) for text in texts]
    prompts.add(store, records, options)
    query = "SELECT messages[1].content, prompt_id FROM prompts"
    by_text = dict(store.sql(query).fetchall())
    return [by_text[text] for text in texts]


def add_prompt(store: Store, text: str, *, split: str = "train") -> str:
    return add_prompts(store, [text], split)[0]


def add_policy(store: Store, name: str, **changes: Any) -> None:
    put(store, policies=table("policies", [policy(name) | changes]))


def add_run(
    store: Store, run: str, kind: str, stage: str, parents: Sequence[str] = (), recipe: str = ""
) -> None:
    row: dict[str, Any] = {
        "run_id": run,
        "kind": kind,
        "stage": stage,
        "recipe": recipe or None,
        "status": "done",
        "config": "{}",
    }
    row |= {"code_version": "1", "parents": list(parents), "entered_at": NOW}
    put(store, runs=table("runs", [row]))


def add_rollouts(
    store: Store, run: str, name: str, prompt_ids: Sequence[str], *, n: int = 2, **changes: Any
) -> list[str]:
    """n rollouts per prompt of T random tokens, every one with logprob LOGPROB."""
    rng = np.random.default_rng(abs(hash_of(run)))
    same: dict[str, Any] = {
        "role": "student",
        "run_id": run,
        "policy_id": policy_id(name),
        "purpose": "train",
        "round": 0,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "max_tokens": 64,
        "engine": "vllm",
        "engine_version": "0",
        "prompt_token_ids": [1, 2, 3],
        "response_text": "the answer is 1",
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "created_at": NOW,
    }
    rows: list[dict[str, Any]] = []
    for prompt in prompt_ids:
        for index in range(n):
            row = same | {
                "rollout_id": ids.rollout_id(run, prompt, policy_id(name), index, 0),
                "prompt_id": prompt,
                "sample_index": index,
                "seed": len(rows),
                "response_token_ids": rng.integers(0, VOCABULARY, T).tolist(),
            }
            row |= changes
            size = len(row["response_token_ids"])
            rows.append({"response_logprobs": [LOGPROB] * size, "response_tokens": size} | row)
    put(store, rollouts=table("rollouts", rows))
    return [row["rollout_id"] for row in rows]


def hash_of(text: str) -> int:
    return int(ids.content_id("seed", text)[:8], 16)


def grade(
    store: Store,
    rollouts: Sequence[str],
    rewards: Sequence[float],
    *,
    verifier: str = "math-verify",
    version: str = "1",
    hours: int = 0,
) -> None:
    rows = [
        {
            "rollout_id": rollout,
            "verifier": verifier,
            "verifier_version": version,
            "reward": reward,
            "outcome": "correct" if reward else "wrong",
            "extracted": str(reward),
            "detail": "",
            "seconds": 0.0,
            "run_id": "verify",
            "created_at": NOW + timedelta(hours=hours),
        }
        for rollout, reward in zip(rollouts, rewards, strict=True)
    ]
    put(store, rewards=table("rewards", rows))


def scores(tokens: np.ndarray, logprob: float) -> TopK:
    """Top-k of tokens (T,): the sampled one first, the others share what probability is left."""
    ranks = np.arange(K)
    rest = np.log(-np.expm1(logprob) / K)
    row = np.where(ranks == 0, logprob, min(logprob, rest) - 0.1 * ranks)
    return TopK(
        token_ids=((tokens[:, None] + ranks) % VOCABULARY).astype(np.int32),
        logprobs=np.tile(row, (len(tokens), 1)).astype(np.float32),
        sampled_logprobs=np.full(len(tokens), logprob, np.float32),
    )


def stored_tokens(store: Store, rollouts: Sequence[str]) -> list[np.ndarray]:
    query = "SELECT rollout_id, response_token_ids FROM rollouts"
    by_id = dict(store.sql(query).fetchall())
    return [np.array(by_id[rollout]) for rollout in rollouts]


def score(store: Store, scorer: str, rollouts: Sequence[str], logprob: float = LOGPROB) -> None:
    """The scorer's own top-k, every sampled token with the same logprob."""
    add_topk(store, scorer, rollouts, [scores(t, logprob) for t in stored_tokens(store, rollouts)])


def add_topk(
    store: Store, scorer: str, rollouts: Sequence[str], entries: Sequence[TopK], **changes: Any
) -> None:
    n = len(rollouts)
    columns: dict[str, Any] = {
        "rollout_id": list(rollouts),
        "scorer_policy_id": [policy_id(scorer)] * n,
        "support": ["own"] * n,
        **columns_of.to_columns(entries),
        "run_id": ["score"] * n,
        "created_at": pa.array([NOW] * n, pa.timestamp("us", tz="UTC")),
    }
    columns |= {name: [value] * n for name, value in changes.items()}
    put(store, topk=pa.table(columns))


def add_dataset(
    store: Store,
    name: str,
    kind: str,
    rollouts: Sequence[str],
    *,
    labelled: bool = False,
    rows_per_update: int = 2,
    **params: Any,
) -> str:
    """The record of a locked dataset whose files are gone."""
    lock = {"name": name, "kind": kind, "params": params, "tokenizer_fingerprint": "tok"}
    lock |= {"dataset_id": f"id-{name}"}
    query = "SELECT rollout_id, prompt_id FROM rollouts"
    prompt_of = dict(store.sql(query).fetchall())
    rows = [
        {
            "dataset_id": f"id-{name}",
            "row": row,
            "update": row // rows_per_update + 1,
            "rollout_id": rollout,
            "prompt_id": prompt_of[rollout],
            "labelled": labelled,
        }
        for row, rollout in enumerate(rollouts)
    ]
    record: dict[str, Any] = {
        "dataset_id": f"id-{name}",
        "name": name,
        "query": kind,
        "fingerprint": "f",
    }
    record |= {"lock": json.dumps(lock), "created_at": NOW}
    put(store, datasets=table("datasets", [record]), dataset_rows=table("dataset_rows", rows))
    return f"id-{name}"


def train(
    store: Store,
    run: str,
    dataset_id: str,
    start: str,
    made: str,
    stage: str,
    updates: int = 2,
    recipe: str = "",
) -> None:
    """A run that took updates on a dataset and made a policy."""
    add_run(store, run, "train", stage, [dataset_id], recipe)
    figures = dict.fromkeys(("loss", "kl", "entropy", "topk_mass", "grad_norm", "lr", "seconds"), 1)
    row = {"run_id": run, "dataset_id": dataset_id, "rows": 2, "prompt_tokens": 6, "labels": 0}
    row |= {"response_tokens": 2 * T, "clip_fraction": None, **figures}
    rows = [row | {"update": update} for update in range(1, updates + 1)]
    put(store, updates=table("updates", rows))
    add_policy(store, made, parent_policy_id=policy_id(start), run_id=run, update=updates)


def fill(store: Store) -> None:
    """Teacher RL, warmup, OPD, and GRPO beside a control of it: every audit has what to see."""
    train_prompts = add_prompts(store, [" ".join(words(i)) for i in range(12)])
    eval_prompts = add_prompts(store, [" ".join(words(i)) for i in range(100, 104)], "test")
    add_policy(store, "teacher-base")
    add_policy(store, "student-base")

    before = add_rollouts(store, "gen-base", "teacher-base", train_prompts[:4], role="teacher")
    grade(store, before, [1.0, 0.0] * 4)
    grade(store, before, [1.0, 0.0] * 4, verifier="exact")
    rl = add_dataset(store, "teacher-rl", "grpo", before, labelled=True)
    train(store, "train-teacher", rl, "teacher-base", "teacher", "teacher-rl")
    after = add_rollouts(store, "gen-after", "teacher", train_prompts[:4], role="teacher")
    grade(store, after, [1.0, 1.0] * 4)

    shown = add_rollouts(store, "gen-warmup", "teacher", train_prompts[4:8], role="teacher")
    grade(store, shown, [1.0, 1.0] * 4)
    score(store, "teacher", shown)
    given = {"teacher": "teacher", "rows_per_update": "2"}
    lock = build(store, "warmup", queries.catalog()["warmup"], given)
    train(store, "train-warmup", lock["dataset_id"], "student-base", "student-warmup", "warmup")

    bridge = add_rollouts(store, "gen-opd", "student-warmup", train_prompts[8:])
    score(store, "teacher", bridge, LOGPROB - 0.1)
    opd = add_dataset(store, "opd", "opd", bridge)
    train(store, "train-opd", opd, "student-warmup", "student-opd", "opd")

    group = add_rollouts(store, "gen-grpo", "student-opd", train_prompts[8:])
    grade(store, group, [1.0, 0.0] * 4)
    stage3 = add_dataset(store, "stage3", "grpo", group, labelled=True)
    train(store, "train-grpo", stage3, "student-opd", "student-grpo", "stage3")
    control = add_dataset(store, "control", "bridge_continuation", bridge, treatment="stage3")
    train(store, "train-continued", control, "student-opd", "student-continued", "continued")
    add_rollouts(store, "gen-eval", "student-grpo", eval_prompts, purpose="eval")


def prompt_ids(store: Store, run: str) -> list[str]:
    query = "SELECT DISTINCT prompt_id FROM rollouts WHERE run_id = $run ORDER BY 1"
    return [row[0] for row in store.sql(query, {"run": run}).fetchall()]


def rollout_ids(store: Store, run: str) -> list[str]:
    query = "SELECT rollout_id FROM rollouts WHERE run_id = $run ORDER BY rollout_id"
    return [row[0] for row in store.sql(query, {"run": run}).fetchall()]


def one(store: Store, name: str, **params: object) -> AuditResult:
    """What one audit finds."""
    (result,) = audit(store, [name], params=params)
    return result


def only_failure(store: Store, name: str, sample: int = 5) -> AuditResult:
    """What the one audit that fails found; every other one passes."""
    results = audit(store, sample=sample)
    # No server is in this store.
    judged = [r for r in results if (r.name, r.status) != ("server_agrees", "skipped")]
    assert {r.name: r.status for r in judged if r.status != "passed"} == {name: "failed"}
    (failed,) = (r for r in results if r.status == "failed")
    assert 0 < len(failed.sample) == min(failed.offending, sample)
    return failed
