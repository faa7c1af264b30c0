"""This tree beside an older checkout of it, in one run: ingest, commits, reading, builds, SQL.

    git worktree add ../before 89db3b5
    python -m benchmarks.before_after ../before --store-rollouts 20000

Each benchmark runs in both trees in turn, `--rounds` times, the order swapped every round; both use
this Python and its packages. Clocks are replaced by CPU time of the process, all threads together,
since other work on the machine would decide wall times. A figure's ratio is speed after over speed
before (above 1: faster now); its range is over the rounds. Figures that one tree lacks are left
out and counted. The synthetic store is made by each tree itself, from the same seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Runs a module with its clocks replaced by CPU time.
ON_CPU_TIME = """
import runpy, sys, time
time.perf_counter = time.monotonic = time.process_time
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
COMMANDS = {
    "ingest": "benchmarks.ingest --rollouts 128 --repeats 3 --json {json}",
    "commits": "benchmarks.commits --sizes 10 300 --repeats 20 --json {json}",
    "read": "benchmarks.read_batches --no-peers --updates 20 --json {json}",
    "scale": "benchmarks.scale {store} --repeats 3 --json {json}",
}
IS_SPEED = ("tokens_per",)
IS_TIME = ("ms", "seconds", "open", "commit", "look-up", "query", "first batch", "row group")


def run(tree: Path, arguments: list[str]) -> None:
    """Run a module of a tree on CPU time; what it prints is dropped unless it fails."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ON_CPU_TIME, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: {' '.join(arguments)} failed:\n{done.stderr}")


def leaves(found: object, path: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a JSON report, each with its path; a list of numbers is its median."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from leaves(value, f"{path}/{key}" if path else str(key))
    elif isinstance(found, list) and found and all(isinstance(v, int | float) for v in found):
        yield path, statistics.median(found)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield path, float(found)


def speed_ratio(name: str, before: float, after: float) -> float | None:
    """How many times as fast as before; None for a figure that is no speed and no time."""
    if not before or not after:
        return None
    if any(word in name for word in IS_SPEED):
        return after / before
    return before / after if any(word in name for word in IS_TIME) else None


def measure(
    trees: dict[str, Path], names: list[str], rollouts: int, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Figures by name and tree, one per round."""
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="s2d-before-after-") as scratch:
        stores = {label: Path(scratch) / label / "store" for label in trees}
        if "scale" in names:
            for label, tree in trees.items():
                stores[label].parent.mkdir()
                run(
                    tree,
                    ["benchmarks.synthetic_store", str(stores[label]), "--rollouts", str(rollouts)],
                )
        for turn in range(rounds):
            for name in names:
                for label in sorted(trees, reverse=bool(turn % 2)):
                    report = Path(scratch) / "report.json"
                    command = COMMANDS[name].format(json=report, store=stores[label])
                    run(trees[label], command.split())
                    for path, value in leaves(json.loads(report.read_text())):
                        found = figures.setdefault(f"{name}: {path}", {})
                        found.setdefault(label, []).append(value)
    return figures


def main() -> None:
    """Measure and print one table, slowest first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a checkout of the older commit")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--store-rollouts", type=int, default=20_000, help="of the synthetic store")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    trees = {"after": Path(__file__).resolve().parents[1], "before": args.before.resolve()}
    figures = measure(trees, args.only, args.store_rollouts, args.rounds)
    table, left_out = [], 0
    for name, by_tree in figures.items():
        if len(by_tree) < len(trees):
            left_out += 1
            continue
        pairs = zip(by_tree["before"], by_tree["after"], strict=True)
        ratios = [r for b, a in pairs if (r := speed_ratio(name, b, a)) is not None]
        if ratios:
            table.append((statistics.median(ratios), ratios, name))
    print(f"{'as fast as before':>17}  range over rounds   before      after       figure")
    for middle, ratios, name in sorted(table):
        before, after = (statistics.median(figures[name][tree]) for tree in ("before", "after"))
        span = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{middle:>17.2f}  {span:<18}  {before:<10.4g}  {after:<10.4g}  {name}")
    print(f"{left_out} figures stand in one tree alone")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
