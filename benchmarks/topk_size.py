"""Bytes per token of top-k logprobs on disk: our layout against nested lists and JSONL.

    python -m benchmarks.topk_size --model runs/gsm8k/teacher --texts gsm8k_train.jsonl
    python -m benchmarks.topk_size     # no model: made logprobs, as in benchmarks/ingest.py

With a model, logprobs are real: its own top-k at every token of reference solutions, cut to each
k. The model runs in float32 (this works on any CPU) and its logits are rounded to bfloat16, as
those of a bfloat16 model are; `--logits float32` leaves them. Layouts:
    jsonl       one JSON object a rollout, logprobs rounded to 6 digits
    nested      list<list<...>> of T by K, int32 and float32, zstd (what peers keep)
    floats      table topk as stores of format 1 have it: flat lists of ids and float32 logprobs,
                BYTE_STREAM_SPLIT and zstd
    s2d         table topk as `s2d score` writes it: ids as ranks, logprobs as packed steps where
                that is lossless (s2d_store/encoding/topk_codec.py)
Bytes are the whole file's, over response tokens; `ids` and `logprobs` are those columns' of it. The
file is read back and compared bit for bit. `SQL` is the time of DuckDB, one thread, to add up every
logprob of the file, in units of the same over `floats`: medians of turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.ingest import made
from s2d_store.encoding import topk, topk_codec, topk_ranks, topk_sql
from s2d_store.encoding.topk import TopK
from s2d_store.engines.vllm_logprobs import last_positions
from s2d_store.schema import TABLES
from s2d_store.tables import parquet_writer


def score(model: Path, texts: Path, rows: int, k: int, rounded: bool) -> list[TopK]:
    """The model's own top-k on reference solutions, as (T, k) arrays a solution."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    entries = []
    with texts.open(encoding="utf-8") as lines, torch.inference_mode():
        for record in map(json.loads, islice(lines, rows)):
            prompt, response = (tokenizer(record[f])["input_ids"] for f in ("question", "answer"))
            ids = torch.tensor([prompt + response])
            hidden_TH = loaded.base_model(ids).last_hidden_state[0, len(prompt) - 1 : -1]
            logits_TV = loaded.get_output_embeddings()(hidden_TH)
            if rounded:  # What a bf16 output layer gives: products summed in float32, rounded once.
                logits_TV = logits_TV.bfloat16().float()
            logprobs_TV = logits_TV.log_softmax(dim=1)
            top_TK, ids_TK = logprobs_TV.topk(k, dim=1)
            sampled_T = logprobs_TV.gather(1, torch.tensor(response)[:, None])[:, 0]
            entries.append(TopK(ids_TK.int().numpy(), top_TK.numpy(), sampled_T.numpy()))
    return entries


def made_rows(rows: int, k: int) -> list[TopK]:
    """Made responses of 50 to 200 tokens, about as compressible as real ones."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(rows):
        tokens, flat = made(int(rng.integers(50, 200)), k, rng)
        found.append(last_positions(str(number), flat, tokens, k))
    return found


def cut(entries: list[TopK], k: int) -> list[TopK]:
    """The first k of each token's entries."""
    return [TopK(e.token_ids[:, :k], e.logprobs[:, :k], e.sampled_logprobs) for e in entries]


def write_jsonl(entries: list[TopK], path: Path) -> int:
    """One object a rollout."""
    with path.open("w") as file:
        for number, entry in enumerate(entries):
            rounded = np.round(entry.logprobs.astype(np.float64), 6).tolist()
            record = {"id": number, "token_ids": entry.token_ids.tolist(), "logprobs": rounded}
            file.write(json.dumps(record) + "\n")
    return path.stat().st_size


def write_nested(entries: list[TopK], path: Path) -> int:
    """list<list<int32>> and list<list<float>>, pyarrow's own defaults but for zstd."""
    table = pa.table(
        {
            "id": pa.array(range(len(entries))),
            "token_ids": pa.array(
                [list(e.token_ids) for e in entries], pa.list_(pa.list_(pa.int32()))
            ),
            "logprobs": pa.array(
                [list(e.logprobs) for e in entries], pa.list_(pa.list_(pa.float32()))
            ),
        }
    )
    pq.write_table(table, path, compression="zstd")
    return path.stat().st_size


def topk_rows(entries: list[TopK]) -> pa.Table:
    """Rows of table topk as stores of format 1 have them, without partition columns."""
    n, declared = len(entries), TABLES["topk"]
    rows = pa.table(
        {
            "rollout_id": [f"{number:016x}" for number in range(n)],
            "support": ["own"] * n,
            **topk.to_columns(entries),
            "run_id": ["benchmark"] * n,
            "created_at": pa.array([datetime.now(UTC)] * n, pa.timestamp("us", tz="UTC")),
        }
    )
    return rows.select([n for n in declared.column_names if n in rows.column_names])


