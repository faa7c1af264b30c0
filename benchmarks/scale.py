"""How queries, audits and dataset builds grow with the store, at a bounded memory.

    python -m benchmarks.synthetic_store /data/100k --rollouts 100000      (and 1m, 10m)
    python -m benchmarks.scale /data/100k /data/1m /data/10m

Each budget, lineage and analysis query that wants no dataset or run, and each audit, runs on each
store as `s2d` runs it, two threads and 4 GiB for DuckDB; medians of three. Datasets are built too:
100,000 rows without top-k, up to as many with it, against copying the same Parquet columns with
pyarrow, and a bridge continuation. The audits that look at built datasets (replay_matched,
locks_rebuild) run over these.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

import queries
from s2d_store.audits import audit, catalog, topk_consistency
from s2d_store.datasets import build as building
from s2d_store.encoding import topk_codec
from s2d_store.sql import connection, parameters
from s2d_store.store import Store
from s2d_store.tables import parquet_writer

POLICY = "student-grpo"
ADVANTAGES = """
SELECT rollout_id,
    (reward - avg(reward) OVER g) / (coalesce(stddev_samp(reward) OVER g, 0) + 1e-4) AS advantage
FROM graded_rollouts WINDOW g AS (PARTITION BY policy_id, prompt_id, round)
"""
ROWS = 100_000
OF_DATASETS = ("replay_matched", "locks_rebuild")
_UPDATES = {"rows_per_update": "500", "updates": str(ROWS // 500)}
BUILDS = {
    "sft": {"policy": "teacher-rl", "correct_only": "false"} | _UPDATES,
    "warmup": {"teacher": "teacher-rl", "correct_only": "false"} | _UPDATES,
    "grpo": {"policy": "student-opd", "prompts_per_update": "10", "updates": "20"},
    "bridge_continuation": {"treatment": "scale-grpo", "bridge": "opd,warmup"},
}


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
        required = [p for p in query.params if p.default is None]
        if query.folder not in ("budgets", "analysis") or {p.type for p in required} - {"POLICY"}:
            continue
        connection.prepare(con, query.sql)
        given = parameters.resolve(query, {p.name: POLICY for p in required}, con)
        values = parameters.bind(query, given | {"seed": 0})
        times[f"{query.folder} {query.name}"] = median_seconds(
            partial(_fetched, con, query.sql, values), repeats
        )
    times["group advantages"] = median_seconds(
        lambda: con.sql(f"SELECT sum(advantage) FROM ({ADVANTAGES})").fetchall(), repeats
    )
    scored = con.sql("SELECT rollout_id FROM topk ORDER BY rollout_id LIMIT 1000").fetchall()
    names = [connection.literal(rollout) for (rollout,) in scored]
    for count in (1, len(names)):
        within = ", ".join(names[:count])
        text = f"SELECT max(kl), max(token) FROM tokens WHERE rollout_id IN ({within})"
        times[f"view tokens, {count:,} rollouts"] = median_seconds(
            partial(_fetched, con, text), repeats
        )
    return times


def _fetched(con: Any, text: str, values: Mapping[str, Any] | None = None) -> list[Any]:
    return list(con.execute(text, values).fetchall())


def time_audits(store: Store, repeats: int) -> dict[str, float]:
    """Every audit over the whole store, but those that want built datasets."""
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for result in audit(store, [name for name in catalog() if name not in OF_DATASETS]):
            times.setdefault(f"audit {result.name}", []).append(result.seconds)
    found = {name: statistics.median(values) for name, values in times.items()}
    bare = median_seconds(lambda: read_topk_columns(store), repeats)
    return found | {"bare read of topk_consistency's columns": bare}


def read_topk_columns(store: Store) -> None:
    """What topk_consistency reads, by pyarrow alone, undecoded."""
    files = store.snapshot().files
    for path in files["topk"]:
        with pq.ParquetFile(path) as file:
            columns = topk_codec.stored_columns(topk_consistency.COLUMNS, file.schema_arrow.names)
            for group in range(file.num_row_groups):
                file.read_row_group(group, columns=columns)
    for path in files["rollouts"]:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group, columns=["rollout_id", "response_token_ids"])


def time_builds(store: Store, repeats: int) -> dict[str, float]:
    """Datasets of at most ROWS rows, a copy of the one with top-k, a control, its audits."""
    times = {}
    for name, given in BUILDS.items():
        seconds, rows = [], 0
        for i in range(repeats):
            if i:
                building.drop(store, f"scale-{name}")
            began = time.perf_counter()
            lock = building.build(store, f"scale-{name}", queries.catalog()[name], given)
            seconds.append(time.perf_counter() - began)
            rows = lock["counts"]["rows"]
        times[f"build {name}, up to {ROWS:,} rows"] = statistics.median(seconds)
        print(f"{store.root.name}: {name} has {rows:,} rows")
    folder = store.folder / "datasets" / "scale-warmup"
    copy = median_seconds(lambda: copy_seconds(folder), repeats)
    times["copy of the warmup's files"] = copy
    for name in OF_DATASETS:
        (result,) = audit(store, [name])
        times[f"audit {name}, of these"] = result.seconds
    for name in BUILDS:
        building.drop(store, f"scale-{name}")
    return times


def copy_seconds(folder: Path) -> float:
    """Read a dataset's Parquet files and write them again with the same encodings."""
    began = time.perf_counter()
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            target = folder / "copy.tmp"
            options = parquet_writer.writer_options(file.schema_arrow)
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
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for path in args.stores:
        store = Store.open(path)
        figures[path.name] = {
            **time_queries(store, args.repeats),
            **time_audits(store, args.repeats),
            **time_builds(store, args.repeats),
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
