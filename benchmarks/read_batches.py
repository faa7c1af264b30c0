"""Time reading a locked dataset into packed torch batches, against what others use.

    python -m benchmarks.read_batches --json read.json
    python -m benchmarks.read_batches --updates 2000 --scratch /data      # writes 10 GB there

Compared, on the same synthetic rows (teacher top-k, flat lists), turn by turn in one process:
    parquet    the same columns of every row group with pyarrow, nothing built: the floor
    packed     LockedDataset.updates + trainers.batches.micro_batches
    pinned     the same, each batch pinned; without a GPU copied once more, as pinning does
    nested     Hugging Face `datasets`, saved to disk with top-k as lists of lists (T of K, as it is
               commonly kept), with_format("torch"), one example at a time, nothing packed
    flat       the same with our flat lists: uncompressed Arrow, memory-mapped, nothing packed
    updates    LockedDataset.updates alone: an update's rows as NumPy arrays, nothing packed
    stream     the same rows of the same file by `datasets`, load_dataset(streaming=True)

Then, on a dataset of `--updates` updates in parts as `s2d dataset build` writes them: seconds from
opening it to the first batch of update 1 and of the last update; and by how much reading all of it,
or an eighth of it, raises the peak memory of a process of its own, with pyarrow alone and packed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.datasets.parts import FILE_BYTES
from s2d_store.datasets.read import COUNTS, FORMAT_VERSION, LockedDataset
from s2d_store.tables import parquet_writer

VOCAB = 49_152
LISTS = {
    "prompt_token_ids": pa.int32(),
    "response_token_ids": pa.int32(),
    "topk_token_ids": pa.int32(),
    "topk_logprobs": pa.float32(),
}
COLUMNS = ["update", "k", *LISTS]


def synthetic_rows(tokens: int, k: int, rows_per_update: int, seed: int, mean: int) -> pa.Table:
    """Rows with about `tokens` response tokens; lengths and logprobs spread like real ones."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(mean // 5, mean * 9 // 5, size=max(1, tokens // mean))
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


