"""Logprobs as steps: smaller for rounded logits, lossless for all, the same from NumPy and SQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.encoding import logit_steps
from s2d_store.encoding.list_columns import list_array
from s2d_store.encoding.topk import TopK
from s2d_store.rollouts.records import topk_table
from s2d_store.store import Store
from s2d_store.tables import parquet_writer

VOCAB = 4_096


def entries(lengths: list[int], ks: list[int], seed: int, rounding: int | None) -> list[TopK]:
    """Top-k of random logits, one row each; `rounding` keeps so many bits of their mantissa."""
    rng = np.random.default_rng(seed)
    rows = []
    for length, k in zip(lengths, ks, strict=True):
        logits_TV = (rng.normal(size=(length, VOCAB)) * 6).astype(np.float32)
        if rounding is not None:
            bits = logits_TV.view(np.int32) & np.int32(-1 << (23 - rounding))
            logits_TV = bits.view(np.float32)
        top_T1 = logits_TV.max(axis=1, keepdims=True)
        sums_T1 = np.exp(logits_TV - top_T1).sum(axis=1, keepdims=True, dtype=np.float32)
        logprobs_TV = (logits_TV - top_T1) - np.log(sums_T1)
        ids_TK = np.argsort(-logprobs_TV, axis=1, kind="stable")[:, :k]
        logprobs_TK = np.take_along_axis(logprobs_TV, ids_TK, axis=1)
        rows.append(TopK(ids_TK.astype(np.int32), logprobs_TK, logprobs_TK[:, -1]))
    return rows


def table(rows: list[TopK]) -> pa.Table:
    return topk_table([(f"r{i:03d}", row) for i, row in enumerate(rows)], "p", "own", "run")


def bits(lists: pa.ChunkedArray) -> list[bytes]:
    return [np.array(values, np.float32).tobytes() for values in lists.to_pylist()]


@pytest.mark.parametrize("mantissa", [7, 10])
def test_rounded_logits_become_steps_and_come_back_bit_for_bit(mantissa: int) -> None:
    made = table(entries([7, 1, 30], [5, 20, 20], 1, mantissa))
    stored = logit_steps.encode(made)
    assert stored.column("logprobs").null_count == 3
    assert set(stored.column("logit_unit").to_pylist()) <= set(logit_steps.UNITS)
    back = logit_steps.decode(stored)
    assert back.column_names == made.column_names
    assert bits(back.column("logprobs")) == bits(made.column("logprobs"))


def test_logits_that_were_not_rounded_keep_their_logprobs() -> None:
    made = table(entries([7, 9], [20, 20], 2, None))
    stored = logit_steps.encode(made)
    assert all(stored.column(name).null_count == 2 for name in logit_steps.COLUMNS)
    assert bits(stored.column("logprobs")) == bits(made.column("logprobs"))
    assert logit_steps.decode(stored).equals(made)


ODD = {
    "minus infinity": [-0.5, -np.inf],
    "minus zero": [-0.0, -1.0],
    "rising": [-3.0, -1.0],
    "far": [-1e-30, -3e38],
    "no entries": [],
}


@pytest.mark.parametrize("name", ODD)
def test_rows_of_any_floats_are_kept_beside_others(name: str) -> None:
    values = [ODD[name], [-0.25, -1.25], ODD[name], [-0.125, -8.0]]
    made = pa.table(
        {
            "k": pa.array([2] * 4, pa.int32()),
            "logprobs": list_array([np.array(v, np.float32) for v in values], pa.float32()),
        }
    )
    stored = logit_steps.encode(made)
    assert stored.column("logit_unit")[1].is_valid
    assert bits(logit_steps.decode(stored).column("logprobs")) == bits(made.column("logprobs"))


def test_slices_and_chunks_come_back() -> None:
    rounded, other = (
        table(entries([4, 3, 5], [6, 6, 6], seed, m)) for seed, m in ((3, 7), (4, None))
    )
    mixed = pa.concat_tables([rounded, other, rounded])
    whole = logit_steps.encode(mixed)
    assert whole.column("logprobs").null_count == 6
    part = whole.slice(2, 5)
    assert bits(logit_steps.decode(part).column("logprobs")) == bits(
        mixed.slice(2, 5).column("logprobs")
    )


def test_sql_and_files_give_what_was_committed(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "store")
    made = pa.concat_tables(
        [
            table(entries([4, 30], [6, 9], 5, 7)),
        ]
    )
    other = table(entries([8], [6], 6, None)).set_column(0, "rollout_id", pa.array(["r9"]))
    both = pa.concat_tables([made, other])
    assert store.commit({"topk": both}) == {"topk": 3}
    found = store.sql("SELECT rollout_id, logprobs, k FROM topk ORDER BY rollout_id")
    assert bits(found.to_arrow_table().column("logprobs")) == bits(both.column("logprobs"))
    one = store.sql("SELECT logprob FROM topk_of('r001') ORDER BY position, rank").to_arrow_table()
    assert one.column(0).to_numpy().tobytes() == bits(both.column("logprobs"))[1]
    (file,) = store.snapshot().files["topk"]
    raw = pq.read_table(file)
    assert raw.column("logit_steps").null_count == 1
    assert bits(logit_steps.decode(raw).column("logprobs")) == bits(both.column("logprobs"))


def test_every_leaf_is_compressed_at_its_level(tmp_path: Path) -> None:
    made = logit_steps.encode(table(entries([40], [16], 8, 7)))
    parquet_writer.write(tmp_path / "x.parquet", [made], made.schema)
    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {c.compression for c in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["logit_steps.list.element"].encodings
    assert set(parquet_writer.writer_options(synthetic_schema())["compression_level"]) == {
        "prompt_id",
        "messages.list.element.role",
        "messages.list.element.content",
        "messages.list.element.extra",
    }


def synthetic_schema() -> pa.Schema:
    from s2d_store.schema import TABLES

    schema = TABLES["prompts"].schema
    return pa.schema([schema.field("prompt_id"), schema.field("messages")])


def test_another_policys_order_is_in_steps_as_well() -> None:
    made = entries([20, 9], [12, 12], 9, 7)
    rng = np.random.default_rng(0)
    shuffled = [
        TopK(
            *(np.take_along_axis(a, order, 1) for a in (e.token_ids, e.logprobs)),
            e.sampled_logprobs,
        )
        for e in made
        for order in [rng.permuted(np.argsort(e.token_ids * 0, axis=1), axis=1)]
    ]
    stored = logit_steps.encode(table(shuffled))
    assert stored.column("logit_steps").null_count == 0
    wanted = [e.logprobs.tobytes() for e in shuffled]
    assert bits(logit_steps.decode(stored).column("logprobs")) == wanted
