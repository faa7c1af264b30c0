"""What the hash in a data file's name costs whoever writes it, and what it catches.

python -m benchmarks.hashes

Synthetic top-k rows (random ids and logprobs, which compress badly). Writing with and without the
hash in turn, in one process; the ratio is the median over pairs. Readers never look at the hash.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.storage import content_hash
from s2d_store.tables import parquet_writer

ROWS, K, PAIRS, FLIPS = 400, 20, 21, 60


def main() -> None:
    """Print the ratio, and what readers and the hash make of flipped bits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    table = rows()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "topk.parquet"

        def plain() -> None:
            parquet_writer.write(path, [table], table.schema)

        def sealed() -> None:
            parquet_writer.write(path, [table], table.schema)
            content_hash.hash_of(path)

        plain()
        print(f"{table.num_rows} rows, k = {K}, {path.stat().st_size:,} bytes")
        ratios = [_seconds(sealed) / _seconds(plain) for _ in range(PAIRS)]
        print(f"write with the hash / without: {statistics.median(ratios):.3f}")
        found = flipped(path)
        described = ", ".join(f"{name} {count}" for name, count in found.items())
        print(f"{FLIPS} flipped bits read as other values: {described}")
    if args.json:
        report = {"write_ratios": ratios, "flips": FLIPS, "silent": found}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


def rows() -> pa.Table:
    """Rows as table topk has them."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(100, 300, ROWS)
    offsets = np.concatenate([[0], np.cumsum(lengths * K)]).astype(np.int32)
    ids = rng.integers(0, 49152, offsets[-1]).astype(np.int32)
    logprobs = -rng.exponential(5, offsets[-1]).astype(np.float32)
    return pa.table(
        {
            "rollout_id": [f"{i:016x}" for i in range(ROWS)],
            "token_ids": pa.ListArray.from_arrays(offsets, ids),
            "logprobs": pa.ListArray.from_arrays(offsets, logprobs),
        }
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def flipped(path: Path) -> dict[str, int]:
    """How many flipped bits each reader turns into other values without an error, and how many
    the hash misses.
    """
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    good, digest = pq.ParquetFile(path).read(), content_hash.hash_of(path)
    readers: dict[str, Callable[[], pa.Table]] = {
        "pyarrow": lambda: pq.ParquetFile(path).read(),
        "DuckDB": lambda: duckdb.read_parquet(str(path)).to_arrow_table(),
    }
    silent = dict.fromkeys(readers, 0)
    missed = 0
    for _ in range(FLIPS):
        data = bytearray(whole)
        data[rng.integers(4, len(data) - 8)] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        missed += content_hash.hash_of(path) == digest
        for name, reader in readers.items():
            try:
                silent[name] += not reader().equals(good)
            except (OSError, pa.ArrowException, duckdb.Error):
                continue
    return silent | {"hash": missed}


if __name__ == "__main__":
    main()
