"""How queries, audits and dataset builds grow with the store, at a bounded memory.

    python -m benchmarks.synthetic_store /data/100k --rollouts 100000      (and 1m, 10m)
    python -m benchmarks.scale /data/100k /data/1m /data/10m

Each budget, lineage and analysis query and each audit runs on each store as `s2d` runs it, two
threads and 4 GiB for DuckDB; medians of three. Datasets of 100,000 rows are built too, the one with
top-k against copying the same Parquet columns with pyarrow.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

import queries
from s2d_store import params, parquet
from s2d_store.audits import audit
from s2d_store.datasets import build as building
from s2d_store.store import Store

POLICY = "student-grpo"
ADVANTAGES = """
SELECT rollout_id,
    (reward - avg(reward) OVER g) / (coalesce(stddev_samp(reward) OVER g, 0) + 1e-4) AS advantage
FROM graded_rollouts WINDOW g AS (PARTITION BY policy_id, prompt_id, round)
"""
ROWS = 100_000


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def bounded(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The same connection with two threads and 4 GiB."""
    con.execute("SET threads = 2")
    con.execute("SET memory_limit = '4GiB'")
    return con


def time_queries(store: Store, repeats: int) -> dict[str, float]:
    """Budget, lineage and analysis queries, with their defaults, and group advantages."""
    con = bounded(store.connect(unsafe=True))
    times = {}
    for query in queries.catalog().values():
        if query.folder not in ("budgets", "analysis"):
            continue
        given = {p.name: POLICY for p in query.params if p.default is None}
        values = params.bound(query, params.resolve(query, given, con))
        times[f"{query.folder} {query.name}"] = median_seconds(
            lambda query=query, values=values: con.sql(query.sql, params=values).fetchall(), repeats
        )
    times["group advantages"] = median_seconds(
        lambda: con.sql(f"SELECT sum(advantage) FROM ({ADVANTAGES})").fetchall(), repeats
    )
    return times


def time_audits(store: Store, repeats: int, leave_out: list[str]) -> dict[str, float]:
    """Every audit over the whole store."""
    times: dict[str, list[float]] = {}
    names = [q.name for q in queries.catalog().values() if q.folder == "audits"]
    for _ in range(repeats):
        for result in audit(store, [name for name in names if name not in leave_out]):
            times.setdefault(f"audit {result.name}", []).append(result.seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def time_builds(store: Store) -> dict[str, float]:
    """Datasets of at most ROWS rows, without and with top-k, and a copy of the latter."""
    times = {}
    limit = {"rows_per_update": "500", "updates": str(ROWS // 500)}
    for name, query, given in (
        ("sft", "sft", {"policy": "teacher-rl", "correct_only": "false"}),
        ("warmup", "warmup", {"teacher": "teacher-rl", "correct_only": "false"}),
    ):
        began = time.perf_counter()
        lock = building.build(store, f"scale-{name}", queries.catalog()[query], given | limit)
        times[f"build {name}, {lock['counts']['rows']:,} rows"] = time.perf_counter() - began
    times["copy of warmup's files"] = copy_seconds(store.root / "datasets" / "scale-warmup")
    for name in ("sft", "warmup"):
        building.drop(store, f"scale-{name}")
    return times


def copy_seconds(folder: Path) -> float:
    """Read a dataset's Parquet files and write them again with the same encodings."""
    began = time.perf_counter()
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            target = folder / "copy.tmp"
            options = parquet.writer_options(file.schema_arrow)
            with pq.ParquetWriter(target, file.schema_arrow, **options) as writer:
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group))
            target.unlink()
    return time.perf_counter() - began


def main() -> None:
    """Measure every store and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--leave-out", nargs="*", default=["locks_rebuild"], help="audits")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for path in args.stores:
        store = Store.open(path)
        figures[path.name] = {
            **time_queries(store, args.repeats),
            **time_audits(store, args.repeats, args.leave_out),
            **time_builds(store),
        }
    print(f"{'seconds':<44}" + "".join(f"{name:>10}" for name in figures))
    for name in dict.fromkeys(name for times in figures.values() for name in times):
        cells = (times.get(name) for times in figures.values())
        print(f"{name:<44}" + "".join("         -" if c is None else f"{c:>10.3f}" for c in cells))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process: {peak:.2f} GiB")
    if args.json:
        args.json.write_text(json.dumps({"seconds": figures, "peak_gib": peak}, indent=2) + "\n")


if __name__ == "__main__":
    main()
