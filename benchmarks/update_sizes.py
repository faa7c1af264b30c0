"""What an update's size costs its reader: memory, the first batch, and CPU time beside pyarrow.

    python -m benchmarks.update_sizes --json sizes.json
    python -m benchmarks.update_sizes --k 20 --sizes 8x8192 256x8192

For each size (rows of an update x mean response tokens) a locked dataset of one update is written
with copied rows, and read into packed batches (`LockedDataset.updates`,
`trainers.batches.micro_batches`). A process of its own says how far its peak memory rises above
what the libraries hold, and after how many seconds of CPU and of wall time the first batch is
there; the dataset's rows take more memory than that by far. In another process, packed reading and
bare pyarrow (the same columns of every row group, nothing built) take turns: `of bare` is the
median of their ratios of CPU time, all threads counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.read_batches import (
    COLUMNS,
    large_parts,
    peak_mib,
    read_packed,
    read_parquet,
    write_locked,
)
from s2d_store.datasets.read import LockedDataset

SIZES = ("8x8192", "64x8192", "256x8192", "2048x256")
Figures = dict[str, float]


def read_once(folder: Path, args: argparse.Namespace) -> Figures:
    """Read the update once, in this process: seconds to the first batch, and peak memory."""
    from trainers.batches import micro_batches

    before, batches = peak_mib(), 0
    began, wall = time.process_time(), time.perf_counter()
    figures: Figures = {}
    for rows in LockedDataset.open(folder).updates(columns=COLUMNS[1:]):
        for _ in micro_batches(rows, args.max_tokens, "packed"):
            if not batches:
                figures["first_cpu_s"] = time.process_time() - began
                figures["first_wall_s"] = time.perf_counter() - wall
            batches += 1
    return figures | {"batches": batches, "before_mib": before, "peak_mib": peak_mib()}


def in_turns(folder: Path, args: argparse.Namespace) -> Figures:
    """Tokens per CPU second, packed and bare, and the median of their ratios within a turn."""
    speeds: dict[str, list[float]] = {"packed": [], "bare": []}
    for turn in range(args.repeats + 1):
        for name, found in speeds.items():
            began = time.process_time()
            read = read_parquet(folder) if name == "bare" else read_packed(folder, args.max_tokens)
            if turn:
                found.append(read / (time.process_time() - began))
    ratios = [ours / bare for ours, bare in zip(speeds["packed"], speeds["bare"], strict=True)]
    medians: Figures = {name: median(of_turns) for name, of_turns in speeds.items()}
    return medians | {"of_bare": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


STEPS = {"read_once": read_once, "in_turns": in_turns}


def measure(size: str, args: argparse.Namespace) -> Figures:
    """Write one dataset, and measure it in a process for each step."""
    n_rows, mean = map(int, size.split("x"))
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch) / "update"
        write_locked(large_parts(1, args.k, n_rows, args.seed, mean), folder)
        figures: Figures = {"rows": n_rows, "mean_tokens": mean}
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.update_sizes", "--step", step]
            given = ["--max-tokens", str(args.max_tokens), "--repeats", str(args.repeats)]
            done = subprocess.run(
                [*command, *given, "--at", str(folder)], check=True, stdout=subprocess.PIPE
            )
            figures |= json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="ROWSxTOKENS of an update")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=16_384, help="of a micro-batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="where the datasets lie meanwhile")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        import trainers.batches  # noqa: F401  (the libraries are no part of what reading adds)

        json.dump(STEPS[args.step](args.at, args), sys.stdout)
        return
    print(
        f"{'update':<12}{'MiB added':>10}{'first: CPU s':>14}{'wall s':>8}{'of bare':>9}  (range)"
    )
    found = []
    for size in args.sizes:
        figures = measure(size, args)
        added = figures["peak_mib"] - figures["before_mib"]
        print(
            f"{size:<12}{added:>10,.0f}{figures['first_cpu_s']:>14.2f}"
            f"{figures['first_wall_s']:>8.2f}{figures['of_bare']:>9.2f}"
            f"  ({figures['lowest']:.2f} to {figures['highest']:.2f})",
            flush=True,
        )
        found.append(figures)
    if args.json:
        report = {"k": args.k, "max_tokens": args.max_tokens, "sizes": found}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
