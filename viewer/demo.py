"""A small store for `s2d view --demo`: the three stages in made-up figures, without any model.

A pupil learns to add and multiply. Its words, chances and verdicts are drawn from a seed, so every
demo is the same; what its pages show is what a real store's would.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store import ids
from s2d_store.encoding.topk import TopK, to_columns
from s2d_store.prompts import PromptOptions, add
from s2d_store.schema import TABLES, without_encoding
from s2d_store.store import Store

BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)
VERIFIER = {"verifier": "math-verify", "verifier_version": "demo", "attempt": 0}
K, N, PROMPTS = 5, 4, 24
_WORDS = ("First", " we", " take", " and", " add", " multiply", " so", " the", " answer", " is")
VOCABULARY = (
    "<eos>",
    *_WORDS,
    *("\n", ".", " \\boxed{", "}", " Wait", ",", " check", " again", " \\times", " +", " ="),
    *(f" {number}" for number in range(200)),
)


@dataclass(frozen=True)
class Stage:
    """A stage: its rounds, and how often its policy is right before and after it."""

    name: str
    kind: str
    role: str
    start: str
    rounds: int
    before: float
    after: float
    split: str = "1H"


STAGES = (
    Stage("rl-teacher", "grpo", "teacher", "teacher", 3, 0.45, 0.8),
    Stage("warmup", "warmup", "student", "student", 1, 0.2, 0.55),
    Stage("bridge", "opd", "student", "warmup", 4, 0.55, 0.68),
    Stage("stage3", "grpo", "student", "bridge", 3, 0.68, 0.86, "2H"),  # new labels
)


def make(root: Path) -> Store:
    """Fill a new store in a folder."""
    demo = _Demo(Store.init(root))
    for name in ("teacher", "student"):
        demo.policy(name)
        demo.newest[name] = name
    for stage in STAGES:
        for round_ in range(stage.rounds):
            demo.round(stage, round_)
    for name, rate in (("student", 0.2), *((s.name, s.after) for s in STAGES)):
        demo.sample("eval", demo.newest[name], "student", rate)
    return demo.store


class _Demo:
    """The store, what time it is there, and the newest policy of each stage."""

    def __init__(self, store: Store) -> None:
        self.store, self.now, self.rng = store, BEGIN, np.random.default_rng(5)
        self.newest: dict[str, str] = {}
        self.token = {text: i for i, text in enumerate(VOCABULARY)}
        for split in ("1H", "2H", "test"):
            records = []
            for i in range(PROMPTS):
                a, b = (int(x) for x in self.rng.integers(2, 12, 2))
                times = i % 2 == 0
                question = f"What is ${a} {'times' if times else '+'} {b}$?"
                question = question.replace("times", "\\times")
                record = {
                    "question": f"{question} (no. {i})",
                    "answer": str(a * b if times else a + b),
                }
                records.append((f"{split} {i}", record))
            add(store, records, PromptOptions(source="demo", split=split))
        rows = store.sql("SELECT prompt_id, split, answer, messages[1].content FROM prompts")
        self.prompts = sorted(rows.fetchall())
        words = [
            {"tokenizer_fingerprint": "demo", "token_id": i, "token": text}
            for text, i in self.token.items()
        ]
        self.put("vocabularies", words)

    def put(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        schema = without_encoding(TABLES[name]).schema
        self.store.commit({name: pa.Table.from_pylist(list(rows), schema=schema)}, fresh=True)

    def tick(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def run(self, run: str, of: str, stage: str | None, status: str, **config: Any) -> None:
        row: dict[str, Any] = {
            "run_id": run,
            "kind": of,
            "stage": stage,
            "recipe": "demo",
            "attempt": 0,
        }
        row |= {"status": status, "config": json.dumps(config), "code_version": "demo"}
        self.put("runs", [row | {"parents": [], "entered_at": self.now}])

    def policy(self, name: str, parent: str = "", run: str | None = None) -> None:
        row: dict[str, Any] = {
            "policy_id": ids.content_id("demo", name),
            "name": name,
            "kind": "weights",
        }
        row |= {"location": f"models/{name}", "tokenizer_fingerprint": "demo", "run_id": run}
        row |= {"vocab_size": len(VOCABULARY), "created_at": self.now}
        row["n_parameters"] = 8_000_000 if "teacher" in name else 1_700_000
        row["parent_policy_id"] = ids.content_id("demo", parent) if parent else None
        self.put("policies", [row | {"update": 8 if run else None}])

    def round(self, stage: Stage, round_: int) -> None:
        """Sample, lock and train one round."""
        name = f"{stage.name}.r{round_:03d}" if stage.rounds > 1 else stage.name
        start = self.newest.get(stage.name, self.newest.get(stage.start, stage.start))
        sampler = self.newest["rl-teacher"] if stage.kind == "warmup" else start
        rate = stage.before + (stage.after - stage.before) * round_ / stage.rounds
        planned = {"schedule_updates": 8 * stage.rounds}
        self.run(name, "round", stage.name, "running", kind=stage.kind, train=planned)
        rollouts = self.sample(
            stage.name,
            sampler,
            "teacher" if stage.kind == "warmup" else stage.role,
            0.8 if stage.kind == "warmup" else rate,
            round_=round_,
            split=stage.split,
            scorer=self.newest["rl-teacher"] if stage.kind == "opd" else "",
        )
        self.train(stage, name, rollouts, (round_ + 1) / stage.rounds)
        self.policy(name, start, f"train-{name}")
        self.newest[stage.name] = name
        self.run(name, "round", stage.name, "done", kind=stage.kind, train=planned)

    def words(self, question: str, answer: str, right: bool) -> list[int]:
        """A response that works out an answer, now and then doubting itself."""
        a, b = (part.strip("$?") for part in question.split() if part.strip("$?").isdigit())
        times = "\\times" in question
        said = answer if right else str(int(answer) + int(self.rng.integers(1, 4)))
        text = ["First", " we", " multiply" if times else " add", f" {a}", " and", f" {b}", "."]
        if self.rng.random() < 0.3:
            text += [" Wait", ",", " check", " again", "."]
        text += ["\n", f" {a}", " \\times" if times else " +", f" {b}", " =", f" {said}", "\n"]
        text += [" so", " the", " answer", " is", " \\boxed{", f" {said}", "}", ".", "<eos>"]
        return [self.token[word] for word in text]

    def sample(
        self,
        stage: str,
        policy: str,
        role: str,
        rate: float,
        *,
        round_: int = 0,
        split: str = "test",
        scorer: str = "",
    ) -> list[str]:
        """N rollouts of each prompt with top-k and verdicts; returns their ids."""
        run, policy_id = f"generate-{policy}-{stage}", ids.content_id("demo", policy)
        purpose = "eval" if split == "test" else "train"
        label = None if purpose == "eval" else stage
        self.run(run, "generate", label, "running", policy_id=policy_id)
        rollouts, rewards, own, scored = [], [], list[TopK](), list[TopK]()
        # As many are right as the rate says, whichever they are.
        rights = iter(self.rng.permutation(PROMPTS * N) < rate * PROMPTS * N)
        for prompt, _, answer, question in (p for p in self.prompts if p[1] == split):
            for index in range(N):
                right = bool(next(rights))
                tokens = np.array(self.words(question, answer, right), np.int32)
                own.append(self.topk(tokens, 0.12))
                scored.append(self.topk(tokens, 0.3))
                row: dict[str, Any] = {
                    "rollout_id": ids.rollout_id(run, prompt, policy_id, index, round_)
                }
                row |= {"role": role, "run_id": run, "origin": "sampled", "prompt_id": prompt}
                row |= {"group_id": ids.content_id(run, prompt), "policy_id": policy_id}
                row |= {"purpose": purpose, "round": round_, "sample_index": index, "seed": index}
                row |= {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 64}
                row |= {"engine": "demo", "engine_version": "0", "tokens_from": "sampled"}
                row |= {"prompt_token_ids": [1], "prompt_tokens": 1, "finish_reason": "stop"}
                row |= {"response_token_ids": tokens.tolist(), "response_tokens": len(tokens)}
                row |= {"sampled_tokens": len(tokens), "created_at": self.tick(0.05)}
                row["response_logprobs"] = own[-1].sampled_logprobs.tolist()
                row["response_text"] = "".join(VOCABULARY[t] for t in tokens[:-1])
                rollouts.append(row)
                verdict: dict[str, Any] = VERIFIER | {
                    "rollout_id": row["rollout_id"],
                    "run_id": run,
                }
                verdict |= {"reward": float(right), "outcome": "correct" if right else "wrong"}
                verdict |= {"extracted": VOCABULARY[tokens[-4]].strip(), "detail": ""}
                rewards.append(verdict | {"seconds": 0.001, "created_at": self.now})
        self.put("rollouts", rollouts)
        self.put("rewards", rewards)
        sides = [(policy, "own", own, run)]
        if scorer:
            self.run(f"score-{policy}", "score", None, "done")
            sides.append((scorer, "own", scored, f"score-{policy}"))
        for name, support, rows, by in sides:
            columns = to_columns(rows) | {
                "rollout_id": pa.array([row["rollout_id"] for row in rollouts]),
                "scorer_policy_id": pa.array([ids.content_id("demo", name)] * len(rows)),
                "support": pa.array([support] * len(rows)),
                "run_id": pa.array([by] * len(rows)),
                "created_at": pa.array([self.now] * len(rows), pa.timestamp("us", tz="UTC")),
            }
            self.store.commit({"topk": pa.table(columns)}, fresh=True)
        self.run(run, "generate", label, "done", policy_id=policy_id)
        return [row["rollout_id"] for row in rollouts]

    def topk(self, tokens: NDArray[np.int32], doubt: float) -> TopK:
        """Chances of K tokens at each position, the sampled one among the first as a rule."""
        n = len(tokens)
        # Distinct, and none of them the sampled one: steps of the vocabulary's circle away from it.
        steps = self.rng.permuted(np.tile(np.arange(1, len(VOCABULARY)), (n, 1)), axis=1)
        others = ((tokens[:, None] + steps[:, : K - 1]) % len(VOCABULARY)).astype(np.int32)
        chance = 1 - doubt * self.rng.beta(0.5, 3, n) * np.where(self.rng.random(n) < 0.15, 3, 1)
        chance = np.clip(chance, 0.05, 0.995)
        rest = (1 - chance)[:, None] * self.rng.dirichlet(np.full(K, 0.7), n)[:, : K - 1]
        chances = np.concatenate([chance[:, None], np.maximum(rest, 1e-6)], axis=1)
        token_ids = np.concatenate([tokens[:, None], others], axis=1)
        order = np.argsort(-chances, axis=1, kind="stable")
        logprobs = np.log(np.take_along_axis(chances, order, 1)).astype(np.float32)
        sampled = logprobs[order == 0]
        return TopK(np.take_along_axis(token_ids, order, 1), logprobs, sampled)

    def train(self, stage: Stage, name: str, rollouts: Sequence[str], done: float) -> None:
        """A dataset of the rollouts as they come, and 8 updates over it."""
        dataset, run = ids.content_id("dataset", name), f"train-{name}"
        prompts = dict(
            self.store.sql(
                "SELECT rollout_id, prompt_id FROM rollouts WHERE rollout_id IN $rollouts",
                {"rollouts": list(rollouts)},
            ).fetchall()
        )
        labelled, per_update = stage.kind == "grpo", len(rollouts) // 8
        counts: dict[str, Any] = {
            "rows": len(rollouts),
            "updates": 8,
            "labels": PROMPTS if labelled else 0,
        }
        lock: dict[str, Any] = {
            "name": name,
            "kind": stage.kind,
            "query": stage.kind,
            "counts": counts,
            "seed": 0,
        }
        lock |= {"fingerprint": ids.content_id("rows", name), "params": {"passes": 1}}
        row: dict[str, Any] = {
            "dataset_id": dataset,
            "name": name,
            "query": stage.kind,
            "lock": json.dumps(lock),
        }
        self.put("datasets", [row | {"fingerprint": lock["fingerprint"], "created_at": self.now}])
        rows = [
            {
                "dataset_id": dataset,
                "row": i,
                "update": i // per_update + 1,
                "rollout_id": rollout,
                "prompt_id": prompts[rollout],
                "labelled": labelled,
            }
            for i, rollout in enumerate(rollouts)
        ]
        self.put("dataset_rows", rows)
        self.run(run, "train", stage.name, "running")
        updates = []
        for i in range(8):
            fell = (1 - done + 0.15) * float(np.exp(-i / 12)) + float(self.rng.normal(0, 0.02))
            update: dict[str, Any] = {
                "run_id": run,
                "update": i + 1,
                "dataset_id": dataset,
                "rows": per_update,
            }
            update |= {"prompt_tokens": per_update, "response_tokens": 24 * per_update}
            update |= {"trained_tokens": 24 * per_update, "labels": 3 if labelled else 0}
            update |= {"label_visits": 3 if labelled else 0, "loss": 0.4 * fell, "kl": 0.1 * fell}
            update |= {"entropy": 0.2 + 0.3 * fell, "topk_mass": 0.99, "grad_norm": 0.6 + fell}
            update |= {"clip_fraction": 0.02 if labelled else None, "lr": 1e-3 * (1 - i / 10)}
            updates.append(update | {"seconds": 1.5})
        self.tick(40)
        self.put("updates", updates)
        self.run(run, "train", stage.name, "done")
