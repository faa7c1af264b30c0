"""Locks: what verify finds when the lock, the files or the store were changed."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

import queries
from s2d_store.datasets.build import build, drop, materialise, read_lock, verify
from s2d_store.datasets.lock_file import dataset_id, with_checksum
from s2d_store.datasets.open import open_dataset
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError, NotFoundError
from s2d_store.store import Store
from tests.support import synthetic

WARMUP = queries.catalog()["warmup"]
GIVEN = {"teacher": "teacher", "rows_per_update": "4"}


@pytest.fixture
def locked(store: Store) -> Store:
    synthetic.fill(store, n_prompts=6, n=4, k=5)
    build(store, "w", WARMUP, GIVEN)
    return store


def edit(store: Store, change: dict[str, Any], *, seal: bool = False) -> None:
    path = store.root / "datasets" / "w" / "lock.json"
    lock = json.loads(path.read_text()) | change
    path.write_text(json.dumps(with_checksum(lock) if seal else lock))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"query_sql": "SELECT 1"},
        {"fingerprint": "0" * 32},
        {"versions": {"rollouts": 0}},
        {"counts": dict.fromkeys(["rows", "updates", "prompt_tokens", "response_tokens"], 1)},
        {"kind": "grpo"},
        {"scorers": []},
        {"params": {}},
    ],
)  # fmt: skip
def test_a_lock_edited_by_hand(locked: Store, change: dict[str, Any]) -> None:
    edit(locked, change)
    message = "the lock of dataset w was changed after it was written"
    with pytest.raises(DatasetError, match=message):
        verify(locked, "w")
    with pytest.raises(DatasetError, match=message):
        LockedDataset.open(locked.folder / "datasets" / "w")
    with pytest.raises(DatasetError, match=message):
        build(locked, "w", WARMUP, GIVEN)


def test_a_lock_edited_and_sealed_anew(locked: Store) -> None:
    edit(locked, {"kind": "opd"}, seal=True)
    with pytest.raises(DatasetError, match="the store recorded another kind"):
        verify(locked, "w")
    edit(locked, {"kind": "warmup", "seed": 3}, seal=True)
    with pytest.raises(DatasetError, match=r"its id \w+ should be"):
        verify(locked, "w")


def test_a_lock_that_is_no_json(locked: Store) -> None:
    (locked.root / "datasets" / "w" / "lock.json").write_text("{")
    with pytest.raises(DatasetError, match="the lock of dataset w is not readable"):
        verify(locked, "w")


def test_files_of_a_pinned_version_removed(locked: Store) -> None:
    for path in (locked.folder / "tables" / "topk").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(DatasetError) as error:
        verify(locked, "w")
    assert "dataset w cannot be rebuilt: files of its pinned versions are missing" in str(
        error.value
    )
    assert "restore the folder tables/ from a copy" in str(error.value)
    with pytest.raises(DatasetError, match=r"(?s)is missing.*a lock by reference"):
        LockedDataset.open(locked.folder / "datasets" / "w")


def test_parts_are_read_without_the_files_that_they_came_from(locked: Store) -> None:
    materialise(locked, "w")
    for path in (locked.folder / "tables" / "topk").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(DatasetError, match="cannot be rebuilt"):
        verify(locked, "w")
    assert sum(u.n_rows for u in LockedDataset.open(locked.folder / "datasets" / "w").updates())


def test_log_of_a_pinned_version_removed(locked: Store) -> None:
    edit(locked, {"versions": {"rollouts": 77}}, seal=True)
    with pytest.raises(NotFoundError, match="table rollouts has no version 77"):
        verify(locked, "w")


def test_a_part_that_is_gone(locked: Store) -> None:
    materialise(locked, "w")
    (locked.root / "datasets" / "w" / "part-00000.parquet").unlink()
    with pytest.raises(DatasetError, match="a file of dataset w cannot be read"):
        verify(locked, "w")
    with pytest.raises(DatasetError, match="is missing"):
        open_dataset(locked, "w")


def test_dropped_and_built_again_it_verifies(locked: Store) -> None:
    before = read_lock(locked, "w")
    drop(locked, "w")
    synthetic.fill(locked, n_prompts=6, n=2, k=5, run="later", name="later")
    again = build(locked, "w", WARMUP, GIVEN)
    assert again["dataset_id"] == before["dataset_id"] == dataset_id(again)
    assert again["versions"] != before["versions"]
    assert verify(locked, "w").matches


def test_an_unreadable_dataset_can_be_dropped(locked: Store) -> None:
    (locked.root / "datasets" / "w" / "lock.json").write_text("{")
    drop(locked, "w")
    with pytest.raises(NotFoundError, match="no dataset 'w' in this store"):
        drop(locked, "w")


def test_store_dataset_example(locked: Store) -> None:
    parser = doctest.DocTestParser()
    text = open_dataset.__doc__ or ""
    example = parser.get_doctest(
        text, {"store": locked, "open_dataset": open_dataset}, "open_dataset", None, 0
    )
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert (runner.tries, runner.failures) == (len(example.examples), 0)
    assert runner.tries >= 4
    with pytest.raises(NotFoundError, match="no dataset 'x' in this store"):
        open_dataset(locked, "x")


def test_every_kind_verifies_in_a_copied_store(locked: Store, tmp_path: Path) -> None:
    import shutil

    build(locked, "s", queries.catalog()["sft"], {"policy": "teacher", "passes": "2"}, seed=3)
    shutil.copytree(locked.folder, tmp_path / "copy")
    copied = Store.open(tmp_path / "copy")
    shutil.rmtree(locked.folder)
    assert verify(copied, "w").matches and verify(copied, "s").matches
