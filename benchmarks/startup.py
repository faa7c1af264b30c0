"""Time `s2d --help` as a whole process, against Python itself, and list what it must not import.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HELP = "import sys; sys.argv = ['s2d', '--help']; from cli.main import main; main()"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import typer, rich": [sys.executable, "-c", "import typer, rich.console"],
    "s2d --help": [sys.executable, "-c", HELP],
    "import s2d_store.store": [sys.executable, "-c", "import s2d_store.store"],
    "import torch": [sys.executable, "-c", "import torch"],
}
HEAVY = ("torch", "vllm", "transformers", "duckdb", "pyarrow", "polars")


def median_seconds(command: list[str], repeats: int) -> float:
    """Median wall time of a whole process, after one run that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


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
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    seconds = {name: median_seconds(c, args.repeats) for name, c in COMMANDS.items()}
    base = seconds["python -c pass"]
    print(f"{'process':<26}{'seconds':>9}{'x python':>10}")
    for name, value in seconds.items():
        print(f"{name:<26}{value:>9.3f}{value / base:>10.1f}")
    loaded = heavy_imports()
    print(f"s2d --help loads of {', '.join(HEAVY)}: {', '.join(loaded) or 'none'}")
    if args.json:
        report = {"seconds": seconds, "heavy_imports": loaded}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
