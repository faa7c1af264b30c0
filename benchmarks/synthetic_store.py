"""A store of any size with rows that fit together, for benchmarks: the whole workflow's shape.

    python -m benchmarks.synthetic_store STORE --rollouts 1000000

Policies: a teacher before and after GRPO, a student, and one version of it a training run (warmup,
OPD rounds, GRPO). Rollouts with tokens, logprobs and text; a reward for each labelled one; top-k
for a part; training runs with their locked datasets' rows, updates and parents. Nothing here comes
from a model: lengths, pass rates and logprobs are drawn from distributions like real ones.
"""

from __future__ import annotations

import argparse
import binascii
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.schema import TABLES
from s2d_store.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VOCABULARY = 49_152
CHUNK = 100_000
GROUP = 8
N_EVAL = 1_500
WORDS = 4_000
ROWS_PER_UPDATE = 512


@dataclass(frozen=True)
class Run:
    """One generate run, with the share of all rollouts that it holds.

    Attributes:
        name: its run id.
        role, policy, stage, purpose: as in table rollouts and runs.
        share: of all rollouts.
        topk: share of its rollouts that have top-k.
        pass_rate: share of correct rollouts.
    """

    name: str
    role: str
    policy: str
    stage: str
    purpose: str
    share: float
    topk: float
    pass_rate: float


GENERATE = (
    Run("gen-teacher-grpo", "teacher", "teacher", "teacher-grpo", "train", 0.25, 0.0, 0.4),
    Run("gen-warmup", "teacher", "teacher-rl", "warmup", "train", 0.2, 0.1, 0.7),
    Run("gen-opd-0", "student", "student-warmup", "opd", "train", 0.15, 0.1, 0.5),
    Run("gen-opd-1", "student", "student-opd", "opd", "train", 0.15, 0.1, 0.55),
    Run("gen-student-grpo", "student", "student-opd", "student-grpo", "train", 0.2, 0.0, 0.6),
    Run("gen-eval", "student", "student-grpo", "eval", "eval", 0.05, 0.0, 0.65),
)
# Training run, policy before, policy after, dataset kind, the generate run that fed it.
TRAIN = (
    ("train-teacher", "teacher", "teacher-rl", "grpo", "gen-teacher-grpo"),
    ("train-warmup", "student", "student-warmup", "warmup", "gen-warmup"),
    ("train-opd", "student-warmup", "student-opd", "opd", "gen-opd-0"),
    ("train-grpo", "student-opd", "student-grpo", "grpo", "gen-student-grpo"),
)
POLICIES = ("teacher", "teacher-rl", "student", "student-warmup", "student-opd", "student-grpo")


