"""CPU time of looking up one rollout among many uncompacted files, beside opening all of them.

    python -m benchmarks.look_up
    python -m benchmarks.look_up --files 200

Each commit stores `--rows` rollouts with rewards and top-k. Milliseconds of CPU, all threads,
medians over rollouts in one process whose snapshot is read already: `SELECT *` of one rollout by a
literal id, as `s2d query` and `Store.sql` run it; the same over every file, as they did before;
`Store.rollout`, which `s2d show` prints; and both in a store of one commit, which is what DuckDB
takes to open a database, bind views and run the statements.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.synthetic_store import GENERATE, Builder
from s2d_store.store import Store

RUN = replace(GENERATE[1], topk=1.0)
LOOKED_UP = 9


def make(root: Path, files: int, rows: int) -> Store:
    """A store of as many commits per table."""
    builder = Builder(root, files * rows, 30, 8, 0)
    builder.prompts()
    builder.policies()
    builder.record_run(RUN.name, "generate", RUN.stage, [])
    for i in range(files):
        builder.chunk(RUN, np.arange(i * rows, (i + 1) * rows))
    return builder.store


def milliseconds(names: list[str], read: Callable[[str], object]) -> float:
    """CPU time of a call, the median over rollouts; the first does not count."""
    found = []
    for name in names:
        began = time.process_time()
        read(name)
        found.append((time.process_time() - began) * 1e3)
    return median(found[1:])


def measure(store: Store) -> dict[str, float]:
    """By way of looking up."""
    ids = store.sql("SELECT rollout_id FROM rollouts ORDER BY rollout_id").fetchall()
    names = [name for (name,) in ids[: LOOKED_UP + 1]]
    text = "SELECT * FROM rollouts WHERE rollout_id = '{}'"

    def from_all_files(name: str) -> object:
        asked = text.format(name)
        return store.connect(text=asked).sql(asked).fetchall()

    return {
        "sql": milliseconds(names, lambda name: store.sql(text.format(name)).fetchall()),
        "sql, all files": milliseconds(names, from_all_files),
        "rollout": milliseconds(names, store.rollout),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000, help="of table rollouts")
    parser.add_argument("--rows", type=int, default=128, help="rollouts in each")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s2d-look-up-") as scratch:
        report = {
            "files": args.files,
            "many": measure(make(Path(scratch) / "many", args.files, args.rows)),
            "one": measure(make(Path(scratch) / "one", 1, args.rows)),
        }
    print(f"{'CPU ms':<18}{args.files:>8} files{'one file':>14}")
    for name, found in report["many"].items():
        print(f"{name:<18}{found:>14.1f}{report['one'][name]:>14.1f}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
