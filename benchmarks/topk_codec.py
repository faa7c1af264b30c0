"""Top-k in files: bytes per token, tokens per CPU second, and SQL, of this codec and its peers.

    python -m benchmarks.topk_codec --sample sample.npz      # see benchmarks/topk_sample.py
    python -m benchmarks.topk_codec                          # no model: made logprobs

Three layouts take turns, each a Parquet file of the same rows:
    floats   ids and float32 logprobs as lists, BYTE_STREAM_SPLIT and zstd: format 1
    codec    ranks and gaps (s2d_store/encoding/topk_codec.py)
`write` and `read` are tokens per CPU second of the process, file and codec together; `encode` and
`decode` are those of the codec alone (format 2's leaves ids as they are). SQL is the CPU time of
DuckDB, one thread, in units of the same over floats. Every file is read back and compared bit for
bit. `--half` writes ids with a rank table that was learned on the first half of the rows alone.

Then rollouts of 8,192 tokens: `SQL` as above, and CPU milliseconds, one thread, for one of them
through the macro `topk_of`: its first 64 entries, and all of them, to Arrow.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import queries
from benchmarks.topk_sample import Sample
from benchmarks.topk_size import made_rows
from s2d_store.encoding import topk, topk_codec, topk_ranks, topk_sql
from s2d_store.encoding.list_columns import flat_lists
from s2d_store.encoding.topk import TopK
from s2d_store.tables import parquet_writer

GROUP_TOKENS = 1 << 16
LONG = 8192
SQL = {
    "sum": "SELECT sum(list_sum(logprobs)) FROM {}",
    "mean": "SELECT avg(list_avg(logprobs)) FROM {}",
    "entropy": "SELECT sum(list_sum(list_transform(logprobs, lambda l: -l * exp(l)))) FROM {}",
    "KL": "SELECT sum(exp(l) * (l + 1)) FROM (SELECT unnest(logprobs) AS l FROM {})",
    "ids": "SELECT count(*) FROM (SELECT unnest(token_ids) AS i FROM {}) WHERE i = 11",
    "len": "SELECT sum(len(logprobs)) FROM {}",
}


@dataclass(frozen=True)
class Layout:
    """How rows become a file's and come back."""

    encode: Callable[[pa.Table], pa.Table]
    decode: Callable[[pa.Table], pa.Table]
    view: str


def layouts(ranks: topk_ranks.RankTable) -> dict[str, Layout]:
    """Both by name."""
    tables = {None: topk_ranks.IDENTITY, ranks.ranks_id: ranks}
    text = queries.raw("topk")
    view = text[text.index("SELECT") :].replace("FROM files", "FROM {}")
    return {
        "floats": Layout(lambda rows: rows, lambda rows: rows, "SELECT * FROM {}"),
        "codec": Layout(
            lambda rows: topk_codec.encode(rows, ranks),
            lambda rows: topk_codec.decode(rows, tables),
            view,
        ),
    }


def rows_of(entries: list[TopK]) -> pa.Table:
    """Rows of table topk."""
    n = len(entries)
    return pa.table(
        {
            "rollout_id": [f"{number:016x}" for number in range(n)],
            "scorer_policy_id": ["scorer"] * n,
            "support": ["own"] * n,
            "counts": pa.nulls(n, pa.list_(pa.int16())),
            **topk.to_columns(entries),
            "run_id": ["benchmark"] * n,
            "created_at": pa.array([0] * n, pa.timestamp("us")),
        }
    )


def write(path: Path, table: pa.Table) -> None:
    """One file, row groups of about GROUP_TOKENS."""
    tokens = sum(table.column("k").to_pylist()) and _tokens(table)
    rows = max(1, GROUP_TOKENS * table.num_rows // max(1, tokens))
    options = parquet_writer.writer_options(table.schema)
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=rows)


def _tokens(table: pa.Table) -> int:
    names = [n for n in ("top_logprobs", "sampled_logprobs") if n in table.column_names]
    return max(sum(len(v) if v.is_valid else 0 for v in table.column(name)) for name in names)


