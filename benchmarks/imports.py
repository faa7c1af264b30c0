"""`s2d import` beside a bare read of the same JSONL: rows per second, and the peak of memory.

    python -m benchmarks.imports                      # small rows of text, and rows with token ids
    python -m benchmarks.imports --alone 1000000      # peak of memory of one import of small rows

The bare reads parse and keep columns in memory: `pyarrow.json.read_json`, and DuckDB's
`read_json` into a table; Python's `json.loads`, line by line, keeps nothing. An import parses
too, and then checks, maps, hashes, writes Parquet and commits. They take turns in one run, each
with a warm file cache. Seconds are CPU seconds of the process, all its threads together: the
peers read on every core, and an import maps rows on one.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow.json

from s2d_store.importers.import_dump import import_dump
from s2d_store.importers.settings import ImportConfig
from s2d_store.store import Store

GROUP = 8


def small_rows(path: Path, n: int) -> None:
    """Rows as verl writes them: short texts and a score."""
    with path.open("w") as file:
        for i in range(n):
            asked = i // GROUP
            row: dict[str, object] = {
                "input": f"What is {asked} + {asked}?",
                "output": f"It is \\boxed{{{i}}}.",
            }
            row |= {"gts": str(2 * asked), "score": float(i % 2), "step": 1, "acc": bool(i % 2)}
            file.write(json.dumps(row) + "\n")


def token_rows(path: Path, n: int, tokens: int) -> None:
    """Rows as open-instruct writes them: ids and logprobs of a response."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for i in range(n):
            row = {"step": 1, "sample_idx": i, "prompt_idx": i // GROUP, "dataset": "made"}
            row |= {"prompt_tokens": rng.integers(0, 50_000, 100).tolist()}
            row |= {"response_tokens": rng.integers(0, 50_000, tokens).tolist()}
            row |= {"logprobs": (-rng.exponential(0.5, tokens)).tolist(), "ground_truth": "1"}
            row |= {"reward": 1.0, "advantage": 0.0, "finish_reason": "stop", "request_info": None}
            file.write(json.dumps(row) + "\n")


def imported(path: Path, form: str) -> None:
    """Import a file into a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.init(Path(folder) / "store")
        config = ImportConfig(format=form, paths=(str(path),), policy="made")
        done = import_dump(store, config)
        assert not done.rejects, "every row is one that can be held"


def with_pyarrow(path: Path) -> None:
    """Columns in memory."""
    assert pyarrow.json.read_json(path).num_rows


def with_duckdb(path: Path) -> None:
    """A table in memory."""
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS FROM read_json($path)", {"path": str(path)})
    assert con.execute("SELECT count(*) FROM t").fetchall() != [(0,)]


def with_json(path: Path) -> None:
    """Python objects, each dropped: what a reader that maps rows in Python costs at least."""
    with path.open("rb") as file:
        assert sum(len(json.loads(line)) for line in file)


def rows_per_second(read: Callable[[], None], n: int) -> float:
    """Rows per CPU second."""
    began = time.process_time()
    read()
    return n / (time.process_time() - began)


def compare(path: Path, form: str, n: int, rounds: int) -> dict[str, float]:
    """Rows per CPU second by reader, medians of turns."""
    readers: dict[str, Callable[[], None]] = {
        "import": lambda: imported(path, form),
        "pyarrow": lambda: with_pyarrow(path),
        "duckdb": lambda: with_duckdb(path),
        "json": lambda: with_json(path),
    }
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            speeds[name].append(rows_per_second(read, n))
    return {name: median(figures) for name, figures in speeds.items()}


def alone(n: int) -> dict[str, Any]:
    """Peak of memory, in MiB, before and after one import of small rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.jsonl"
        small_rows(path, n)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        imported(path, "verl")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": n, "before_mib": before, "peak_mib": after}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40_000, help="small rows")
    parser.add_argument("--token-rows", type=int, default=4_000)
    parser.add_argument("--tokens", type=int, default=1_000, help="of each response")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", type=int, default=0, metavar="ROWS", help="peak of memory alone")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    report: dict[str, Any] = {}
    if args.alone:
        report["alone"] = alone(args.alone)
        print(
            "{rows} rows: peak {peak_mib:.0f} MiB, {before_mib:.0f} before".format(
                **report["alone"]
            )
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            small, long = Path(folder) / "small.jsonl", Path(folder) / "tokens.jsonl"
            small_rows(small, args.rows)
            token_rows(long, args.token_rows, args.tokens)
            report["small"] = compare(small, "verl", args.rows, args.rounds)
            report["tokens"] = compare(long, "open-instruct", args.token_rows, args.rounds)
        for name, speeds in report.items():
            ours = speeds["import"]
            print(f"{name}: import {ours:,.0f} rows per CPU second", end="")
            for peer in ("pyarrow", "duckdb", "json"):
                print(f"; {ours / speeds[peer]:.3f} of {peer}'s {speeds[peer]:,.0f}", end="")
            print()
    if args.json:
        args.json.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
