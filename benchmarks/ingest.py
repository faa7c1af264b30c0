"""Ingest: vLLM's logprob objects to committed files, tokens per second of one core.

    python -m benchmarks.ingest --top-logprobs 64
    python -m benchmarks.ingest --top-logprobs 64 --alone --rollouts 2048     # peak of memory

No model and no vLLM: an engine that gives back made `FlatLogprobs` (lists of Python numbers, as
vLLM's) by way of `last_positions`, under the driver of `s2d generate`: checks, rows of rollouts and
topk, steps, Parquet, commits, the writer's thread. Only decoding text is left out, which is the
tokenizer's. Logits are rounded to bfloat16; sizes come out as those of a real model. Making
the objects is not timed. Seconds are CPU seconds of the process, all its threads together, on one
core to which it is bound. The peer takes turns with it: pyarrow alone writes the same lists, chunk
by chunk, with nothing checked, cut, aligned or committed (zstd, no dictionary). Other work on the
machine slows both by way of the caches, so the ratio is the steadier figure.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from s2d_store.engines.base import Sample, SampleRequest, SamplingParams
from s2d_store.engines.vllm_logprobs import last_positions
from s2d_store.policies.registry import Registered
from s2d_store.rollouts.generate import sample_and_store
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.rollouts.progress import Progress
from s2d_store.rollouts.requests import Job
from s2d_store.rollouts.selection import Prompt
from s2d_store.store import Store

VOCAB = 49_152


@dataclass
class Flat:
    """The lists of `vllm.logprobs.FlatLogprobs`."""

    start_indices: list[int] = field(default_factory=list)
    end_indices: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def drawn(
    n_tokens: int, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids and logprobs, (T, 1 + K): the sampled token first, then the k likeliest."""
    ids_TK = np.empty((n_tokens, k), np.int32)
    for ids_K in ids_TK:
        # About as even as real ones: 12.5 bits, of which the low byte has nearly 8.
        drawn = np.unique((rng.random(8 * k) ** 6 * VOCAB).astype(np.int32))
        ids_K[:] = rng.permutation(drawn)[:k]
    gaps_TK = rng.exponential(1.5, (n_tokens, k)) / np.arange(1, k + 1)
    gaps_TK[:, 0] = 0
    logits_TK = (rng.normal(22, 3, (n_tokens, 1)) - gaps_TK.cumsum(axis=1)).astype(np.float32)
    logits_TK = (logits_TK.view(np.int32) & np.int32(-1 << 16)).view(np.float32)
    top_T1 = logits_TK[:, :1]
    total_T1 = np.exp(logits_TK - top_T1).sum(axis=1, keepdims=True) * np.float32(1.05)
    logprobs_TK = (logits_TK - top_T1) - np.log(total_T1)
    rank_T = np.minimum(rng.geometric(0.7, n_tokens) - 1, k - 1)[:, None]
    return (
        np.concatenate([np.take_along_axis(ids_TK, rank_T, 1), ids_TK], axis=1),
        np.concatenate([np.take_along_axis(logprobs_TK, rank_T, 1), logprobs_TK], axis=1),
    )


def made(n_tokens: int, k: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], Flat]:
    """A response and its logprobs as vLLM gives them."""
    ids_TW, logprobs_TW = drawn(n_tokens, k, rng)
    starts = np.arange(n_tokens) * (k + 1)
    flat = Flat(
        starts.tolist(),
        (starts + k + 1).tolist(),
        ids_TW.reshape(-1).tolist(),
        logprobs_TW.reshape(-1).tolist(),
    )
    return ids_TW[:, 0].copy(), flat


class Tokenizer:
    """Decodes nothing."""

    def batch_decode(self, ids: Sequence[Any], **_: Any) -> list[str]:
        """An empty text each."""
        return [""] * len(ids)