def hex_ids(kind: str, numbers: NDArray[np.int64]) -> pa.Array:
    """16 hex characters for each number, scrambled so that no order of the input shows."""
    salt = np.uint64(int.from_bytes(kind.encode()[:6], "big"))
    mixed = (numbers.astype(np.uint64) + salt) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    text = binascii.hexlify((mixed ^ (mixed >> np.uint64(29))).astype(">u8").tobytes())
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def lists(lengths: NDArray[np.int64], values: NDArray[np.generic]) -> pa.ListArray:
    """Flat values cut into lists."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def policy_id(name: str) -> str:
    """The id of a policy of POLICIES."""
    return hex_ids("policy", np.array([POLICIES.index(name)]))[0].as_py()


def repeat(value: object, n: int, type_: pa.DataType | None = None) -> pa.Array:
    """A constant column."""
    return pa.repeat(pa.scalar(value, type_), n)


class Builder:
    """Writes one store; every number derives from the seed."""

    def __init__(
        self,
        root: Path,
        rollouts: int,
        mean_tokens: int,
        k: int,
        seed: int,
        most_tokens: int = 2048,
    ) -> None:
        self.store = Store.init(root)
        self.most_tokens = most_tokens
        self.rollouts, self.mean_tokens, self.k = rollouts, mean_tokens, k
        self.rng = np.random.default_rng(seed)
        # As many prompts as groups, so that every run has prompts of its own.
        self.n_prompts = max(GROUP, rollouts // GROUP)
        self.time = pa.scalar(NOW, pa.timestamp("us", tz="UTC"))

    def build(self) -> None:
        """Write every table."""
        self.prompts()
        self.policies()
        start = 0
        for run in GENERATE:
            n = int(self.rollouts * run.share) // GROUP * GROUP
            self.record_run(run.name, "generate", run.stage, [])
            for first in range(start, start + n, CHUNK):
                self.chunk(run, np.arange(first, min(first + CHUNK, start + n)))
            start += n
        for train in TRAIN:
            self.training(*train)

    def prompts(self) -> None:
        """A prompt a group, of 20 to 60 random words."""
        words = np.array([f"w{i}" for i in range(WORDS)])
        for first in range(0, self.n_prompts, CHUNK):
            numbers = np.arange(first, min(first + CHUNK, self.n_prompts))
            n = len(numbers)
            lengths = self.rng.integers(20, 60, n)
            drawn = words[self.rng.integers(0, WORDS, lengths.sum())]
            cuts = np.concatenate([[0], np.cumsum(lengths)])
            texts = [" ".join(drawn[a:b]) for a, b in pairwise(cuts)]
            messages = pa.StructArray.from_arrays(
                [repeat("user", n), pa.array(texts)], names=["role", "content"]
            )
            split = np.where(numbers < self.n_prompts - self.n_prompts // 20, "train", "test")
            self.commit(
                "prompts",
                {
                    "prompt_id": hex_ids("prompt", numbers),
                    "source": repeat("synthetic", n),
                    "split": pa.array(split),
                    "messages": pa.ListArray.from_arrays(
                        np.arange(n + 1, dtype=np.int32), messages
                    ),
                    "answer": pa.array((numbers % 100).astype(str)),
                    "answer_type": pa.array(["number"] * len(numbers)),
                    "meta": repeat("{}", n),
                    "created_at": pa.repeat(self.time, n),
                },
            )

    def policies(self) -> None:
        """POLICIES, each with its parent and the run that made it."""
        made = {after: (before, run) for run, before, after, _, _ in TRAIN}
        rows = [
            {
                "policy_id": policy_id(name),
                "name": name,
                "kind": "weights",
                "location": f"models/{name}",
                "tokenizer_fingerprint": "synthetic",
                "vocab_size": VOCABULARY,
                "n_parameters": 8_000_000_000 if "teacher" in name else 1_700_000_000,
                "parent_policy_id": policy_id(made[name][0]) if name in made else None,
                "run_id": made[name][1] if name in made else None,
                "update": 100 if name in made else None,
                "created_at": NOW,
            }
            for name in POLICIES
        ]
        table = pa.Table.from_pylist(rows, schema=TABLES["policies"].schema)
        self.store.commit({"policies": table}, fresh=True)

    def chunk(self, run: Run, numbers: NDArray[np.int64]) -> None:
        """Rollouts of a run, their rewards and the part's top-k."""
        n = len(numbers)
        lengths = np.clip(
            self.rng.gamma(2.0, self.mean_tokens / 2, n).astype(np.int64), 4, self.most_tokens
        )
        total = int(lengths.sum())
        tokens = self.rng.integers(0, VOCABULARY, total, dtype=np.int32)
        logprobs = -self.rng.exponential(0.4, total).astype(np.float32)
        prompt_lengths = self.rng.integers(40, 120, n)
        prompt_tokens = self.rng.integers(0, VOCABULARY, prompt_lengths.sum(), dtype=np.int32)
        rollout_ids = hex_ids("rollout", numbers)
        right = self.rng.random(n) < run.pass_rate
        answers = np.where(right, numbers // GROUP % 100, 101).astype(str)
        texts = np.char.add(np.char.add("the answer is \\boxed{", answers), "}")
        same = {
            "role": run.role,
            "run_id": run.name,
            "origin": "sampled",
            "tokens_from": "sampled",
            "policy_id": policy_id(run.policy),
            "purpose": run.purpose,
            "round": 0,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "max_tokens": self.most_tokens,
            "engine": "vllm",
            "engine_version": "0",
        }
        columns = {
            "rollout_id": rollout_ids,
            "prompt_id": hex_ids("prompt", numbers // GROUP),
            "group_id": hex_ids(f"group-{run.name}", numbers // GROUP),
            "sample_index": pa.array((numbers % GROUP).astype(np.int32)),
            "seed": pa.array(numbers),
            "prompt_token_ids": lists(prompt_lengths, prompt_tokens),
            "response_token_ids": lists(lengths, tokens),
            "response_logprobs": lists(lengths, logprobs),
            "response_text": pa.array(texts),
            "finish_reason": pa.array(np.where(self.rng.random(n) < 0.98, "stop", "length")),
            "prompt_tokens": pa.array(prompt_lengths.astype(np.int32)),
            "response_tokens": pa.array(lengths.astype(np.int32)),
            "created_at": pa.repeat(self.time, n),
        }
        schema = TABLES["rollouts"].schema
        columns |= {name: repeat(v, n, schema.field(name).type) for name, v in same.items()}
        self.commit("rollouts", columns)
        self.commit(
            "rewards",
            {
                "rollout_id": rollout_ids,
                "verifier": repeat("math-verify", n),
                "verifier_version": repeat("0.9.0", n),
                "attempt": repeat(0, n, pa.int32()),
                "reward": pa.array(right.astype(np.float64)),
                "outcome": pa.array(np.where(right, "correct", "wrong")),
                "extracted": pa.array(answers),
                "detail": repeat("", n),
                "seconds": repeat(0.001, n, pa.float32()),
                "run_id": repeat("verify", n),
                "created_at": pa.repeat(self.time, n),
            },
        )
        chosen = np.flatnonzero(self.rng.random(n) < run.topk)
        # A few hundred rollouts at a time: top-k is what takes memory.
        for part in np.array_split(chosen, max(1, len(chosen) // 2_000)):
            if len(part):
                starts = np.cumsum(lengths) - lengths
                where = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in part])
                chosen_ids = rollout_ids.take(pa.array(part))
                self.topk(run, chosen_ids, lengths[part], tokens[where], logprobs[where])

    def topk(
        self,
        run: Run,
        rollout_ids: pa.Array,
        lengths: NDArray[np.int64],
        tokens: NDArray[np.int32],
        policy_logprobs: NDArray[np.float32],
    ) -> None:
        """The RL teacher's own top-k, the sampled token first in each row.

        On its own rollouts its scores are the logprobs kept at sampling, on a student's they are a
        little lower; the other entries share at most what probability is left.
        """
        total, k, n = len(tokens), self.k, len(rollout_ids)
        sampled = policy_logprobs
        if run.policy != "teacher-rl":
            sampled = sampled - self.rng.exponential(0.1, total).astype(np.float32)
        left = np.log(-np.expm1(sampled.astype(np.float64)) / k)
        gaps = np.cumsum(self.rng.exponential(0.6, (total, k - 1)), axis=1)
        others = np.minimum(sampled, left)[:, None] - gaps
        logprobs = np.concatenate([sampled[:, None], others.astype(np.float32)], axis=1)
        ids = (tokens[:, None] + np.arange(k, dtype=np.int32)) % VOCABULARY
        self.commit(
            "topk",
            {
                "rollout_id": rollout_ids,
                "scorer_policy_id": repeat(policy_id("teacher-rl"), n),
                "support": repeat("own", n),
                "k": repeat(k, n, pa.int32()),
                "token_ids": lists(lengths * k, ids.reshape(-1)),
                "logprobs": lists(lengths * k, logprobs.reshape(-1)),
                "sampled_logprobs": lists(lengths, sampled),
                "run_id": repeat(run.name if run.policy == "teacher-rl" else "score", n),
                "created_at": pa.repeat(self.time, n),
            },
        )

    def training(self, run: str, before: str, after: str, kind: str, source: str) -> None:
        """A locked dataset's rows (one per rollout of its source), updates, and the run."""
        rows = self.store.sql(
            "SELECT rollout_id, prompt_id, prompt_tokens, response_tokens FROM rollouts "
            "WHERE run_id = $run",
            {"run": source},
        ).to_arrow_table()
        n, dataset = rows.num_rows, f"dataset-{run}"
        updates = (np.arange(n) // ROWS_PER_UPDATE + 1).astype(np.int32)
        labelled = kind in ("grpo", "warmup")
        lock = {"name": dataset, "kind": kind, "query": kind, "dataset_id": dataset}
        self.commit(
            "datasets",
            {
                "dataset_id": pa.array([dataset]),
                "name": pa.array([dataset]),
                "query": pa.array([kind]),
                "fingerprint": pa.array(["synthetic"]),
                "lock": pa.array([json.dumps(lock)]),
                "created_at": pa.repeat(self.time, 1),
            },
        )
        self.commit(
            "dataset_rows",
            {
                "dataset_id": repeat(dataset, n),
                "row": pa.array(np.arange(n)),
                "update": pa.array(updates),
                "rollout_id": rows.column("rollout_id"),
                "prompt_id": rows.column("prompt_id"),
                "labelled": repeat(labelled, n),
            },
        )
        sizes = np.bincount(updates)[1:]
        sums = [
            np.bincount(updates, weights=rows.column(c).to_numpy())[1:].astype(np.int64)
            for c in ("prompt_tokens", "response_tokens")
        ]
        count = len(sizes)
        figures = dict.fromkeys(("loss", "kl", "entropy", "topk_mass", "grad_norm", "lr"), 0.5)
        self.commit(
            "updates",
            {
                "run_id": repeat(run, count),
                "update": pa.array(np.arange(1, count + 1, dtype=np.int32)),
                "dataset_id": repeat(dataset, count),
                "rows": pa.array(sizes.astype(np.int32)),
                "prompt_tokens": pa.array(sums[0]),
                "response_tokens": pa.array(sums[1]),
                "trained_tokens": pa.array(sums[1]),
                "label_visits": pa.array((sizes // GROUP * labelled).astype(np.int32)),
                "labels": pa.array((sizes // GROUP * labelled).astype(np.int32)),
                "clip_fraction": pa.nulls(count, pa.float64()),
                "seconds": repeat(1.0, count),
                **{name: repeat(value, count) for name, value in figures.items()},
            },
        )
        self.record_run(run, "train", kind, [dataset])

    def record_run(self, run: str, kind: str, stage: str, parents: list[str]) -> None:
        """A finished run."""
        row = {
            "run_id": run,
            "kind": kind,
            "stage": stage,
            "attempt": 0,
            "status": "done",
            "config": "{}",
            "code_version": "synthetic",
            "parents": parents,
            "entered_at": NOW,
        }
        table = pa.Table.from_pylist([row], schema=TABLES["runs"].schema)
        self.store.commit({"runs": table}, fresh=True)

    def commit(self, name: str, columns: dict[str, pa.Array]) -> None:
        """Append rows of one table."""
        self.store.commit({name: pa.table(columns)}, fresh=True)


def main() -> None:
    """Build a store and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--mean-tokens", type=int, default=100)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.perf_counter()
    Builder(args.store, args.rollouts, args.mean_tokens, args.k, args.seed).build()
    size = sum(file.stat().st_size for file in args.store.rglob("*.parquet"))
    seconds = time.perf_counter() - began
    print(f"{args.store}: {args.rollouts:,} rollouts, {size / 1e6:,.0f} MB, {seconds:.0f} s")


if __name__ == "__main__":
    main()
