"""What a commit and opening a store cost after 10 to 5,000 small commits, and after a compaction.

    python -m benchmarks.commits

One table (`updates`), one row per commit, all by `Store.commit`. At each size, in one process, in
milliseconds: a commit of rows known to be new, also in CPU time, and one that looks its keys up; in
a copy, a commit by delta-rs's own transaction and an opening without checkpoints; the look-up in
every file, which is what noting no key ranges comes to; opening the table; a snapshot of the whole
store as a new process takes it; counting the rows in SQL; and the log's size. Then `compact`, the
same again, and the log after a vacuum.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties, Schema
from deltalake.transaction import AddAction

from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.schema import TABLES
from s2d_store.sql import new_rows
from s2d_store.store import Store
from s2d_store.tables import delta_commit, snapshot, table_state

SIZES = (10, 100, 1_000, 2_500, 5_000)
# A checkpoint and the commits up to the next.
COMMITS = 50
Figures = dict[str, float]


class Run:
    """Commits updates of one run after another into a store."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name, self.done = store, name, 0

    def commit(self, *, fresh: bool) -> None:
        """Store the next update."""
        self.done += 1
        row: dict[str, Any] = {"run_id": self.name, "update": self.done, "dataset_id": "d"}
        row |= dict.fromkeys(
            (
                "rows",
                "prompt_tokens",
                "response_tokens",
                "trained_tokens",
                "labels",
                "label_visits",
            ),
            1,
        )
        row |= dict.fromkeys(("loss", "grad_norm", "lr", "seconds"), 0.5)
        schema = TABLES["updates"].schema
        row = {name: row.get(name) for name in schema.names}
        self.store.commit({"updates": pa.Table.from_pylist([row], schema=schema)}, fresh=fresh)


def mean_ms(repeats: int, work: Callable[[], object]) -> float:
    """Mean wall milliseconds; a mean, since one commit in fifty pays for the checkpoint."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.mean(seconds)


def measure(store: Store, run: Run, repeats: int) -> Figures:
    """One row of the table, milliseconds; leaves some commits more."""
    folder = snapshot.table_path(store.root, "updates")

    def everything(*_: object) -> tuple[str, ...]:
        return snapshot.read(store.root).files["updates"]

    def fresh_snapshot() -> None:
        table_state.forget()  # as a new process would find it
        store.snapshot()

    def count() -> None:
        table_state.forget()
        store.sql("SELECT count(*) FROM updates").fetchall()

    cpu = time.process_time()
    figures = {
        "log MiB": log_mib(store),
        "commit": mean_ms(repeats, lambda: run.commit(fresh=True)),
        "commit CPU": 1e3 * (time.process_time() - cpu) / repeats,
        "look-up": mean_ms(repeats // 4, lambda: run.commit(fresh=False)),
        "open": mean_ms(9, lambda: DeltaTable(folder)),
        "snapshot": mean_ms(3, fresh_snapshot),
        "count": mean_ms(3, count),
    }
    with mock.patch.object(new_rows, "candidates", everything):
        figures["look-up in all"] = mean_ms(3, lambda: run.commit(fresh=False))
    return figures


def log_mib(store: Store) -> float:
    """Size of the table's log."""
    log = store.folder / "tables" / "updates" / "_delta_log"
    return sum(path.stat().st_size for path in log.iterdir()) / 2**20


def peers(store: Store, scratch: Path, repeats: int) -> Figures:
    """In a copy: a commit by delta-rs's own transaction, and an opening without checkpoints."""
    copy = Store(scratch / "copy")
    shutil.copytree(store.folder, copy.folder)
    run = Run(copy, "copy")
    with mock.patch.object(delta_commit, "append", delta_rs_append):
        commit = mean_ms(repeats, lambda: run.commit(fresh=True))
    log = copy.folder / "tables" / "updates" / "_delta_log"
    for path in (*log.glob("*.checkpoint.parquet"), log / "_last_checkpoint"):
        path.unlink(missing_ok=True)
    opened = mean_ms(3, lambda: DeltaTable(log.parent))
    shutil.rmtree(copy.folder)
    return {"delta-rs commit": commit, "bare open": opened}


def delta_rs_append(folder: Path, actions: list[delta_commit.Action], _: object) -> int:
    """What `delta_commit.append` does, and the checkpoint in turn, by delta-rs."""
    added = [action["add"] for action in actions]
    adds = [
        AddAction(
            add["path"],
            add["size"],
            add["partitionValues"],
            add["modificationTime"],
            True,
            add["stats"],
        )
        for add in added
    ]
    declared = TABLES[folder.name]
    table = DeltaTable(folder)
    table.create_write_transaction(
        adds,
        mode="append",
        schema=Schema.from_arrow(declared.schema),
        partition_by=list(declared.partition_by) or None,
        post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
    )
    return 1  # no turn: the checkpoint is made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--repeats", type=int, default=COMMITS)
    parser.add_argument("--seconds", type=float, default=3600, help="then grow no more")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    report: dict[str, Figures] = {}
    end = time.monotonic() + args.seconds
    with tempfile.TemporaryDirectory(prefix="s2d-commits-") as folder:
        store = Store.init(Path(folder) / "store")
        run = Run(store, "grown")
        for size in args.sizes:
            while run.done < size and time.monotonic() < end:
                run.commit(fresh=True)
            reached = f"{run.done:,}"
            report[reached] = peers(store, Path(folder), args.repeats)
            report[reached] |= measure(store, run, args.repeats)
            show(reached, report)
            if time.monotonic() > end:
                break
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        (done,) = compact(store, ["updates"])
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"compact: {done.files} files, {done.bytes} bytes -> {done.new_files}, ", end="")
        print(f"{done.new_bytes} bytes, {seconds:.1f} s, peak {before >> 10} -> {after >> 10} MiB")
        report["compacted"] = measure(store, run, args.repeats)
        show("compacted", report)
        vacuum(store, older_than_s=-1)
        report["vacuumed"] = {"log MiB": log_mib(store)}
        show("vacuumed", report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


def show(row: str, report: dict[str, Figures]) -> None:
    """Print one row."""
    figures = ", ".join(f"{name} {value:.1f}" for name, value in report[row].items())
    print(f"{row}: {figures}", flush=True)


if __name__ == "__main__":
    main()
