"""Eight processes append to one store while another compacts it and a third reads it.

    python -m benchmarks.writers --writers 8 --commits 100

Each commit holds rollouts, rewards and top-k. A commit to a table is retried when another writer
has taken its version between the look and the write.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.maintenance.compact import compact
from s2d_store.schema import TABLES, Table, without_encoding
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.tables import delta_commit

ROWS = 4
TOKENS = 32
K = 20
WRITTEN = ("rollouts", "rewards", "topk")


def rows(declared: Table, writer: str, number: int) -> pa.Table:
    """ROWS rows of one commit; what is no key is the same everywhere."""
    declared = without_encoding(declared)
    by_type: dict[pa.DataType, Any] = {
        pa.string(): writer,
        pa.timestamp("us", tz="UTC"): datetime.now(UTC),
        pa.list_(pa.int32()): list(range(TOKENS)),
        pa.list_(pa.float32()): [-0.5] * TOKENS,
    }
    usual = {c.name: by_type.get(c.type, 1) for c in declared.columns if not c.nullable}
    if declared.name == "topk":
        usual |= {"token_ids": list(range(TOKENS * K)), "logprobs": [-3.0] * TOKENS * K, "k": K}
        usual["scorer_policy_id"] = "teacher"
    if declared.name == "rewards":
        usual["verifier"] = "math-verify"
    ids = [f"{writer}-{number}-{i}" for i in range(ROWS)]
    return pa.Table.from_pylist([usual | {"rollout_id": i} for i in ids], schema=declared.schema)


class Watched:
    """Notes how often a commit to a table found its version taken."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self._append, self._commit = delta_commit.append, delta_commit.commit
        delta_commit.append, delta_commit.commit = self.append, self.commit  # type: ignore[assignment]

    def append(self, *arguments: Any) -> int:
        """As usual."""
        self.attempts.append(0)
        return self._append(*arguments)

    def commit(self, *arguments: Any) -> bool:
        """As usual."""
        self.attempts[-1] += 1
        return self._commit(*arguments)


def write(root: Path, writer: str, commits: int, notes: Path) -> None:
    """One writer's process."""
    watched = Watched()
    store = Store.open(root)
    seconds = []
    for number in range(commits):
        made = {name: rows(TABLES[name], writer, number) for name in WRITTEN}
        began = time.perf_counter()
        store.commit(made, fresh=True)
        seconds.append(time.perf_counter() - began)
    notes.write_text(json.dumps({"attempts": watched.attempts, "seconds": seconds}))


def compact_until(root: Path, stop: Event, replaced: Synchronized[int]) -> None:
    """The compaction's process."""
    store = Store.open(root)
    while not stop.wait(1.0):
        replaced.value += sum(table.files for table in compact(store))


def faulty(store: Store) -> int:
    """Rows of one snapshot that are not whole or stand twice."""
    con = connection.connect_raw(store.root, store.snapshot().files)
    con.execute("USE raw")
    texts = [f"FROM rollouts ANTI JOIN {name} USING (rollout_id)" for name in WRITTEN[1:]]
    texts += [f"SELECT rollout_id FROM {n} GROUP BY 1 HAVING count(*) > 1" for n in WRITTEN]
    texts += [
        "SELECT regexp_replace(rollout_id, '-[0-9]+$', '') FROM rollouts "
        f"GROUP BY 1 HAVING count(*) <> {ROWS}"
    ]
    return sum(len(con.sql(text).fetchall()) for text in texts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["s2d_store.maintenance.compact"])
    with tempfile.TemporaryDirectory(prefix="s2d-writers-") as folder:
        store = Store.init(Path(folder) / "store")
        stop, replaced = context.Event(), context.Value("q", 0)
        notes = [Path(folder) / f"w{i}.json" for i in range(args.writers)]
        processes = [
            context.Process(target=write, args=(store.root, path.stem, args.commits, path))
            for path in notes
        ]
        compactor = context.Process(target=compact_until, args=(store.root, stop, replaced))
        began = time.perf_counter()
        for process in (compactor, *processes):
            process.start()
        reads = faults = 0
        while any(process.is_alive() for process in processes):
            faults += faulty(store)
            reads += 1
            time.sleep(0.5)
        seconds = time.perf_counter() - began
        stop.set()
        for process in (compactor, *processes):
            process.join()
        faults += faulty(store)
        tries = [n for path in notes for n in json.loads(path.read_text())["attempts"]]
        total = args.writers * args.commits
        stored = store.sql("SELECT count(*) FROM rollouts").fetchall()[0][0]
        failed = sum(process.exitcode != 0 for process in (compactor, *processes))
    report = {
        "commits": total,
        "seconds": seconds,
        "commits_per_s": total / seconds,
        "rows": stored,
        "rows_expected": total * ROWS,
        "failed_processes": failed,
        "snapshots_read": reads + 1,
        "faulty_rows": faults,
        "table_commits": len(tries),
        "retried": sum(n > 1 for n in tries),
        "compacted_files": replaced.value,
    }
    print(f"{args.writers} writers x {args.commits} commits to {len(WRITTEN)} tables")
    print(f"{seconds:.1f} s, {total / seconds:.1f} commits/s, {failed} processes failed")
    print(f"{stored} rollouts of {total * ROWS}, {reads + 1} snapshots read, {faults} faults")
    print(f"{report['retried']} of {len(tries)} table commits retried, at most {max(tries)} tries")
    print(f"{replaced.value} files compacted meanwhile")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    assert (stored, failed, faults) == (total * ROWS, 0, 0), "rows were lost, doubled or torn"


if __name__ == "__main__":
    main()