def rank_table(entries: list[TopK]) -> topk_ranks.RankTable:
    """The rank table that a store would build of these rows."""
    ids = pa.chunked_array([topk.to_columns(entries)["token_ids"]])
    return topk_ranks.build([ids], int(max(e.token_ids.max() for e in entries)) + 1)


def write_ours(entries: list[TopK], path: Path) -> dict[str, int]:
    """Table topk; bytes of the file, of its ids and of its logprobs."""
    ranks = rank_table(entries)
    stored = topk_codec.encode(topk_rows(entries), ranks)
    sizes = {"s2d": parquet_writer.write(path, [stored], stored.schema), "ids": 0, "logprobs": 0}
    plain = topk_codec.decode(pq.read_table(path), {ranks.ranks_id: ranks})
    for entry, back in zip(entries, topk.from_columns(plain), strict=True):
        assert entry.logprobs.tobytes() == back.logprobs.tobytes(), "lossless"
        assert np.array_equal(entry.token_ids, back.token_ids), "lossless"
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            name = chunk.path_in_schema.split(".")[0]
            if name in topk_codec.ID_COLUMNS:
                sizes["ids"] += chunk.total_compressed_size
            elif name == "logprobs" or name in topk_codec.COLUMNS:
                sizes["logprobs"] += chunk.total_compressed_size
    return sizes


def sql_ratio(steps_file: Path, floats_file: Path, turns: int = 9) -> float:
    """Seconds to add up the logprobs of a file in steps, over those of a file of floats."""
    con = duckdb.connect(config={"threads": 1})
    topk_sql.register(con, lambda _: topk_ranks.IDENTITY)
    made = (
        "topk_logprobs(logprobs, k, NULL, top_logprobs, logit_unit, descending, unit_exponents, "
        "numbers, large_numbers, exact_entries)"
    )
    seconds: dict[str, list[float]] = {made: [], "logprobs": []}
    for _ in range(turns):
        for (value, taken), file in zip(seconds.items(), (steps_file, floats_file), strict=True):
            began = time.perf_counter()
            con.execute(f"SELECT sum(list_sum({value})) FROM read_parquet(?)", [str(file)])
            taken.append(time.perf_counter() - began)
    return median(seconds[made]) / median(seconds["logprobs"])


def main() -> None:
    """Score, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of a saved model; default: made rows")
    parser.add_argument("--texts", type=Path, help="JSONL: question, answer; with --model")
    parser.add_argument("--rows", type=int, default=200, help="solutions to score or make")
    parser.add_argument("--k", type=int, nargs="+", default=[20, 64, 128])
    parser.add_argument("--logits", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()

    if args.model:
        whole = score(args.model, args.texts, args.rows, max(args.k), args.logits == "bfloat16")
    else:
        whole = made_rows(args.rows, max(args.k))
    tokens = sum(len(entry.sampled_logprobs) for entry in whole)
    print(f"{len(whole)} solutions, {tokens:,} tokens; bytes per token")
    names = ["jsonl", "nested", "floats", "s2d", "ids", "logprobs"]
    names += ["jsonl/s2d", "nested/s2d", "floats/s2d", "SQL"]
    print(f"{'k':>5}" + "".join(f"{name:>12}" for name in names))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for k in args.k:
            entries = cut(whole, k)
            files = Path(scratch) / "ours.parquet", Path(scratch) / "floats.parquet"
            ours, plain = write_ours(entries, files[0]), topk_rows(entries)
            sizes = {
                "jsonl": write_jsonl(entries, Path(scratch) / "rows.jsonl") / tokens,
                "nested": write_nested(entries, Path(scratch) / "nested.parquet") / tokens,
                "floats": parquet_writer.write(files[1], [plain], plain.schema) / tokens,
                **{name: size / tokens for name, size in ours.items()},
            }
            ratios = [sizes[name] / sizes["s2d"] for name in ("jsonl", "nested", "floats")]
            ratios.append(sql_ratio(*files))
            rows.append({"k": k, **sizes, "sql": ratios[-1]})
            print(
                f"{k:>5}"
                + "".join(f"{size:>12.1f}" for size in sizes.values())
                + "".join(f"{ratio:>12.2f}" for ratio in ratios)
            )
    if args.json:
        args.json.write_text(json.dumps({"tokens": tokens, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
