"""The pool with math-verify under attack: each class of tests/support/hostile_answers.py.

Every answer is graded once; the script fails when one is lost or given twice, took longer than the
deadline and the slack, when one is graded correct, when the workers' memory passes its bound, when
a process is left over, or when ordinary answers cost more CPU after the attack than before.

    python -m benchmarks.verifier_attack --answers 10000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import starmap
from pathlib import Path
from zlib import crc32

from benchmarks.verifier import Speed, ordinary_items, pooled
from s2d_store.verifiers.base import OUTCOMES, Item
from s2d_store.verifiers.pool import VerifierPool
from tests.support.hostile_answers import CLASSES, GOLD, MONSTERS, drawn

SHARES = {
    "megabyte": 0.01,
    "towers": 0.02,
    "factorials": 0.02,
    "nested": 0.03,
    "sums": 0.03,
    "equations": 0.05,
    "lists": 0.06,
    "digits": 0.06,
    "runs": 0.06,
}
"""Of all answers; the other classes, of which few run into the deadline, share the rest alike."""
MEMORY_BYTES = 1 << 30
SLACK_S = 1.0
"""What the machine's other work may hold the pool's own threads up for."""
PROBES = 5
MOST_CPU_AFTER = 1.25


def attack(count: int, seed: int) -> list[tuple[str, str, str]]:
    """(key, response, gold) items; a key starts with the class, the classes are interleaved."""
    rest = (1 - sum(SHARES.values())) / (len(CLASSES) - len(SHARES))
    found = [(f"monsters/{name}", text) for name, text in MONSTERS.items()]
    for kind in sorted(CLASSES, key=lambda kind: kind not in SHARES):
        texts = drawn(kind, math.ceil(count * SHARES.get(kind, rest)), seed)
        found += [(f"{kind}/{at}", text) for at, text in enumerate(texts)]
    found = sorted(found[:count], key=lambda item: crc32(item[0].encode()))
    return [(key, text, GOLD) for key, text in found]


@contextmanager
def watched(pool: VerifierPool) -> Iterator[dict[str, int]]:
    """The most memory, in bytes, that the workers held together and that one held."""
    peak = {"all": 0, "one": 0}
    done = threading.Event()

    def watch() -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not done.wait(0.05):
            held = []
            for pid in pool.pids():
                with suppress(FileNotFoundError, ProcessLookupError):
                    held.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page)
            peak["all"] = max(peak["all"], sum(held))
            peak["one"] = max(peak["one"], *held, 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def probe(pool: VerifierPool) -> list[Speed]:
    """Ordinary answers, several times."""
    items = ordinary_items(100)
    pooled(pool, items)
    return [pooled(pool, items) for _ in range(PROBES)]


def main() -> None:
    """Attack, print the table of outcomes, check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()

    items = attack(args.answers, args.seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    times: Counter[str] = Counter()
    longest, correct = 0.0, []
    with VerifierPool("math-verify", args.workers, args.deadline, MEMORY_BYTES) as pool:
        before = probe(pool)
        began = time.perf_counter()
        with watched(pool) as peak:
            for key, verdict, seconds in pool.grade_many(starmap(Item, items)):
                times[key] += 1
                outcomes[key.partition("/")[0], verdict.outcome] += 1
                longest = max(longest, seconds)
                correct += [key] if verdict.outcome == "correct" else []
                if times.total() % 500 == 0:
                    print(f"{times.total()} of {len(items)}", file=sys.stderr, flush=True)
        wall = time.perf_counter() - began
        after = probe(pool)
        alive = len(pool.pids())

    show(outcomes)
    speeds = [[statistics.median(s.items_s for s in runs) for runs in (before, after)]]
    speeds += [[statistics.median(s.cpu_ms for s in runs) for runs in (before, after)]]
    print(f"{len(items)} answers in {wall:.0f} s, load {os.getloadavg()[0]:.1f}")
    print(f"longest {longest:.2f} s of {args.deadline:g} s")
    print(f"workers' memory: {peak['one'] >> 20} MiB one, {peak['all'] >> 20} MiB all")
    print(f"ordinary answers/s {speeds[0][0]:.0f} before, {speeds[0][1]:.0f} after")
    print(f"CPU ms an answer {speeds[1][0]:.2f} before, {speeds[1][1]:.2f} after")
    if args.json:
        figures = {
            "answers": len(items),
            "seconds": wall,
            "longest_s": longest,
            "deadline_s": args.deadline,
            "worker_mib": peak["one"] >> 20,
            "cpu_ms_before": speeds[1][0],
            "cpu_ms_after": speeds[1][1],
            "outcomes": {
                what: sum(n for (_, found), n in outcomes.items() if found == what)
                for what in OUTCOMES
            },
        }
        args.json.write_text(json.dumps(figures))
    assert times == Counter(key for key, _, _ in items), "an answer was lost or given twice"
    assert not correct, f"graded correct: {correct}"
    assert longest <= args.deadline + SLACK_S, "an answer was held beyond the deadline"
    assert peak["one"] <= MEMORY_BYTES, "a worker outgrew its memory"
    assert alive == args.workers, "a worker is missing"
    assert speeds[1][1] <= MOST_CPU_AFTER * speeds[1][0], "ordinary answers cost more than before"
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        raise AssertionError("a process is left over")


def show(outcomes: Counter[tuple[str, str]]) -> None:
    """One row per class and one for all, one column an outcome."""
    print("| class | answers | " + " | ".join(OUTCOMES) + " |")
    print("| --- " * (len(OUTCOMES) + 2) + "|")
    for kind in ["monsters", *CLASSES, "all"]:
        row = [
            sum(n for (of, what), n in outcomes.items() if kind in (of, "all") and what == outcome)
            for outcome in OUTCOMES
        ]
        print(f"| {kind} | {sum(row):,} | " + " | ".join(f"{n:,}" for n in row) + " |")


if __name__ == "__main__":
    main()
