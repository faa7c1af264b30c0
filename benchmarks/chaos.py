"""A storm over one store: writers are killed and stopped, files are compacted and vacuumed, others
read it, and bits flip; in the end every row is there once, and no change went unnoticed.

    make chaos                                          # two minutes
    python -m benchmarks.chaos --seconds 3600 --seed 7
    python -m benchmarks.chaos --s3                     # on a real S3 server on loopback

Writers commit rollouts, rewards and top-k, and note each commit once it returned. Meanwhile, drawn
by the seed: a writer is killed and started anew, or stopped for a while; a compaction or a vacuum
runs, and may be killed; delta-rs, polars and, where they are installed, daft and DuckDB's
delta_scan read the log and must see every noted row once; and on a copy of the store, taken with
all writers stopped, one bit of one file flips. Then either the doctor or a reader must say so, or
nothing that is read may differ: all tables by SQL, and a locked dataset as trainers read it.

On S3 (SeaweedFS) nothing flips, as no copy of a bucket is one moment's, and delta-rs and polars
alone read.

The last line counts: commits, faults put in, faults found (the others changed nothing that is
read), rows lost, rows doubled, silent changes. It exits 1 unless the last three are 0.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from s2d_store.storage.location import Place

WRITERS = ("w0", "w1", "w2")
# A process that is stopped longer than this is killed by the storm's end.
LONGEST_STOP_S = 2.0
READ_ATTEMPTS = 5
OTHERS = ("delta-rs", "polars", "duckdb", "daft")
_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOAD = ["s2d_store.maintenance.compact", "s2d_store.maintenance.vacuum"]


@dataclass
class Storm:
    """What was done to a store and what came of it.

    Attributes:
        root: the store, a folder or an S3 URL.
        notes: folder with a file per writer, a line per commit that returned.
        faults: faults put in, by kind.
        found: bit flips that the doctor or a reader told.
        lost, doubled, silent: in words, each with its circumstances.
    """

    root: Place
    notes: Path
    rng: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    found: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    writers: dict[str, BaseProcess] = field(default_factory=dict)

    def start_writer(self, name: str) -> None:
        """Start a writer, which goes on after its last note."""
        process = _CONTEXT.Process(target=write, args=(self.root, self.notes / name, name))
        process.start()
        self.writers[name] = process

    def noted(self) -> set[str]:
        """Rollouts of the commits that returned."""
        from tests.support import small_commits

        return {
            rollout_id
            for name in WRITERS
            for i in range(_lines(self.notes / name))
            for rollout_id in small_commits.rollout_ids(name, i, POLICY)
        }

    # What happens, one at a time.

    def kill(self) -> None:
        """A writer dies in the middle of whatever it does."""
        name = self.rng.choice(WRITERS)
        self.writers[name].kill()
        self.writers[name].join()
        self.faults["kill"] += 1
        self.start_writer(name)

    def stop(self) -> None:
        """A writer sleeps, as on a machine that swaps, and goes on."""
        pid = self.writers[self.rng.choice(WRITERS)].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0, LONGEST_STOP_S))
        os.kill(pid, signal.SIGCONT)
        self.faults["stop"] += 1

    def maintain(self) -> None:
        """Compact or vacuum, in a process that may be killed."""
        process = _CONTEXT.Process(target=self.rng.choice((compact, sweep)), args=(self.root,))
        process.start()
        if self.rng.random() < 0.4:
            process.join(self.rng.uniform(0, 1.0))
            process.kill()
            self.faults["kill of maintenance"] += 1
        process.join()

    def read(self) -> None:
        """Another Delta reader sees every row that was noted before it looked, once."""
        name = self.rng.choice(OTHERS)
        expected = self.noted()
        seen = patiently(name, self.root)
        if seen is not None:
            self.compare(expected, seen, name)

    def flip(self) -> None:
        """One bit of one file of a copy."""
        assert isinstance(self.root, Path)
        for process in self.writers.values():
            os.kill(process.pid or 0, signal.SIGSTOP)
        try:
            copy = self.root.with_name("flipped")
            shutil.copytree(self.root, copy)
        finally:
            for process in self.writers.values():
                os.kill(process.pid or 0, signal.SIGCONT)
        try:
            self.flip_in(copy)
        finally:
            shutil.rmtree(copy)

    def flip_in(self, copy: Path) -> None:
        """The same, in a copy that may be thrown away."""
        right = contents(copy)
        files = [p for p in sorted(copy.rglob("*")) if p.is_file() and p.stat().st_size]
        # By kind, then by file: there are many more data files than anything else.
        kinds: dict[str, list[Path]] = {}
        for path in files:
            kinds.setdefault(_kind(path.relative_to(copy)), []).append(path)
        path = self.rng.choice(kinds[self.rng.choice(sorted(kinds))])
        data = bytearray(path.read_bytes())
        place, bit = self.rng.randrange(len(data)), self.rng.randrange(8)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        self.faults["bit flip"] += 1
        if told_by_the_doctor(copy):
            self.found += 1
            return
        found = contents(copy)
        if found is None:
            self.found += 1
        elif found != right:
            self.silent.append(f"{path.relative_to(copy)}: bit {bit} of byte {place}")

    def compare(self, expected: set[str], seen: list[str], reader: str) -> None:
        """Note what a reader misses or sees twice."""
        lost = expected - set(seen)
        doubled = [key for key, times in Counter(seen).items() if times > 1]
        self.lost += [f"{key} is not seen by {reader}" for key in sorted(lost)]
        self.doubled += [f"{key} is seen twice by {reader}" for key in doubled]

    def end(self) -> None:
        """Let the writers finish, finish what the dead ones began, and look at everything."""
        from s2d_store.maintenance.examine import examine
        from s2d_store.store import Store
        from s2d_store.tables import journal

        for process in self.writers.values():
            process.terminate()
            process.join()
        store = Store.open(self.root)
        journal.recover(store.root)
        rows = [str(r) for (r,) in store.sql("SELECT rollout_id FROM rollouts").fetchall()]
        self.compare(self.noted(), rows, "s2d")
        for table in ("rewards", "topk"):
            alone = store.sql(
                f"SELECT rollout_id FROM rollouts ANTI JOIN {table} USING (rollout_id)"
            ).fetchall()
            self.lost += [f"{table} of {rollout_id}" for (rollout_id,) in alone]
        report = examine(store)
        self.silent += [*(d.what for d in report.damages), *report.faults]


POLICY = "chaos"


def write(root: Place, note: Path, name: str) -> None:
    """Commit one after another until killed; the first may be one that was cut off."""
    from s2d_store.store import Store
    from tests.support import small_commits

    store, pace = Store.open(root), random.Random(f"{name} {os.getpid()}")
    number, fresh = _lines(note), False
    while True:
        store.commit(small_commits.rows(name, number, POLICY), fresh=fresh)
        with note.open("a") as file:
            file.write(f"{number}\n")
        number, fresh = number + 1, True
        time.sleep(pace.uniform(0, 0.05))


def compact(root: Place) -> None:
    """Compact all tables."""
    from s2d_store.maintenance.compact import compact as run
    from s2d_store.store import Store

    list(run(Store.open(root)))


def sweep(root: Place) -> None:
    """Vacuum what no lock pins."""
    from s2d_store.maintenance.vacuum import vacuum
    from s2d_store.store import Store

    vacuum(Store.open(root), older_than_s=60)


def patiently(reader: str, root: Place) -> list[str] | None:
    """`read_by`, tried again where it met a log checkpoint that delta-rs was still writing."""
    import duckdb
    import polars
    from deltalake.exceptions import DeltaError

    for left in reversed(range(READ_ATTEMPTS)):
        try:
            return read_by(reader, root)
        except (DeltaError, OSError, polars.exceptions.PolarsError, duckdb.Error):
            if not left:
                raise
            time.sleep(0.3)
    return None


def read_by(reader: str, root: Place) -> list[str] | None:
    """Rollouts that another reader of Delta tables sees; None where it is not installed here."""
    folder = root / "tables" / "rollouts"
    remote = not isinstance(folder, Path)
    if reader == "delta-rs":
        from deltalake import DeltaTable

        table = DeltaTable(str(folder)).to_pyarrow_table(columns=["rollout_id"])
        return list(table.column("rollout_id").to_pylist())
    if reader == "polars":
        import polars

        frame = polars.scan_delta(str(folder)).select("rollout_id").collect()
        return list(frame["rollout_id"].to_list())
    if reader == "daft":
        return None if remote else by_daft(folder)
    if remote:
        return None
    import duckdb

    with duckdb.connect() as con:
        try:
            con.execute("LOAD delta")
        except duckdb.Error:
            return None
        rows = con.execute("SELECT rollout_id FROM delta_scan(?)", [str(folder)]).fetchall()
    return [str(row[0]) for row in rows]


def by_daft(folder: Place) -> list[str] | None:
    """Rollouts that daft sees; None where it is not installed."""
    try:
        daft = importlib.import_module("daft")
    except ModuleNotFoundError:
        return None
    frame = daft.read_deltalake(str(folder)).select("rollout_id").to_pydict()
    return list(frame["rollout_id"])


def told_by_the_doctor(root: Path) -> bool:
    """Whether the store does not open, or the doctor finds something."""
    from s2d_store.errors import S2DError
    from s2d_store.maintenance.examine import examine
    from s2d_store.store import Store
    from s2d_store.tables import table_state

    table_state.forget()
    try:
        return not examine(Store.open(root)).healthy
    except S2DError:
        return True


def contents(root: Path) -> dict[str, Any] | None:
    """What is read of a store: every table, and the locked dataset; None where that is an error."""
    from s2d_store.errors import S2DError
    from s2d_store.schema import TABLES
    from s2d_store.store import Store
    from s2d_store.tables import table_state
    from tests.support.dataset_rows import read

    table_state.forget()
    try:
        store = Store.open(root)
        found: dict[str, Any] = {
            name: sorted(map(repr, store.sql(f"SELECT * FROM {name}").fetchall()))
            for name in TABLES
            if name != "token_ranks"
        }
        found["dataset"] = read(root / "datasets" / "w").to_pylist()
    except S2DError:
        return None
    return found


def prepare(root: Place) -> None:
    """A store with a policy, scored rollouts and a locked dataset of them."""
    import queries
    from s2d_store.datasets.build import build
    from s2d_store.store import Store
    from tests.support import synthetic

    store = Store.init(root)
    synthetic.fill(store, n_prompts=4, n=2, k=3, run="run-0", seed=0)
    given = {"teacher": "teacher", "rows_per_update": "4"}
    build(store, "w", queries.catalog()["warmup"], given, copy_rows=True)


def _kind(path: Path) -> str:
    """Data of a table, its log, a dataset, or else."""
    if path.parts[0] == "tables":
        return "log" if "_delta_log" in path.parts else path.parts[1]
    return path.parts[0]


def _lines(note: Path) -> int:
    return note.read_text().count("\n") if note.exists() else 0


@contextlib.contextmanager
def place(folder: Path, s3: bool) -> Iterator[Place]:
    """Where the store lies: in a folder, or on an S3 server that lives as long as the block."""
    if not s3:
        yield folder / "store"
        return
    from s2d_store.storage.object_path import ObjectPath
    from tests.support.object_server import BUCKET, running

    (folder / "s3").mkdir()
    with running(folder / "s3") as server:
        os.environ.update(server.environment, S2D_CACHE=str(folder / "cache"))
        yield ObjectPath.parse(f"s3://{BUCKET}/chaos")


def rage(storm: Storm, seconds: float, flips: bool) -> None:
    """Let everything happen for so long."""
    for name in WRITERS:
        storm.start_writer(name)
    happenings: tuple[Callable[[], None], ...] = (
        *(storm.kill, storm.stop, storm.maintain, storm.read),
        *((storm.flip, storm.flip) if flips else ()),
    )
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(storm.rng.uniform(0, 0.5))
        storm.rng.choice(happenings)()
        for name in [n for n, p in storm.writers.items() if not p.is_alive()]:
            storm.lost.append(f"writer {name} ended by itself")
            storm.start_writer(name)
    storm.end()


def main() -> None:
    """Run the storm, print what it did and the one line."""
    parser = argparse.ArgumentParser(description="A storm over one store; see the module.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--s3", action="store_true", help="on an S3 server, without bit flips")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s2d-chaos-") as folder:
        notes = Path(folder) / "notes"
        notes.mkdir()
        with place(Path(folder), options.s3) as root:
            _CONTEXT.set_forkserver_preload(_PRELOAD)
            prepare(root)
            storm = Storm(root, notes, random.Random(options.seed))
            rage(storm, options.seconds, flips=not options.s3)
        commits = sum(_lines(notes / name) for name in WRITERS)
    for one in (*storm.lost, *storm.doubled, *storm.silent):
        print(one, file=sys.stderr)
    put_in = ", ".join(f"{n} x {kind}" for kind, n in sorted(storm.faults.items()))
    print(f"seed {options.seed}, {options.seconds:g} s: {put_in}")
    print(
        f"{commits:,} commits, {storm.faults.total():,} faults put in, {storm.found:,} of "
        f"{storm.faults['bit flip']:,} bit flips told (the others changed nothing that is read), "
        f"{len(storm.lost)} rows lost, {len(storm.doubled)} rows doubled, "
        f"{len(storm.silent)} silent changes"
    )
    sys.exit(bool(storm.lost or storm.doubled or storm.silent))


if __name__ == "__main__":
    main()