class MadeEngine:
    """Returns the made objects again and again, as `VllmEngine` gives vLLM's."""

    name, version, vocab_size, max_model_len = "made", "0", VOCAB, 1 << 20
    tokenizer = Tokenizer()

    def __init__(self, pool: list[tuple[Any, Flat]]) -> None:
        self.pool = pool

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, top_logprobs: int
    ) -> Iterator[Sample]:
        """One sample a request."""
        for i, request in enumerate(requests):
            tokens, flat = self.pool[i % len(self.pool)]
            topk = last_positions(request.rollout_id, flat, tokens, top_logprobs)
            yield Sample(request.rollout_id, tokens, topk.sampled_logprobs, "length", topk)

    def score(self, requests: Any, k: int) -> Any:
        """Never called: this benchmark samples alone."""
        raise AssertionError(f"asked to score {requests!r} with k = {k}")

    def reload(self, location: str) -> bool:
        """There are no other weights."""
        return False

    def close(self) -> None:
        """Nothing is held."""


def ingest(store: Store, engine: MadeEngine, run: str, rollouts: int, args: Any) -> float:
    """Store that many rollouts; CPU seconds of the process."""
    config = GenerateConfig(
        policy="made",
        role="teacher",
        top_logprobs=args.top_logprobs,
        chunk_rows=args.chunk,
        batch_size=1,
    )
    policy = Registered("made", "made", "", "", 1)
    prompt = Prompt("prompt", [], None)
    jobs = [Job(SampleRequest(f"{run}-{i:08d}", [1] * 100, i), prompt, i) for i in range(rollouts)]
    began = time.process_time()
    sample_and_store(store, config, policy, run, engine, jobs, Progress(total=rollouts), _quiet)
    return time.process_time() - began


def bare(folder: Path, pool: list[tuple[Any, Flat]], rollouts: int, chunk: int) -> float:
    """The same lists by pyarrow alone, one file per chunk; CPU seconds of the process."""
    began = time.process_time()
    for first in range(0, rollouts, chunk):
        flats = [pool[i % len(pool)][1] for i in range(first, min(rollouts, first + chunk))]
        table = pa.table(
            {
                "token_ids": pa.array([f.token_ids for f in flats], pa.list_(pa.int32())),
                "logprobs": pa.array([f.logprobs for f in flats], pa.list_(pa.float32())),
            }
        )
        pq.write_table(table, folder / f"{first}.parquet", compression="zstd", use_dictionary=False)
    return time.process_time() - began


def _quiet(_: Progress) -> None:
    pass


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--top-logprobs", type=int, default=64)
    parser.add_argument("--response", type=int, default=512, help="tokens per rollout")
    parser.add_argument("--rollouts", type=int, default=512, help="rollouts a repeat")
    parser.add_argument("--chunk", type=int, default=256, help="rollouts per commit")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pool", type=int, default=64, help="different rollouts among them")
    parser.add_argument("--alone", action="store_true", help="no peer: for the peak of memory")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()

    pa.set_cpu_count(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    pool = [made(args.response, args.top_logprobs, rng) for _ in range(args.pool)]
    engine, tokens = MadeEngine(pool), args.rollouts * args.response
    seconds: dict[str, list[float]] = {"s2d": [], "bare": []}
    peaks = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        store = Store.init(Path(folder) / "store")
        ingest(store, engine, "warm", 32, args)
        for repeat in range(args.repeats):
            seconds["s2d"].append(ingest(store, engine, f"run-{repeat}", args.rollouts, args))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            if not args.alone:
                seconds["bare"].append(bare(Path(folder), pool, args.rollouts, args.chunk))
        files = store.snapshot().files["topk"]
        size = sum(os.path.getsize(f) for f in files)
        stored = tokens * args.repeats + 32 * args.response
        if args.profile:
            profile = cProfile.Profile()
            profile.runcall(ingest, store, engine, "profiled", args.rollouts, args)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(25)
    speeds = {name: [tokens / s for s in values] for name, values in seconds.items()}
    for name, found in ((name, values) for name, values in speeds.items() if values):
        print(
            f"k = {args.top_logprobs}, {name}: {median(found):,.0f} tokens per CPU s, median of "
            f"{args.repeats} ({min(found):,.0f} to {max(found):,.0f})"
        )
    ratios = [a / b for a, b in zip(*speeds.values(), strict=not args.alone)]
    if ratios:
        print(f"s2d / bare: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    memory = ", ".join(f"{peak:.0f}" for peak in peaks)
    print(
        f"{size / stored:.1f} bytes per token; peak memory {before:.0f} MiB before, then {memory}"
    )
    if args.json:
        report = {
            "k": args.top_logprobs,
            "tokens_per_cpu_s": speeds,
            "ratios": ratios,
            "peak_mib": peaks,
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
