"""Time reading a locked dataset into packed torch batches, against what others use.

    python benchmarks/read_batches.py --json read.json

Compared, on the same synthetic rows (teacher top-k, flat lists):
    parquet    every column of every row group with pyarrow, nothing built: the floor
    packed     LockedDataset.updates + trainers.batches.pack
    nested     Hugging Face `datasets`, saved to disk with top-k as lists of lists (T of K, as it is
               commonly kept), with_format("torch"), one example at a time, nothing packed
    flat       the same with our flat lists: uncompressed Arrow, memory-mapped, nothing packed
And an update's rows at a time, as NumPy arrays, nothing packed:
    updates    LockedDataset.updates
    stream     `datasets` on the same Parquet file, load_dataset(streaming=True), format "numpy"
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.datasets.read import COUNTS, FORMAT_VERSION, LockedDataset

VOCAB = 49_152
LISTS = {
    "prompt_token_ids": pa.int32(),
    "response_token_ids": pa.int32(),
    "topk_token_ids": pa.int32(),
    "topk_logprobs": pa.float32(),
}


def synthetic_rows(tokens: int, k: int, rows_per_update: int, seed: int) -> pa.Table:
    """Rows with about `tokens` response tokens; lengths and logprobs spread like real ones."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(50, 450, size=max(1, tokens // 250))
    prompts = rng.integers(60, 160, size=len(lengths))
    total = int(lengths.sum())
    gaps = rng.exponential(0.3, size=(total, k)).astype(np.float32)
    values = {
        "prompt_token_ids": (rng.integers(0, VOCAB, int(prompts.sum())), prompts),
        "response_token_ids": (rng.integers(0, VOCAB, total), lengths),
        "topk_token_ids": (rng.integers(0, VOCAB, total * k), lengths * k),
        "topk_logprobs": (-np.cumsum(gaps, axis=1).ravel(), lengths * k),
    }
    columns: dict[str, pa.Array] = {
        "row": pa.array(np.arange(len(lengths))),
        "update": pa.array((np.arange(len(lengths)) // rows_per_update + 1).astype(np.int32)),
        "k": pa.array(np.full(len(lengths), k, dtype=np.int32)),
    }
    for name, (flat, counts) in values.items():
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(flat).cast(LISTS[name]))
    return pa.table(columns)


def nest(table: pa.Table) -> pa.Table:
    """The same rows with top-k columns as list<list>: T lists of K."""
    k = table["k"][0].as_py()
    for name in ("topk_token_ids", "topk_logprobs"):
        flat = table[name].combine_chunks()
        inner_offsets = np.arange(0, len(flat.values) + 1, k, dtype=np.int32)
        inner = pa.ListArray.from_arrays(inner_offsets, flat.values)
        outer_offsets = (flat.offsets.to_numpy() // k).astype(np.int32)
        nested = pa.ListArray.from_arrays(outer_offsets, inner)
        table = table.set_column(table.schema.get_field_index(name), name, nested)
    return table


def write_locked(table: pa.Table, folder: Path) -> None:
    """Write one part and its lock, with the encodings of a real dataset."""
    folder.mkdir(parents=True)
    part = folder / "part-00000.parquet"
    leaves = [f"{name}.list.element" for name in LISTS]
    pq.write_table(
        table,
        part,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(leaves, "BYTE_STREAM_SPLIT"),
        row_group_size=128,
    )
    lock = {
        "format_version": FORMAT_VERSION,
        "name": folder.name,
        "kind": "warmup",
        "fingerprint": "synthetic",
        "tokenizer_fingerprint": "synthetic",
        "counts": dict.fromkeys(COUNTS, 0),
        "files": [{"path": part.name, "rows": table.num_rows, "bytes": part.stat().st_size}],
    }
    (folder / "lock.json").write_text(json.dumps(lock))


def read_parquet(folder: Path) -> int:
    """Response tokens read, row group by row group, nothing built from them."""
    tokens = 0
    with pq.ParquetFile(folder / "part-00000.parquet") as file:
        for index in range(file.metadata.num_row_groups):
            table = file.read_row_group(index)
            tokens += len(table["response_token_ids"].combine_chunks().values)
    return tokens


def read_packed(folder: Path, max_tokens: int) -> int:
    """Response tokens in packed batches."""
    from trainers.batches import pack

    columns = ["k", *LISTS]
    updates = LockedDataset.open(folder).updates(columns=columns)
    return sum(len(b.targets) for rows in updates for b in pack(rows, max_tokens))


def read_hf(folder: Path) -> int:
    """Response tokens as `datasets` gives them in torch format."""
    import datasets

    rows = datasets.load_from_disk(str(folder)).with_format("torch")
    return sum(len(row["response_token_ids"]) for row in rows)


def read_updates(folder: Path) -> int:
    """Response tokens as arrays, an update at a time."""
    updates = LockedDataset.open(folder).updates(columns=["k", *LISTS])
    return sum(int(rows.lengths("response_token_ids").sum()) for rows in updates)


def stream_hf(folder: Path, rows_per_update: int) -> int:
    """The same with `datasets`; every update has as many rows."""
    import datasets

    file = str(folder / "part-00000.parquet")
    rows = datasets.load_dataset("parquet", data_files=file, split="train", streaming=True)
    batches = rows.with_format("numpy").iter(batch_size=rows_per_update)
    return sum(len(row) for batch in batches for row in batch["response_token_ids"])


def timed(function: Callable[[], int], repeats: int) -> dict[str, float]:
    """Median seconds and tokens/s, after one run that is not counted."""
    function()
    seconds = []
    tokens = 0
    for _ in range(repeats):
        start = time.perf_counter()
        tokens = function()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {"tokens": tokens, "seconds": median, "tokens_per_s": tokens / median}


def main() -> None:
    """Run the comparison and print tokens/s and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=200_000, help="response tokens")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--rows-per-update", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=8192, help="of a micro-batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()

    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        table = synthetic_rows(args.tokens, args.k, args.rows_per_update, args.seed)
        locked, flat, nested = (Path(scratch) / name for name in ("locked", "flat", "nested"))
        write_locked(table, locked)
        datasets.Dataset(table).save_to_disk(str(flat))
        datasets.Dataset(nest(table)).save_to_disk(str(nested))
        results = {
            "parquet": timed(lambda: read_parquet(locked), args.repeats),
            "packed": timed(lambda: read_packed(locked, args.max_tokens), args.repeats),
            "nested": timed(lambda: read_hf(nested), args.repeats),
            "flat": timed(lambda: read_hf(flat), args.repeats),
            "updates": timed(lambda: read_updates(locked), args.repeats),
            "stream": timed(lambda: stream_hf(locked, args.rows_per_update), args.repeats),
        }
    packed = results["packed"]["tokens_per_s"]
    ratios = {name: packed / figures["tokens_per_s"] for name, figures in results.items()}
    print(f"{'reader':<10}{'tokens/s':>12}{'packed is':>12}")
    for name, figures in results.items():
        print(f"{name:<10}{figures['tokens_per_s']:>12,.0f}{ratios[name]:>11.2f}x")
    if args.json:
        document = {"k": args.k, "results": results, "packed_over": ratios}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
