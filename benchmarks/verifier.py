"""Throughput of `VerifierPool` against math-verify called in one process, on ordinary answers.

Grades every prompt's gold answer as the response to itself, once by math-verify's own `parse` and
`verify` in this process and once by the pool, and prints items a second and the ratio to workers
times one process.

    python benchmarks/verifier.py --prompts gsm8k_train.jsonl --workers 1 2
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
from itertools import islice
from pathlib import Path

from s2d_store.verifiers.pool import VerifierPool

Item = tuple[str, str, str]


def read_items(path: Path, limit: int) -> list[Item]:
    """(key, response, gold) of each row: `answer` and what follows its last `####`, if any."""
    with path.open(encoding="utf-8") as lines:
        answers = [str(json.loads(line)["answer"]) for line in islice(lines, limit)]
    return [
        (str(index), answer, answer.rpartition("####")[2].strip())
        for index, answer in enumerate(answers)
    ]


def single_process(items: list[Item]) -> float:
    """Items a second of math-verify itself, its timeouts off as in the pool."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    parse("1", parsing_timeout=None)  # compiles its patterns
    began = time.perf_counter()
    for _, response, gold in items:
        read = [parse(text, parsing_timeout=None) for text in (gold, response)]
        verify(read[0], read[1], timeout_seconds=None)
    return len(items) / (time.perf_counter() - began)


def pooled(items: list[Item], workers: int) -> tuple[float, int]:
    """Items a second of the pool, and how many of them it graded correct."""
    with VerifierPool("math-verify", workers) as pool:
        for _ in pool.verify_many(items[:64]):
            pass
        began = time.perf_counter()
        correct = sum(verdict.outcome == "correct" for _, verdict, _ in pool.verify_many(items))
        return len(items) / (time.perf_counter() - began), correct


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=Path, required=True, help="JSONL with `answer`")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3, help="medians are reported")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()

    items = read_items(args.prompts, args.limit)
    base = statistics.median(single_process(items) for _ in range(args.repeats))
    rows = []
    print(f"{len(items)} items, {os.cpu_count()} cores")
    print(f"{'':12} {'items/s':>9} {'ratio':>6} {'correct':>8}")
    print(f"{'one process':12} {base:9.0f} {1:6.2f}")
    for workers in args.workers:
        runs = [pooled(items, workers) for _ in range(args.repeats)]
        speed, correct = statistics.median(run[0] for run in runs), runs[0][1]
        ratio = speed / (workers * base)
        rows.append({"workers": workers, "items_s": speed, "ratio": ratio, "correct": correct})
        print(f"{f'pool of {workers}':12} {speed:9.0f} {ratio:6.2f} {correct:8}")
    if args.json:
        report = {"items": len(items), "cores": os.cpu_count(), "one_process_items_s": base}
        args.json.write_text(json.dumps({**report, "pools": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
