"""Throughput of `VerifierPool` against math-verify in as many processes of its own.

Every round measures, one after the other and on the same ordinary answers, math-verify's own
`parse` and `verify` in one process, then for each number of workers the same in that many
processes at once and the pool. On a shared machine only the ratios within a round mean something:
`of as many` compares the pool with math-verify run in as many processes at the same load, `of one
x n` with one process times the workers. `CPU ms` is what an answer costs in all processes, the
pool's parent included, and hardly depends on the load.

    python -m benchmarks.verifier --workers 1 2
    python -m benchmarks.verifier --workers 1 2 --prompts gsm8k_train.jsonl
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass
from itertools import islice, starmap
from multiprocessing.pool import Pool
from pathlib import Path
from random import Random

from s2d_store.verifiers import base
from s2d_store.verifiers.pool import VerifierPool

Item = tuple[str, str, str]
"""(key, response, gold answer)."""


@dataclass(frozen=True)
class Speed:
    """What some processes did together.

    Attributes:
        items_s: answers a second of wall-clock time.
        cpu_ms: CPU milliseconds an answer, of all processes.
    """

    items_s: float
    cpu_ms: float


def read_items(path: Path, limit: int) -> list[Item]:
    """One item a row: `answer` is the response, what follows its last `####` the gold answer."""
    with path.open(encoding="utf-8") as lines:
        answers = [str(json.loads(line)["answer"]) for line in islice(lines, limit)]
    return [
        (str(index), answer, answer.rpartition("####")[2].strip())
        for index, answer in enumerate(answers)
    ]


def ordinary_items(count: int, seed: int = 0) -> list[Item]:
    r"""Short solutions that end in `\boxed{...}`, three in four right, each gold once or twice."""
    random = Random(seed)
    items = []
    for index in range(count):
        gold, other = (_answer(random, index % 8) for _ in range(2))
        given = gold if random.random() < 0.75 else other
        steps = " ".join(
            f"Since ${random.randint(2, 99)}x + {random.randint(2, 99)} = y$, step {step} follows."
            for step in range(random.randint(2, 12))
        )
        items.append((str(index), rf"{steps} The answer is $\boxed{{{given}}}$.", gold))
    return items


def _answer(random: Random, kind: int) -> str:
    a, b, c = random.randint(2, 5000), random.randint(2, 99), random.randint(2, 9)
    return (
        str(a),
        rf"\frac{{{a}}}{{{b}}}",
        rf"{b}\sqrt{{{c}}}",
        f"({a}, {b})",
        rf"\{{{a}, {b}, {c}\}}",
        f"{c}x^2 + {b}x - {a}",
        rf"\left[{c}, {a}\right)",
        rf"\frac{{{b}\pi}}{{{c}}}",
    )[kind]


def as_it_comes(items: list[Item]) -> float:
    """CPU seconds that math-verify takes in this process, its timeouts off as in the pool."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    began = time.process_time()
    for _, response, gold in items:
        read = [parse(text, parsing_timeout=None) for text in (f"${gold}$", response)]
        verify(read[0], read[1], timeout_seconds=None)
    return time.process_time() - began


def processes(pool: Pool, items: list[Item], count: int) -> Speed:
    """math-verify as it comes in `count` processes, each with its share of the items."""
    began = time.perf_counter()
    cpu = pool.map(as_it_comes, [items[part::count] for part in range(count)], chunksize=1)
    return Speed(len(items) / (time.perf_counter() - began), 1000 * sum(cpu) / len(items))


def pooled(pool: VerifierPool, items: list[Item]) -> Speed:
    """The pool, warm; none of its workers is replaced on ordinary answers."""
    cpu = _cpu_s(pool)
    began = time.perf_counter()
    graded = sum(1 for _ in pool.grade_many(starmap(base.Item, items)))
    seconds = time.perf_counter() - began
    assert graded == len(items)
    return Speed(graded / seconds, 1000 * (_cpu_s(pool) - cpu) / graded)


def _cpu_s(pool: VerifierPool) -> float:
    """CPU seconds so far of this process and of the pool's workers, in nanosecond steps."""
    workers = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in pool.pids()]
    return time.process_time() + sum(map(int, workers)) / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=Path, help="JSONL with `answer`; default: made answers")
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7, help="median and range are printed")
    parser.add_argument("--json", type=Path, help="write every round here too")
    args = parser.parse_args()

    items = read_items(args.prompts, args.limit) if args.prompts else ordinary_items(args.limit)
    rounds = [measure(items, args.workers) for _ in range(args.rounds)]
    print(f"{len(items)} answers, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"one process of math-verify: {_spread([r[0].items_s for r in rounds], 0)} answers/s")
    for at, workers in enumerate(args.workers):
        rows = [(one, *pairs[at]) for one, pairs in rounds]
        print(f"{workers} workers:")
        print(f"  answers/s     {_spread([pool.items_s for _, _, pool in rows], 0)}")
        print(f"  of as many    {_spread([pool.items_s / own.items_s for _, own, pool in rows])}")
        over = [pool.items_s / (workers * one.items_s) for one, _, pool in rows]
        print(f"  of one x n    {_spread(over)}")
        print(f"  CPU ms, own   {_spread([own.cpu_ms for _, own, _ in rows])}")
        print(f"  CPU ms, pool  {_spread([pool.cpu_ms for _, _, pool in rows])}")
    if args.json:
        report = {"items": len(items), "workers": args.workers, "rounds": rounds}
        args.json.write_text(json.dumps(report, indent=2, default=vars) + "\n")


def measure(items: list[Item], workers: list[int]) -> tuple[Speed, list[tuple[Speed, Speed]]]:
    """One round: one process alone, and (as many processes, pool) for each number of workers."""
    context = multiprocessing.get_context("spawn")
    pairs = []
    with context.Pool(1) as single:
        processes(single, items[:64], 1)
        one = processes(single, items, 1)
    for count in workers:
        with context.Pool(count) as own, VerifierPool("math-verify", count) as pool:
            processes(own, items[: 64 * count], count)
            pooled(pool, items[: 64 * count])
            pairs.append((processes(own, items, count), pooled(pool, items)))
    return one, pairs


def _spread(values: list[float], digits: int = 2) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