def column_bytes(path: Path) -> dict[str, int]:
    """Compressed bytes of each column of a file."""
    sizes: dict[str, int] = {}
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            name = chunk.path_in_schema.split(".")[0]
            sizes[name] = sizes.get(name, 0) + chunk.total_compressed_size
    return sizes


def encoded_bytes(table: pa.Table, ranks: topk_ranks.RankTable, path: Path) -> int:
    """Bytes of the columns of top-k as the codec writes them."""
    write(path, topk_codec.encode(table, ranks))
    names = (*topk_codec.COLUMNS, "logprobs", "sampled_logprobs", "counts")
    return sum(size for name, size in column_bytes(path).items() if name in names)


def same(found: pa.Table, wanted: pa.Table) -> bool:
    """Whether two tables hold the same bits in their lists of numbers."""
    return all(
        flat_lists(found.column(name))[0].tobytes() == flat_lists(wanted.column(name))[0].tobytes()
        for name in ("token_ids", "logprobs", "sampled_logprobs")
    )


def cpu(function: Callable[[], object], turns: int) -> float:
    """The least CPU seconds of several turns."""
    taken = []
    for _ in range(turns):
        began = time.process_time()
        function()
        taken.append(time.process_time() - began)
    return min(taken)


@contextmanager
def connected(files: dict[str, Path], made: dict[str, Layout], ranks: Any) -> Iterator[Any]:
    """DuckDB with a view of each file by its layout's name."""
    con = duckdb.connect(config={"threads": 1})
    topk_sql.register(con, {None: topk_ranks.IDENTITY, ranks.ranks_id: ranks}.__getitem__)
    for name, path in files.items():
        rows = made[name].view.format(f"read_parquet('{path}')")
        con.execute(f"CREATE VIEW {name} AS {rows}")
    yield con
    con.close()


def sql_ratios(con: Any, names: list[str], turns: int) -> dict[str, dict[str, float]]:
    """CPU time of each query over each view, in units of that over floats."""
    found: dict[str, dict[str, float]] = {}
    for query, text in SQL.items():
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(turns):
            for name, taken in seconds.items():
                taken.append(cpu(partial(_fetched, con, text.format(name)), 1))
        base = median(seconds["floats"])
        found[query] = {name: median(taken) / base for name, taken in seconds.items()}
    return found


def _fetched(con: Any, text: str) -> list[Any]:
    return list(con.execute(text).fetchall())


def _as_arrow(con: Any, text: str) -> pa.Table:
    return con.execute(text).to_arrow_table()


def _write(layout: Layout, path: Path, rows: pa.Table) -> None:
    write(path, layout.encode(rows))


def _read(layout: Layout, path: Path) -> pa.Table:
    return layout.decode(pq.ParquetFile(path).read())


def measure(entries: list[TopK], ranks: topk_ranks.RankTable, turns: int) -> dict[str, Any]:
    """Bytes, speeds and SQL of all layouts."""
    rows, made = rows_of(entries), layouts(ranks)
    tokens = _tokens(rows)
    found: dict[str, Any] = {name: {} for name in made}
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: Path(scratch) / f"{name}.parquet" for name in made}
        for name, layout in made.items():
            stored = layout.encode(rows)
            path = files[name]
            write(path, stored)
            if not same(layout.decode(pq.ParquetFile(path).read()), rows):
                raise SystemExit(f"{name}: the file does not give back what was written")
            found[name] = {
                "bytes": path.stat().st_size / tokens,
                "columns": {n: size / tokens for n, size in column_bytes(path).items()},
                "write": tokens / cpu(partial(_write, layout, path, rows), turns),
                "read": tokens / cpu(partial(_read, layout, path), turns),
            }
            if name != "floats":
                found[name]["encode"] = tokens / cpu(partial(layout.encode, rows), turns)
                found[name]["decode"] = tokens / cpu(partial(layout.decode, stored), turns)
        with connected(files, made, ranks) as con:
            found["sql"] = sql_ratios(con, list(made), turns)
    return found


