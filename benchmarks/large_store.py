"""A store of 16 million tokens of mixed lengths up to 16k, k = 64, with 256 files open at most.

    make bench-scale                                   # then docs/scale.md is written anew
    python -m benchmarks.large_store --tokens 1000000  # a small one

Rollouts go through the driver of `s2d generate` (checks, encoding, Parquet, commits) from arrays
that are drawn like those of a real model (`ingest.drawn`); `benchmarks.ingest` has what reading
vLLM's objects costs on top. A warmup dataset is locked over all of them, by reference and with
copied rows, and read into packed batches. Each step is a process of its own under the same limit of
open files. Seconds are CPU seconds of all its threads unless they are called wall. Peak memory is
that of the process; `before` is what it held when its work began, libraries and made rows included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import queries
from benchmarks import results, scale
from benchmarks.ingest import VOCAB, MadeEngine, drawn
from benchmarks.read_batches import COLUMNS, peak_mib
from benchmarks.startup import MAIN, timed
from benchmarks.synthetic_store import GENERATE, GROUP, Builder, hex_ids, policy_id
from s2d_store import ids
from s2d_store.datasets import build as building
from s2d_store.datasets.open import open_dataset
from s2d_store.encoding.topk import TopK
from s2d_store.engines.base import Sample, SampleRequest
from s2d_store.policies.registry import Registered
from s2d_store.rollouts.generate import sample_and_store
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.rollouts.progress import Progress, ignore
from s2d_store.rollouts.requests import Job
from s2d_store.rollouts.selection import Prompt
from s2d_store.store import Store

LENGTHS = (256, 16_384)
RUN = GENERATE[1]
PROMPT_TOKENS = 100
POOL_TOKENS = 200_000
ROWS_PER_UPDATE = 64
BATCH_TOKENS = 32_768


class SlicedEngine(MadeEngine):
    """Each sample is a stretch of the drawn rows, from anywhere among them."""

    def __init__(self, lengths: dict[str, int], k: int, seed: int) -> None:
        self.lengths, self.rng = lengths, np.random.default_rng(seed)
        parts = [drawn(POOL_TOKENS // 20, k, self.rng) for _ in range(20)]
        self.ids_NW, self.logprobs_NW = map(np.concatenate, zip(*parts, strict=True))

    def sample(self, requests: Any, params: Any, top_logprobs: int) -> Iterator[Sample]:
        """One sample per request, of the length that belongs to it."""
        for request in requests:
            n_tokens = self.lengths[request.rollout_id]
            first = int(self.rng.integers(POOL_TOKENS - n_tokens))
            here = slice(first, first + n_tokens)
            sampled = self.logprobs_NW[here, 0].copy()
            topk = TopK(self.ids_NW[here, 1:], self.logprobs_NW[here, 1:], sampled)
            tokens = self.ids_NW[here, 0].copy()
            yield Sample(request.rollout_id, tokens, sampled, "length", topk)


def mixed_lengths(tokens: int, seed: int) -> list[int]:
    """Lengths whose logarithm is uniform, in whole groups, with about so many tokens in all."""
    low, high = np.log(LENGTHS)
    rng, lengths = np.random.default_rng(seed), list[int]()
    while sum(lengths) < tokens:
        lengths += np.exp(rng.uniform(low, high, GROUP)).astype(int).tolist()
    return lengths


def ingest(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Fill the store by way of the driver of `s2d generate`."""
    lengths = mixed_lengths(args.tokens, args.seed)
    builder = Builder(root, len(lengths), 0, args.k, args.seed)
    builder.prompts()
    builder.policies()
    builder.record_run(RUN.name, "generate", RUN.stage, [])
    policy = Registered(policy_id(RUN.policy), RUN.policy, "", "synthetic", 1)
    prompts = hex_ids("prompt", np.arange(len(lengths)) // GROUP).to_pylist()
    jobs = []
    for i, prompt in enumerate(prompts):
        rollout = ids.rollout_id(RUN.name, prompt, policy.policy_id, i % GROUP, 0)
        request = SampleRequest(rollout, [1] * PROMPT_TOKENS, i)
        jobs.append(Job(request, Prompt(prompt, [], None), i % GROUP))
    by_id = {job.request.rollout_id: n for job, n in zip(jobs, lengths, strict=True)}
    engine = SlicedEngine(by_id, args.k, args.seed)
    config = GenerateConfig(policy=RUN.policy, role="teacher", top_logprobs=args.k, batch_size=1)
    store, before = Store.open(root), peak_mib()
    wall, began = time.perf_counter(), time.process_time()
    sample_and_store(
        store, config, policy, RUN.name, engine, jobs, Progress(total=len(jobs)), ignore
    )
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    state = store.snapshot()
    sizes = {name: _bytes(map(Path, state.files[name])) for name in ("rollouts", "topk")}
    return {
        "rollouts": len(lengths),
        "tokens": sum(lengths),
        "seconds": seconds,
        "wall": wall,
        "before_mib": before,
        "peak_mib": peak_mib(),
        "files": len(state.files["topk"]),
        "commits": state.versions["topk"],
        "topk_bytes": sizes["topk"],
        "rollout_bytes": sizes["rollouts"],
        "log_bytes": _bytes((root / "tables").rglob("_delta_log/*")),
    }


def build(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Lock the warmup dataset by reference."""
    return _built(Store.open(root), args, "reference", copy_rows=False)


def copy(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Lock it again with copied rows; most bytes that its rows waited in on disk."""
    store = Store.open(root)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder, _watched(Path(folder)) as spilt:
        return _built(store, args, "copied", copy_rows=True, spill=Path(folder)) | {
            "spill_bytes": max(spilt)
        }


def _built(store: Store, args: argparse.Namespace, name: str, **how: Any) -> dict[str, float]:
    given = {
        "teacher": RUN.policy,
        "correct_only": "false",
        "finished_only": "false",
        "rows_per_update": str(ROWS_PER_UPDATE),
    }
    before, wall, began = peak_mib(), time.perf_counter(), time.process_time()
    lock = building.build(store, name, queries.catalog()["warmup"], given, args.seed, **how)
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    return {
        "rows": lock["counts"]["rows"],
        "tokens": lock["counts"]["response_tokens"],
        "seconds": seconds,
        "wall": wall,
        "before_mib": before,
        "peak_mib": peak_mib(),
        "bytes": _bytes((args.at / "datasets" / name).rglob("*")),
    }


def bare_copy(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Read the copied rows and write them again by pyarrow alone, with the same encodings."""
    folder = root / "datasets" / "copied"
    began = time.process_time()
    scale.copy_seconds(folder)
    return {
        "tokens": open_dataset(Store.open(root), "copied").lock.counts["response_tokens"],
        "seconds": time.process_time() - began,
    }


def read_reference(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Read the dataset whose rows lie in the store."""
    return _read(root, "reference")


def read_copied(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Read the dataset whose rows were copied."""
    return _read(root, "copied")


def _read(root: Path, name: str) -> dict[str, float]:
    from trainers.batches import micro_batches

    before, tokens, first = peak_mib(), 0, 0.0
    wall, began = time.perf_counter(), time.process_time()
    for rows in open_dataset(Store.open(root), name).updates(columns=COLUMNS[1:]):
        for batch in micro_batches(rows, BATCH_TOKENS, "packed"):
            tokens += len(batch.targets)
            first = first or time.process_time() - began
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    return {
        "tokens": tokens,
        "seconds": seconds,
        "wall": wall,
        "first_batch": first,
        "before_mib": before,
        "peak_mib": peak_mib(),
    }


def look_up(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Open the store, then look up single rollouts, again and again."""
    began = time.process_time()
    store = Store.open(root)
    store.snapshot()
    opened = time.process_time() - began
    found = store.sql("SELECT rollout_id FROM rollouts ORDER BY rollout_id LIMIT 21").fetchall()
    names = [name for (name,) in found]

    def each(read: Callable[[str], object]) -> float:
        seconds = []
        for name in names:
            start = time.process_time()
            read(name)
            seconds.append(time.process_time() - start)
        return median(seconds)

    where = "FROM {} WHERE rollout_id = $id"
    return {
        "open": opened,
        "files": len(store.snapshot().files["rollouts"]),
        "row": each(lambda name: store.sql(where.format("rollouts"), {"id": name}).fetchall()),
        "topk": each(
            lambda name: store.sql(
                f"SELECT token_ids {where.format('topk')}", {"id": name}
            ).to_arrow_table()
        ),
        "rollout": each(store.rollout),
    }


STEPS = {
    step.__name__: step
    for step in (ingest, build, copy, bare_copy, read_reference, read_copied, look_up)
}
# Whole commands, by what the page calls them.
COMMANDS = {
    "select_1": ("query", "SELECT 1"),
    "info": ("info",),
    "doctor": ("doctor",),
    "compact": ("compact",),
}


def _bytes(files: Any) -> int:
    return sum(path.stat().st_size for path in files if path.is_file())


@contextmanager
def _watched(folder: Path) -> Iterator[list[int]]:
    """Bytes below a folder, looked at ten times a second."""
    seen, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            try:
                seen.append(_bytes(folder.rglob("*")))
            except FileNotFoundError:  # a bucket was taken meanwhile
                continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def measure(root: Path, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run each step and command in a process of its own; figures by step."""
    figures: dict[str, dict[str, float]] = {}

    def run(step: str, called: str = "") -> None:
        command = [sys.executable, "-m", "benchmarks.large_store", "--step", step, "--at"]
        given = [str(root), "--tokens", str(args.tokens), "--k", str(args.k)]
        found = subprocess.run([*command, *given], check=True, stdout=subprocess.PIPE)
        figures[called or step] = json.loads(found.stdout)
        print(f"{called or step}: {figures[called or step]}", flush=True)

    for step in STEPS:
        run(step)
    for name, words in COMMANDS.items():
        command = [sys.executable, "-c", MAIN, *words, "--store", str(root)]
        wall, seconds = timed(command, results.ROOT)
        figures[name] = {"seconds": seconds, "wall": wall}
        print(f"{name}: {figures[name]}", flush=True)
    run("look_up", "look_up_compacted")
    return figures


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=16_000_000)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--open-files", type=int, default=256, help="most files open at once")
    parser.add_argument("--scratch", type=Path, help="where the store lies meanwhile")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        json.dump(STEPS[args.step](args.at, args), sys.stdout)
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (args.open_files, most))
    about = {
        "machine": list(results.machine()),
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).date().isoformat(),
        "open_files": args.open_files,
        "k": args.k,
        "vocabulary": VOCAB,
        "lengths": LENGTHS,
        "rows_per_update": ROWS_PER_UPDATE,
    }
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        report = {"about": about, "figures": measure(Path(scratch) / "store", args)}
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
