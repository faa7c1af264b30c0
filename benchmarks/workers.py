"""What sharing the work costs: workers, Ray, a server, and many writers, each against one process.

    python -m benchmarks.workers                          # a tiny random model, on a CPU
    python -m benchmarks.workers --model FOLDER --only server --in-flight 256

- workers: `--workers 1`, 2 and 4 against the engine in this process, tokens per second. Each has
  one thread, so that a worker more is a core more.
- ray: as many Ray actors as local workers, in turn.
- server: vLLM's OpenAI server behind engine `server` against the same vLLM in this process.
- commits: n processes that each commit as a shard does, against one that commits all of it.

Ratios are of medians of runs in turn: a drift of the machine's speed cancels.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.writers import WRITTEN, rows
from s2d_store.engines.base import Engine, SampleRequest, SamplingParams
from s2d_store.engines.cache import open_once
from s2d_store.schema import TABLES
from s2d_store.store import Store

PORT = 18_460
Timed = Mapping[str, Callable[[], float]]


def requests(n: int) -> list[SampleRequest]:
    """Prompts of 16 tokens that every vocabulary has."""
    return [SampleRequest(f"r{i}", [5 + (i + j) % 60 for j in range(16)], i) for i in range(n)]


def tokens_per_second(engine: Engine, asked: list[SampleRequest], max_tokens: int) -> float:
    """Sample every request once."""
    began, tokens = time.perf_counter(), 0
    for sample in engine.sample(asked, SamplingParams(max_tokens=max_tokens), 0):
        tokens += sample.n_tokens
    return tokens / (time.perf_counter() - began)


def in_turn(timed: Timed, repeats: int) -> dict[str, float]:
    """The median of each, forwards and backwards in turn; each has run once before."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for run in timed.values():
        run()
    for repeat in range(repeats):
        names = list(timed) if repeat % 2 == 0 else [*timed][::-1]
        for name in names:
            found[name].append(timed[name]())
    return {name: statistics.median(values) for name, values in found.items()}


def measure_engines(
    model: Path, kinds: Mapping[str, str], args: argparse.Namespace
) -> dict[str, float]:
    """Tokens per second of the transformers engine with each kind of `--workers`."""
    asked, found = requests(args.rollouts), dict[str, float]()
    for name, workers in kinds.items():
        # One after another: workers that only wait still hold memory, and Ray polls.
        with open_once("transformers", str(model), device="cpu", workers=workers) as engine:
            run = {name: lambda e=engine: tokens_per_second(e, asked, args.max_tokens)}
            found |= in_turn(run, args.repeats)
    return found


@contextmanager
def vllm_server(model: Path, port: int) -> Iterator[str]:
    """VLLM's OpenAI server, until the block ends."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--max-model-len", "512", "--gpu-memory-utilization", "0.1"]
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1"}
    process = subprocess.Popen(
        command, env=os.environ | quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait()


def measure_server(model: Path, args: argparse.Namespace) -> dict[str, float]:
    """Tokens per second of vLLM in this process, and behind HTTP, one loaded at a time."""
    asked, found = requests(args.rollouts), dict[str, float]()
    with vllm_server(model, PORT) as url:
        given = {"in_flight": args.in_flight}
        with open_once("server", str(model), url=url, engine_args=given) as engine:
            run = {"server": lambda: tokens_per_second(engine, asked, args.max_tokens)}
            found |= in_turn(run, args.repeats)
    with open_once("vllm", str(model), max_model_len=512, dtype="float32") as engine:
        run = {"in process": lambda: tokens_per_second(engine, asked, args.max_tokens)}
        found |= in_turn(run, args.repeats)
    return found


def commit(root: Path, writer: str, commits: int) -> None:
    """One process's commits of rollouts, rewards and top-k."""
    store = Store.open(root)
    for number in range(commits):
        made = {name: rows(TABLES[name], writer, number) for name in WRITTEN}
        store.commit(made, fresh=True)


def measure_commits(writers: int, commits: int) -> dict[str, float]:
    """Commits per second of one process, and of many that share as many commits."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["s2d_store.store"])
    found = {}
    for name, n, each in (("one writer", 1, commits), ("writers", writers, commits // writers)):
        with tempfile.TemporaryDirectory(prefix="s2d-commits-") as folder:
            root = Store.init(Path(folder) / "store").root
            began = time.perf_counter()
            processes = [
                context.Process(target=commit, args=(root, f"w{i}", each)) for i in range(n)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            seconds = time.perf_counter() - began
            assert all(process.exitcode == 0 for process in processes), "a writer failed"
            stored = Store.open(root).sql("SELECT count(DISTINCT rollout_id) FROM rollouts")
            assert stored.fetchall() == [(n * each * 4,)], "rows were lost"
            found[name] = n * each / seconds
    return found


def show(title: str, found: Mapping[str, float], unit: str, base: str) -> None:
    """Figures of one measurement, as ratios to the first."""
    print(title)
    for name, value in found.items():
        print(f"  {name:<12}{value:12.1f} {unit}   x {value / found[base]:.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="default: a tiny random one")
    parser.add_argument("--only", nargs="*", default=["workers", "ray", "server", "commits"])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rollouts", type=int, default=512)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--commits", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    report: dict[str, Any] = {"load": os.getloadavg(), "cores": len(os.sched_getaffinity(0))}
    print(f"{report['cores']} cores, load {report['load'][0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="s2d-workers-") as folder:
        model = args.model or (_tiny(Path(folder)) if args.only != ["commits"] else Path(folder))
        if "workers" in args.only:
            kinds = {"in process": ""} | {f"workers {n}": str(n) for n in args.workers}
            report["workers"] = measure_engines(model, kinds, args)
            show("local workers", report["workers"], "tokens/s", "in process")
        if "ray" in args.only:
            most = max(args.workers[:2])
            kinds = {f"workers {most}": str(most), f"ray:{most}": f"ray:{most}"}
            report["ray"] = measure_engines(model, kinds, args)
            show("Ray", report["ray"], "tokens/s", f"workers {most}")
        if "server" in args.only:
            report["server"] = measure_server(model, args)
            show(f"server, {args.in_flight} in flight", report["server"], "tokens/s", "in process")
    if "commits" in args.only:
        report["commits"] = measure_commits(args.writers, args.commits)
        show(f"commits, {args.writers} writers", report["commits"], "commits/s", "one writer")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


def _tiny(folder: Path) -> Path:
    from tests.support.tiny_models import save_tiny_model

    return save_tiny_model(folder / "tiny", seed=3, layers=2, head_dim=64)


if __name__ == "__main__":
    main()