def large_parts(
    updates: int, k: int, rows_per_update: int, seed: int, mean: int
) -> Iterator[pa.Table]:
    """Parts of a dataset of so many updates; all hold the same values, drawn once."""
    row_bytes = mean * (8 * k + 4)
    rows = max(1, min(updates * rows_per_update, FILE_BYTES // row_bytes))
    part = synthetic_rows(rows * mean, k, rows_per_update, seed, mean)
    for first in range(0, updates * rows_per_update, rows):
        table = part.slice(0, min(rows, updates * rows_per_update - first))
        numbers = np.arange(first, first + table.num_rows)
        update = pa.array((numbers // rows_per_update + 1).astype(np.int32))
        yield table.set_column(0, "row", pa.array(numbers)).set_column(1, "update", update)


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


def write_locked(tables: Iterable[pa.Table], folder: Path) -> None:
    """Write a part a table, as `s2d dataset build` does, and their lock."""
    folder.mkdir(parents=True)
    files = []
    for number, table in enumerate(tables):
        part = folder / f"part-{number:05d}.parquet"
        size = parquet_writer.write(part, [table], table.schema)
        files.append({"path": part.name, "rows": table.num_rows, "bytes": size})
    write_lock(files, folder)


def write_lock(files: list[dict[str, str | int]], folder: Path) -> None:
    """Write the lock of these parts."""
    lock = {
        "format_version": FORMAT_VERSION,
        "name": folder.name,
        "kind": "warmup",
        "fingerprint": "synthetic",
        "tokenizer_fingerprint": "synthetic",
        "counts": dict.fromkeys(COUNTS, 0),
        "files": files,
    }
    (folder / "lock.json").write_text(json.dumps(lock))


def beginning(folder: Path, target: Path, share: float) -> Path:
    """A dataset of the first parts of another, the same files under a second name."""
    files = json.loads((folder / "lock.json").read_text())["files"]
    target.mkdir()
    kept = files[: max(1, round(len(files) * share))]
    for file in kept:
        os.link(folder / file["path"], target / file["path"])
    write_lock(kept, target)
    return target


def read_parquet(folder: Path) -> int:
    """Response tokens read, row group by row group, nothing built from them."""
    tokens = 0
    for part in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(part) as file:
            for index in range(file.metadata.num_row_groups):
                table = file.read_row_group(index, columns=COLUMNS)
                tokens += len(table["response_token_ids"].combine_chunks().values)
    return tokens


def read_packed(folder: Path, max_tokens: int, pinned: bool = False) -> int:
    """Response tokens in packed batches."""
    import torch

    from trainers.batches import MicroBatch, micro_batches

    def copied(batch: MicroBatch) -> MicroBatch:
        if torch.cuda.is_available():
            return batch.pin(torch.device("cuda", 0))
        return batch._map(torch.clone)

    tokens = 0
    for rows in LockedDataset.open(folder).updates(columns=COLUMNS[1:]):
        for batch in micro_batches(rows, max_tokens, "packed"):
            tokens += len((copied(batch) if pinned else batch).targets)
    return tokens


def seconds_to_batch(folder: Path, update: int, max_tokens: int) -> float:
    """Seconds from opening a dataset to an update's first batch."""
    from trainers.batches import micro_batches

    start = time.perf_counter()
    updates = LockedDataset.open(folder).updates(update, columns=COLUMNS[1:])
    next(micro_batches(next(updates), max_tokens, "packed"))
    return time.perf_counter() - start


def seconds_to_group(folder: Path) -> float:
    """Seconds to read the first row group with pyarrow, nothing else: the floor of the above."""
    start = time.perf_counter()
    with pq.ParquetFile(next(folder.glob("*.parquet"))) as file:
        file.read_row_group(0, columns=COLUMNS)
    return time.perf_counter() - start


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


def take_turns(readers: Mapping[str, Callable[[], int]], repeats: int) -> dict[str, list[float]]:
    """Tokens/s of each reader in each turn, after a turn that does not count."""
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(repeats + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            tokens = read()
            if turn:
                speeds[name].append(tokens / (time.perf_counter() - start))
    return speeds


def growth(folder: Path, reader: str, max_tokens: int) -> float:
    """MiB by which reading a dataset raises the peak memory of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.read_batches", "--max-tokens", str(max_tokens)]
    done = subprocess.run(
        [*command, "--growth-of", reader, str(folder)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def print_growth(folder: Path, reader: str, max_tokens: int) -> None:
    """What `growth` runs."""
    import trainers.batches  # noqa: F401  (the libraries are no part of the growth)

    before = peak_mib()
    if reader == "parquet":
        read_parquet(folder)
    else:
        read_packed(folder, max_tokens)
    print(peak_mib() - before)


def peak_mib() -> float:
    """Most memory that this process has held since it was started, MiB; Linux tells."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def compare(scratch: Path, args: argparse.Namespace) -> dict[str, object]:
    """Print tokens/s of all readers, and medians of their ratios, taken within a turn."""
    import datasets

    datasets.disable_progress_bars()
    table = synthetic_rows(args.tokens, args.k, args.rows_per_update, args.seed, args.mean_response)
    locked, flat, nested = (scratch / name for name in ("locked", "flat", "nested"))
    write_locked([table], locked)
    readers: dict[str, Callable[[], int]] = {
        "parquet": lambda: read_parquet(locked),
        "packed": lambda: read_packed(locked, args.max_tokens),
        "pinned": lambda: read_packed(locked, args.max_tokens, pinned=True),
    }
    if args.peers:
        datasets.Dataset(table).save_to_disk(str(flat))
        datasets.Dataset(nest(table)).save_to_disk(str(nested))
        readers |= {"nested": lambda: read_hf(nested), "flat": lambda: read_hf(flat)}
        readers["updates"] = lambda: read_updates(locked)
        readers["stream"] = lambda: stream_hf(locked, args.rows_per_update)
    speeds = take_turns(readers, args.repeats)
    print(f"{'reader':<10}{'tokens/s':>12}{'of parquet':>12}  (range)")
    figures: dict[str, object] = {}
    for name, own in speeds.items():
        ratios = [mine / floor for mine, floor in zip(own, speeds["parquet"], strict=True)]
        middle, speed = statistics.median(ratios), statistics.median(own)
        print(
            f"{name:<10}{speed:>12,.0f}{middle:>11.3f}x  ({min(ratios):.3f} to {max(ratios):.3f})"
        )
        figures[name] = {"tokens_per_s": own, "of_parquet": ratios}
    for name in [name for name in ("nested", "flat") if name in speeds]:
        ratios = [a / b for a, b in zip(speeds["packed"], speeds[name], strict=True)]
        print(f"packed is {statistics.median(ratios):.1f} times {name}")
    return figures


def at_scale(scratch: Path, args: argparse.Namespace) -> dict[str, object]:
    """Print seconds to the first batch at both ends of a large dataset, and peak memory."""
    whole = scratch / "large"
    parts = large_parts(args.updates, args.k, args.rows_per_update, args.seed, args.mean_response)
    write_locked(parts, whole)
    eighth = beginning(whole, scratch / "eighth", 1 / 8)
    files = json.loads((whole / "lock.json").read_text())["files"]
    size = sum(file["bytes"] for file in files)
    print(f"{args.updates} updates, {len(files)} parts, {size / 2**20:,.0f} MiB")
    figures: dict[str, object] = {"updates": args.updates, "parts": len(files), "bytes": size}
    waits: dict[str, Callable[[], float]] = {
        "pyarrow to read one row group": partial(seconds_to_group, whole),
        "the first batch of update 1": partial(seconds_to_batch, whole, 1, args.max_tokens),
        "the first batch of the last update": partial(
            seconds_to_batch, whole, args.updates, args.max_tokens
        ),
    }
    for name, wait in waits.items():
        seconds = [wait() for _ in range(args.repeats + 1)][1:]
        print(f"seconds for {name}: {statistics.median(seconds):.3f}")
        figures[name] = seconds
    for reader in ("parquet", "packed"):
        for name, folder in (("an eighth", eighth), ("all", whole)):
            mib = growth(folder, reader, args.max_tokens)
            print(f"MiB that {reader} adds to its peak memory, {name} of it read: {mib:,.0f}")
            figures[f"{reader}: MiB for {name}"] = mib
    return figures


def main() -> None:
    """Run both and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=200_000, help="response tokens")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--rows-per-update", type=int, default=64)
    parser.add_argument("--mean-response", type=int, default=250, help="tokens of a response")
    parser.add_argument("--max-tokens", type=int, default=8192, help="of a micro-batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=250, help="of the large dataset")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="pyarrow alone")
    parser.add_argument("--scratch", type=Path, help="where the datasets lie meanwhile")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--growth-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.growth_of:
        reader, folder = args.growth_of
        print_growth(Path(folder), reader, args.max_tokens)
        return
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        figures = {"compared": compare(Path(scratch), args), "large": at_scale(Path(scratch), args)}
    if args.json:
        args.json.write_text(json.dumps({"k": args.k, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
