"""Run the suite, a process a benchmark, and write RESULTS.md with its pictures.

    python -m benchmarks.results                    # all of it, as `make bench`
    python -m benchmarks.results --only startup --output /tmp/page

A benchmark that fails or outlives its limit shows as failed; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import pictures
from benchmarks.findings import Report
from benchmarks.suite import SUITE, Benchmark

ROOT = Path(__file__).parent.parent
PACKAGES = ("pyarrow", "duckdb", "deltalake", "torch", "datasets", "math-verify")
# Benchmarks are of one thread unless they say otherwise; `datasets` looks nothing up.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Outcome:
    """What became of a benchmark: its figures, or why there are none.

    Attributes:
        report: None where it failed.
        failure: empty where it did not.
        load: work of the whole machine in the minute before it began, in running processes.
        seconds: that it took.
    """

    report: Report | None
    failure: str
    load: float
    seconds: float


def main() -> None:
    """Run, write the page; exits 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [benchmark.name for benchmark in SUITE]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="a folder")
    args = parser.parse_args()
    chosen = [benchmark for benchmark in SUITE if benchmark.name in args.only]
    about = list(machine())  # before a long run, in which the source may change
    outcomes = {benchmark.name: measured(benchmark) for benchmark in chosen}
    args.output.mkdir(parents=True, exist_ok=True)
    reports = {name: o.report for name, o in outcomes.items() if o.report is not None}
    drawn = pictures.draw(reports, args.output)
    (args.output / "RESULTS.md").write_text(page(about, chosen, outcomes, drawn))
    print(f"wrote {args.output / 'RESULTS.md'}")
    sys.exit(any(outcome.failure for outcome in outcomes.values()))


def measured(benchmark: Benchmark) -> Outcome:
    """Run a benchmark's commands, which print as they go."""
    load, began = os.getloadavg()[0], time.monotonic()
    report, failure = None, ""
    with tempfile.TemporaryDirectory(prefix="s2d-bench-") as scratch:
        target = Path(scratch) / "report.json"
        for command in benchmark.commands:
            print(f"== {command.split()[0]}", flush=True)
            arguments = [a.format(scratch=scratch, json=target) for a in command.split()]
            failure = run(arguments, began + benchmark.limit_s - time.monotonic())
            if failure:
                break
        else:
            report = json.loads(target.read_text())
    return Outcome(report, failure, load, time.monotonic() - began)


def run(arguments: list[str], limit_s: float) -> str:
    """Run Python with `-m` and these; what went wrong, empty where nothing did."""
    command = [sys.executable, "-m", *arguments]
    # A group of its own, so that what it started ends with it.
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | ENVIRONMENT, start_new_session=True
    )
    try:
        code = process.wait(max(limit_s, 1))
    except subprocess.TimeoutExpired:
        return "it outlived its time limit"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"exit status {code}" if code else ""


def machine() -> Iterator[str]:
    """Lines about the machine and what is installed."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"- {model}, {os.cpu_count()} cores, {memory:.0f} GiB of memory"
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    yield f"- Python {platform.python_version()}, {', '.join(versions)}"
    yield f"- s2d {commit()}"


def commit() -> str:
    """The commit of this source, and whether it was changed since but for the page itself."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!benchmarks/RESULTS.md", ":!*.svg")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "of no git repository"


def page(
    about: list[str],
    chosen: list[Benchmark],
    outcomes: Mapping[str, Outcome],
    drawn: Mapping[str, str],
) -> str:
    """The page's text; `drawn` gives a picture's file by benchmark."""
    lines = [
        "# Results",
        "",
        "<!-- Written by benchmarks/results.py: `make bench` makes it anew. -->",
        "",
        *about,
        *busy(outcomes),
        "",
        "s2d and its peer run side by side in one benchmark; **ratios count**, seconds are the",
        "machine's. *s2d is better by* is above 1 where s2d is faster, smaller or cheaper, below 1",
        "where the peer is. Medians; figures are rounded, ratios are not taken from rounded ones.",
        "[README.md](README.md) says how each is measured, with runs on real models.",
    ]
    for benchmark in chosen:
        outcome = outcomes[benchmark.name]
        lines += ["", f"## {benchmark.name}", "", benchmark.about]
        if outcome.report is None:
            lines += ["", f"**Failed**: {outcome.failure}, after {outcome.seconds:.0f} s."]
            continue
        lines += [*table(benchmark, outcome.report)]
        if benchmark.name in drawn:
            lines += ["", f"![{benchmark.name}]({drawn[benchmark.name]})"]
    return "\n".join(lines) + "\n"


def busy(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """What else the machine was doing; a benchmark leaves some load of its own to the next."""
    loads = [outcome.load for outcome in outcomes.values()]
    if loads and loads[0] > 0.5:
        yield (
            f"- **The machine was shared**: its load was {loads[0]:.1f} before the first benchmark "
            f"and {min(loads):.1f} to {max(loads):.1f} before each, on {os.cpu_count()} cores; "
            "even ratios scatter"
        )


def table(benchmark: Benchmark, report: Report) -> Iterator[str]:
    """A benchmark's table and notes."""
    rows = list(benchmark.rows(report))
    if rows:
        yield ""
        yield "| what | s2d | peer | | s2d is better by |"
        yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        ours, theirs = figure(row.ours), figure(row.theirs)
        yield f"| {row.what} | {ours} | {row.peer} | {theirs} | **{row.better:.2f}** |"
    for note in benchmark.notes(report):
        yield ""
        yield note


def figure(value: float) -> str:
    """A figure with three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
