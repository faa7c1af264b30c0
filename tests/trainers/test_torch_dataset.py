"""Locked rows as a torch Dataset: what others' loops get is what the lock holds, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from s2d_store.errors import InputError
from tests.support.locked_datasets import bigram_rows, write_locked
from trainers.torch_dataset import LockedRows

UPDATES = [1, 1, 1, 2, 2, 2, 2, 3, 3]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return bigram_rows(UPDATES, k=4)


@pytest.fixture
def folder(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    return write_locked(tmp_path / "data", rows, rows_a_part=4, rows_a_group=2)


def check(row: dict[str, Any], kept: dict[str, Any], number: int) -> None:
    prompt, response = list(kept["prompt_token_ids"]), list(kept["response_token_ids"])
    assert row["input_ids"].tolist() == prompt + response
    assert row["labels"].tolist() == [-100] * len(prompt) + response
    assert (row["row"], row["update"]) == (number, kept["update"])


def test_rows_come_in_any_order_that_is_asked_for(folder: Path, rows: list[dict[str, Any]]) -> None:
    data = LockedRows(folder, topk=True, scalars=("advantage",))
    assert len(data) == len(rows)
    asked = [8, 0, 5, 5, 3, 1]
    for number, row in zip(asked, data.__getitems__(asked), strict=True):
        check(row, rows[number], number)
        k = rows[number]["k"]
        ids = np.reshape(rows[number]["topk_token_ids"], (-1, k))
        assert torch.equal(row["topk_ids"], torch.from_numpy(ids.astype(np.int64)))
        logprobs = np.reshape(rows[number]["topk_logprobs"], (-1, k)).astype(np.float32)
        assert torch.equal(row["topk_logprobs"], torch.from_numpy(logprobs))
        assert row["advantage"] == rows[number]["advantage"]
        assert sorted(row) == sorted(data.column_names)
    assert [data[i]["row"] for i in range(len(data))] == list(range(9))


def test_a_batch_is_an_update(folder: Path, rows: list[dict[str, Any]]) -> None:
    data = LockedRows(folder)
    loader = DataLoader(data, batch_sampler=data.batches(), collate_fn=list)
    batches = list(loader)
    assert [[row["update"] for row in batch] for batch in batches] == [[1] * 3, [2] * 4, [3] * 2]
    for batch in batches:
        for row in batch:
            check(row, rows[row["row"]], row["row"])


def test_an_update_is_cut_into_pieces_for_every_process(folder: Path) -> None:
    data = LockedRows(folder)
    assert data.batches(2) == [[0, 1], [2], [3, 4], [5, 6], [7], [8]]
    shares = [data.batches(1, rank, 2) for rank in range(2)]
    assert shares == [[[0, 1], [3, 4], [7]], [[2], [5, 6], [8]]]
    with pytest.raises(InputError, match="update 1 of dataset data has 3 rows"):
        data.batches(2, 0, 2)


def test_what_the_policy_did_not_sample_has_no_label(tmp_path: Path) -> None:
    made = bigram_rows([1, 1])
    lengths = [len(row["response_token_ids"]) for row in made]
    made[0]["response_mask"] = [False] + [True] * (lengths[0] - 1)
    made[1]["response_mask"] = None
    data = LockedRows(write_locked(tmp_path / "masked", made))
    prompt = len(made[0]["prompt_token_ids"])
    assert data[0]["labels"].tolist() == (
        [-100] * (prompt + 1) + list(made[0]["response_token_ids"][1:])
    )
    assert (data[1]["labels"] != -100).sum() == lengths[1]


def test_what_a_dataset_lacks_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    columns = ("row", "update", "rollout_id", "prompt_token_ids", "response_token_ids")
    folder = write_locked(tmp_path / "bare", rows, columns=columns)
    with pytest.raises(InputError, match="has no k, topk_token_ids, topk_logprobs"):
        LockedRows(folder, topk=True)
    with pytest.raises(IndexError):
        LockedRows(folder)[9]