def long_rollouts(entries: list[TopK]) -> list[TopK]:
    """The same tokens as rollouts of LONG tokens."""
    parts = ("token_ids", "logprobs", "sampled_logprobs")
    whole = {part: np.concatenate([getattr(entry, part) for entry in entries]) for part in parts}
    n_rows = len(whole["sampled_logprobs"]) // LONG
    return [
        TopK(*(whole[part][row * LONG : (row + 1) * LONG] for part in parts))
        for row in range(n_rows)
    ]


def unnested(entries: list[TopK], ranks: topk_ranks.RankTable, turns: int) -> dict[str, float]:
    """CPU seconds of `topk_of` for one rollout, one thread, the least of several turns."""
    made = layouts(ranks)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "codec.parquet"
        write(path, topk_codec.encode(rows_of(entries), ranks))
        with connected({"codec": path}, made, ranks) as con:
            con.execute("CREATE VIEW topk AS FROM codec")
            con.execute(
                "CREATE TABLE policies AS SELECT 'scorer' AS policy_id, 'teacher' AS name, "
                "'tokenizer' AS tokenizer_fingerprint"
            )
            con.execute(
                "CREATE TABLE vocabularies AS SELECT 'tokenizer' AS tokenizer_fingerprint, "
                "i::INTEGER AS token_id, 'token ' || i AS token FROM range(49152) AS r(i)"
            )
            con.execute((queries.ROOT / "macros" / "topk_of.sql").read_text())
            found = {}
            for name, limit in (("first 64", " LIMIT 64"), ("all", "")):
                text = f"FROM topk_of('{1:016x}'){limit}"
                found[name] = cpu(partial(_as_arrow, con, text), turns)
    return found


def report(k: int, found: dict[str, Any]) -> None:
    """Print one k's figures."""
    base = found["steps"]
    print(f"k = {k}: bytes per token; tokens per CPU second, and in units of format 2's")
    for name in ("floats", "steps", "codec"):
        figures = found[name]
        speeds = "".join(
            f"  {what} {figures[what] / 1e3:,.0f}k"
            + (f" ({figures[what] / base[what]:.2f})" if what in base else "")
            for what in ("write", "read", "encode", "decode")
            if what in figures
        )
        print(f"  {name:7}{figures['bytes']:7.1f}{speeds}")
    columns = sorted(found["codec"]["columns"].items(), key=lambda item: -item[1])
    print("  of it " + ", ".join(f"{name} {size:.2f}" for name, size in columns if size > 0.05))
    report_sql(found["sql"], "as sampled")


def report_sql(found: dict[str, dict[str, float]], rows: str) -> None:
    """Print CPU times of queries in units of those over floats."""
    for query, ratios in found.items():
        print(f"  SQL {query:8} {rows}: steps {ratios['steps']:.2f}  codec {ratios['codec']:.2f}")


def main() -> None:
    """Measure every k."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=Path, help=".npz of benchmarks.topk_sample")
    parser.add_argument("--k", type=int, nargs="+", default=[20, 64, 128])
    parser.add_argument("--rows", type=int, default=400, help="rollouts to make, without --sample")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--half", action="store_true", help="learn ranks on half of the rows")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    whole = Sample.load(args.sample).rollouts(max(args.k)) if args.sample else None
    whole = whole or made_rows(args.rows, max(args.k))
    results: dict[str, Any] = {}
    for k in args.k:
        entries = [TopK(e.token_ids[:, :k], e.logprobs[:, :k], e.sampled_logprobs) for e in whole]
        learned = entries[: len(entries) // 2] if args.half else entries
        ids = rows_of(learned).column("token_ids")
        ranks = topk_ranks.build([ids], 49_152)
        results[str(k)] = measure(entries, ranks, args.turns)
        report(k, results[str(k)])
        long = long_rollouts(entries)
        if len(long) > 1:
            results[str(k)]["long"] = measure(long, ranks, args.turns)["sql"]
            report_sql(results[str(k)]["long"], f"rollouts of {LONG:,}")
            results[str(k)]["topk_of"] = unnested(long, ranks, args.turns)
            for name, seconds in results[str(k)]["topk_of"].items():
                print(f"  topk_of one of {LONG:,} tokens, {name}: {seconds * 1e3:.0f} ms")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
