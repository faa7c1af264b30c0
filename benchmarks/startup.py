"""Time whole `s2d` processes, against Python itself, and list what they must not import.

    python -m benchmarks.startup
    python -m benchmarks.startup --files 3000 --before ../before

Small commands run on a store whose table of prompts has `--files` uncompacted files. Wall time is
that of the machine at the time; CPU time is the process's own, all threads. With `--before`, an
older checkout, both trees run in turn, with this Python and its packages.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
MAIN = "import sys; from cli.main import main; main()"
HELP = "import sys; sys.argv = ['s2d', '--help']; from cli.main import main; main()"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import typer, rich": [sys.executable, "-c", "import typer, rich.console"],
    "s2d --help": [sys.executable, "-c", HELP],
    "import s2d_store.store": [sys.executable, "-c", "import s2d_store.store"],
    "import torch": [sys.executable, "-c", "import torch"],
}
# On a store; the last words are `--store FOLDER`.
ON_A_STORE = (
    ("query", "SELECT 1"),
    ("query", "SELECT count(*) FROM policies"),
    ("info",),
    ("policies", "list"),
)
HEAVY = ("torch", "vllm", "transformers", "duckdb", "pyarrow", "polars")


def commands(store: Path) -> dict[str, list[str]]:
    """Processes to time, by name."""
    found = dict(COMMANDS)
    for words in ON_A_STORE:
        named = [sys.executable, "-c", MAIN, *words, "--store", str(store)]
        found["s2d " + " ".join(words)] = named
    return found


def make_store(folder: Path, files: int) -> None:
    """A store with as many files of prompts, a prompt each.

    They are committed without `prompts.add`, which compares with every stored prompt: its cost
    grows with the square of the files.
    """
    import pyarrow as pa

    from s2d_store.prompts.rows import PromptOptions, to_row
    from s2d_store.schema import TABLES
    from s2d_store.store import Store

    store, options = Store.init(folder), PromptOptions(source="made")
    for i in range(files):
        row = to_row(f"line {i}", {"question": f"{i} + {i}", "answer": str(2 * i)}, options)
        table = pa.Table.from_pylist([row], schema=TABLES["prompts"].schema)
        store.commit({"prompts": table}, fresh=True)


def timed(command: list[str], tree: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one process over a tree's code."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, cwd=tree)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(
    named: dict[str, list[str]], trees: list[Path], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Median wall and CPU seconds by command, a pair per tree; the first run does not count."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, command in named.items():
        runs: list[list[tuple[float, float]]] = [[] for _ in trees]
        for _ in range(repeats + 1):
            for tree, kept in zip(trees, runs, strict=True):
                kept.append(timed(command, tree))
        found[name] = [
            (statistics.median(w for w, _ in kept[1:]), statistics.median(c for _, c in kept[1:]))
            for kept in runs
        ]
    return found


def heavy_imports() -> list[str]:
    """Which of HEAVY `s2d --help` has loaded when it ends."""
    code = (
        "import sys, contextlib, io\n"
        "sys.argv = ['s2d', '--help']\n"
        "from cli.main import app\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    app()\n"
        f"print(','.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [name for name in done.stdout.strip().split(",") if name]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--files", type=int, default=100, help="of the store's prompts")
    parser.add_argument("--before", type=Path, help="a checkout of an older commit")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    trees = [TREE, *([args.before.resolve()] if args.before else [])]
    with tempfile.TemporaryDirectory(prefix="s2d-startup-") as scratch:
        store = Path(scratch) / "store"
        make_store(store, args.files)
        found = measure(commands(store), trees, args.repeats)
    head = "".join(f"{name:>10}" for name in ("seconds", "CPU s", "x python"))
    print(f"{'process':<42}{head}" + (f"{'before':>10}{'ratio':>8}" if args.before else ""))
    base = found["python -c pass"][0][1]
    for name, ((wall, cpu), *older) in found.items():
        line = f"{name:<42}{wall:>10.3f}{cpu:>10.3f}{cpu / base:>10.1f}"
        print(line + "".join(f"{old:>10.3f}{old / cpu:>8.2f}" for _, old in older))
    loaded = heavy_imports()
    print(f"s2d --help loads of {', '.join(HEAVY)}: {', '.join(loaded) or 'none'}")
    if args.json:
        report = {
            "seconds": {name: pairs[0][0] for name, pairs in found.items()},
            "cpu_seconds": {name: pairs[0][1] for name, pairs in found.items()},
            "heavy_imports": loaded,
            "files": args.files,
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
