"""Formats with top-k: what their trainers' losses compute from them is s2d's own forward KL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from s2d_store.datasets.exports.axolotl_kd import _columns as axolotl_columns
from s2d_store.datasets.exports.distillkit import _columns as distillkit_columns
from s2d_store.datasets.exports.run import export
from s2d_store.errors import DatasetError
from s2d_store.store import Store
from tests.datasets.exports.test_tokens import a_row
from tests.support import sampled_store
from tests.support.dataset_rows import read

K = sampled_store.K


def opened(folder: Path) -> list[dict[str, Any]]:
    from datasets import load_from_disk

    return list(load_from_disk(str(folder)))


def test_distillkit_rows_stand_where_they_are_predicted(sampled: Store, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    assert export(sampled, "w", "distillkit", folder).rows == 32
    held = read(sampled.folder / "datasets" / "w").to_pylist()
    for row, kept in zip(opened(folder), held, strict=True):
        prompt, response = kept["prompt_token_ids"], kept["response_token_ids"]
        p, t = len(prompt), len(response)
        assert row["input_ids"] == prompt + response
        assert len(row["token_ids"]) == len(row["top_values"]) == p + t - 1
        # In the loss at position i: exactly where the next token is one of the response.
        assert row["labels"] == [-100] * (p - 1) + response + [-100]
        ids = np.array(row["token_ids"][p - 1 :])
        values = np.array(row["top_values"][p - 1 :], np.float32)
        assert ids.tolist() == np.reshape(kept["topk_token_ids"], (t, K)).tolist()
        assert values.tolist() == np.reshape(kept["topk_logprobs"], (t, K)).tolist()
        assert np.isfinite(row["top_values"]).all()


def test_axolotl_rows_are_aligned_with_what_they_predict(sampled: Store, tmp_path: Path) -> None:
    path = tmp_path / "w.parquet"
    export(sampled, "w", "axolotl-kd", path)
    held = read(sampled.folder / "datasets" / "w").to_pylist()
    for row, kept in zip(pq.read_table(path).to_pylist(), held, strict=True):
        prompt, response = kept["prompt_token_ids"], kept["response_token_ids"]
        p, t = len(prompt), len(response)
        assert row["input_ids"] == prompt + response
        assert row["labels"] == [-100] * p + response
        assert row["attention_mask"] == [1] * (p + t)
        mask = np.array(row["target_mask"])
        assert mask.shape == (p + t, K)
        assert mask.any(axis=1).tolist() == [False] * (p - 1) + [True] * t + [False]
        inside = np.array(row["target_token_ids"])[p - 1 : p + t - 1]
        assert inside.tolist() == np.reshape(kept["topk_token_ids"], (t, K)).tolist()
        logprobs = np.array(row["target_logprobs"], np.float32)
        assert (logprobs[mask == 0] == np.float32(-1e9)).all()
        assert logprobs[p - 1 : p + t - 1].tolist() == (
            np.reshape(kept["topk_logprobs"], (t, K)).tolist()
        )


def test_the_teacher_explains_the_tokens_that_rows_are_about(
    sampled: Store, tmp_path: Path
) -> None:
    """As axolotl's own check does: mass on token t + 1 is far above that on its neighbours."""
    path = tmp_path / "w.parquet"
    export(sampled, "w", "axolotl-kd", path)

    def mass(offset: int) -> float:
        found = []
        for row in pq.read_table(path).to_pylist():
            ids: NDArray[Any] = np.array(row["target_token_ids"])
            probs = np.exp(np.array(row["target_logprobs"]))
            valid = np.array(row["target_mask"]).any(axis=1)
            tokens = np.array(row["labels"])
            for at in np.flatnonzero(valid).tolist():
                if at + offset < len(tokens):
                    found.append(probs[at][ids[at] == tokens[at + offset]].sum())
        return float(np.mean(found))

    assert mass(1) > 2 * max(mass(0), mass(2))


def ragged(**changes: Any) -> pa.Table:
    lists = {
        "k": pa.array([2, 2], pa.int32()),
        "topk_token_ids": pa.array([[5, 4, 6, -1, 7, 3], [8, 2]], pa.list_(pa.int32())),
        "topk_logprobs": pa.array(
            [[-0.1, -3.0, -0.2, -np.inf, -0.3, -2.0], [0.0, -np.inf]], pa.list_(pa.float32())
        ),
        "row": [0, 1],
        "update": [1, 1],
        "rollout_id": ["a", "b"],
    }
    return a_row(**(lists | changes))


def test_single_entries_are_masked_or_refused() -> None:
    made = axolotl_columns(ragged(), 2).to_pylist()
    assert made[0]["target_mask"] == [[0, 0], [1, 1], [1, 0], [1, 1], [0, 0]]
    # Probability zero has no finite logprob: masked, as an entry that is not there.
    assert made[1]["target_mask"] == [[1, 0], [0, 0]]
    assert made[1]["target_logprobs"][0] == [0.0, -1e9]
    with pytest.raises(DatasetError, match="tokens with fewer than 2 entries of top-k"):
        distillkit_columns(ragged(), 2, "w")


def test_rows_of_smaller_k_are_masked_to_the_widest() -> None:
    narrow = ragged(
        k=pa.array([2, 1], pa.int32()),
        topk_token_ids=pa.array([[5, 4, 6, 1, 7, 3], [8]], pa.list_(pa.int32())),
        topk_logprobs=pa.array(
            [[-0.1, -3.0, -0.2, -2.0, -0.3, -2.0], [0.0]], pa.list_(pa.float32())
        ),
    )
    made = axolotl_columns(narrow, 3).to_pylist()
    assert made[0]["target_mask"][1] == [1, 1, 0] and made[1]["target_mask"][0] == [1, 0, 0]


def test_tokens_of_tools_are_not_distilled() -> None:
    table = ragged(
        topk_token_ids=pa.array([[5, 4, 6, 1, 7, 3], [8, 2]], pa.list_(pa.int32())),
        topk_logprobs=pa.array([[-0.1] * 6, [-0.1] * 2], pa.list_(pa.float32())),
        response_mask=pa.array([[True, False, True], None], pa.list_(pa.bool_())),
    )
    made = axolotl_columns(table, 2).to_pylist()[0]
    assert [any(at) for at in made["target_mask"]] == [False, True, False, True, False]
    made = distillkit_columns(table, 2, "w").to_pylist()[0]
    assert made["labels"] == [-100, 5, -100, 7, -100]


def test_the_sidecar_warns_of_what_would_shift_twice(sampled: Store, tmp_path: Path) -> None:
    export(sampled, "w", "distillkit", tmp_path / "d")
    export(sampled, "w", "axolotl-kd", tmp_path / "a.parquet")
    settings = json.loads((tmp_path / "d.s2d.json").read_text())["settings"]["distillkit"]
    assert "no cross_entropy" in settings["loss_functions"]
    record = json.loads((tmp_path / "a.parquet.s2d.json").read_text())
    assert record["settings"]["axolotl"]["kd_prepared_targets_alignment"] == "current"
    assert record["settings"]["axolotl"]["dataset_kwargs"] == {"skip_prepare_dataset": True}
    assert "renormalises" in record["tail"]
