"""Format tokens: what was sampled, id by id, with what the dataset says of each row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.datasets.exports.run import export
from s2d_store.datasets.exports.sequences import sequences
from s2d_store.datasets.exports.tokens import token_columns
from s2d_store.store import Store
from s2d_store.tables import fetch_rows as gathering
from tests.support import sampled_store
from tests.support.dataset_rows import read


def exported(store: Store, name: str, path: Path) -> pa.Table:
    export(store, name, "tokens", path)
    return pq.read_table(path)


@pytest.mark.parametrize("bucket_bytes", [2_000, 1 << 30])
def test_ids_are_the_sampled_ones_in_training_order(
    sampled: Store, tmp_path: Path, bucket_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering.fetch_rows, "__defaults__", (bucket_bytes, None))
    rows = exported(sampled, "w", tmp_path / "w.parquet").to_pylist()
    expected = sampled_store.sequences(sampled, "w")
    assert len(rows) == len(expected) == 32
    for row, one in zip(rows, expected, strict=True):
        n = len(one["prompt"])
        assert row["input_ids"] == one["prompt"] + one["response"]
        assert row["labels"] == [-100] * n + one["response"]
        assert row["loss_mask"] == [0] * n + [1] * len(one["response"])
        assert row["prompt_tokens"] == n
        assert row["finish_reason"] == one["finish_reason"]
        assert (row["row"], row["update"]) == (one["row"], one["update"])
        assert row["rollout_id"] == one["rollout_id"]
        assert row["response_logprobs"] == one["logprobs"]
    assert {row["finish_reason"] for row in rows} == {"length", "stop"}


def test_topk_is_a_list_of_entries_at_each_response_token(sampled: Store, tmp_path: Path) -> None:
    table = exported(sampled, "w", tmp_path / "w.parquet")
    held = read(sampled.folder / "datasets" / "w")
    for row, kept in zip(table.to_pylist(), held.to_pylist(), strict=True):
        ids, logprobs = row["topk_token_ids"], row["topk_logprobs"]
        assert len(ids) == len(kept["response_token_ids"])
        assert [len(at) for at in ids] == [sampled_store.K] * len(ids)
        assert np.concatenate(ids).tolist() == kept["topk_token_ids"]
        assert np.concatenate(logprobs).tolist() == kept["topk_logprobs"]
        assert row["support"] == "own" and row["scorer_policy_id"] == kept["scorer_policy_id"]


def test_rewards_and_advantages_go_along(sampled: Store, tmp_path: Path) -> None:
    table = exported(sampled, "g", tmp_path / "g.parquet")
    held = read(sampled.folder / "datasets" / "g")
    for name in ("reward", "advantage", "group_id", "update", "response_logprobs"):
        assert table.column(name).to_pylist() == held.column(name).to_pylist()
    assert "topk_token_ids" not in table.column_names


def test_both_forms_of_a_lock_give_the_same_file(sampled: Store, tmp_path: Path) -> None:
    from s2d_store.datasets.build import materialise

    named = exported(sampled, "w", tmp_path / "named.parquet")
    materialise(sampled, "w")
    assert exported(sampled, "w", tmp_path / "copied.parquet").equals(named)


def a_row(**lists: object) -> pa.Table:
    return pa.table(
        {
            "prompt_token_ids": pa.array([[1, 2], [3]], pa.list_(pa.int32())),
            "response_token_ids": pa.array([[5, 6, 7], [8]], pa.list_(pa.int32())),
            "finish_reason": ["stop", "length"],
            **lists,
        }
    )


def test_what_the_policy_did_not_sample_has_no_label() -> None:
    mask = pa.array([[True, False, True], None], pa.list_(pa.bool_()))
    table = a_row(response_mask=mask)
    made = token_columns(table)
    assert made.column("labels").to_pylist() == [[-100, -100, 5, -100, 7], [-100, 8]]
    assert made.column("loss_mask").to_pylist() == [[0, 0, 1, 0, 1], [0, 1]]
    assert made.column("input_ids").to_pylist() == [[1, 2, 5, 6, 7], [3, 8]]
    # Position t predicts token t + 1, never a token of the next row.
    laid = sequences(table)
    assert laid.predicting.tolist() == [False, True, False, True, False, True, False]


def test_entries_that_pad_a_ragged_topk_are_left_out() -> None:
    table = a_row(
        k=pa.array([2, 2], pa.int32()),
        topk_token_ids=pa.array([[5, 4, 6, -1, 7, 3], [8, -1]], pa.list_(pa.int32())),
        topk_logprobs=pa.array(
            [[-0.1, -3.0, -0.2, -np.inf, -0.3, -np.inf], [0.0, -np.inf]], pa.list_(pa.float32())
        ),
    )
    made = token_columns(table)
    assert made.column("topk_token_ids").to_pylist() == [[[5, 4], [6], [7, 3]], [[8]]]
    # An id of probability zero stays: it is an entry.
    assert made.column("topk_logprobs").to_pylist()[0][2] == [np.float32(-0.3), -np.inf]
