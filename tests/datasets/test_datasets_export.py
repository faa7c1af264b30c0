"""Exports: what HF datasets, TRL and verl read back is what the store holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s2d_store.datasets import export as exporting
from s2d_store.datasets.export import export
from s2d_store.errors import DatasetError, InputError, NotFoundError, StoreError
from s2d_store.store import Store
from s2d_store.tables import fetch_rows as gathering
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, built
from tests.support.synthetic import policy


@pytest.fixture
def locked(store: Store) -> Store:
    """Dataset `w`: 12 rollouts of 6 prompts, each used twice."""
    add_prompts(store, 6)
    add_policies(store, policy("teacher"))
    made = [Made(p, s, tokens=3 + p, reward=1.0) for p in range(6) for s in range(2)]
    add_rollouts(store, "gen", "teacher", made, role="teacher", scorer="teacher")
    built(store, "w", "warmup", teacher="teacher", passes=2, rows_per_update=5)
    return store


def messages(prompt: int) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": f"What is {prompt} + {prompt}? ☃"},
    ]


def rollouts_in_order(store: Store) -> list[str]:
    rows = store.sql("SELECT rollout_id FROM dataset_rows ORDER BY row").fetchall()
    return [row[0] for row in rows]


def loaded(kind: str, path: Path, cache: Path) -> list[dict[str, object]]:
    from datasets import load_dataset

    files = str(path)
    data = load_dataset(kind, data_files=files, split="train", cache_dir=str(cache))
    return list(data)


def test_plain_parquet(locked: Store, tmp_path: Path) -> None:
    from tests.support.dataset_rows import read

    path = tmp_path / "out" / "w.parquet"
    assert export(locked, "w", "parquet", path) == 24
    rows = loaded("parquet", path, tmp_path / "cache")
    assert rows == read(locked.root / "datasets" / "w").to_pylist()
    assert [row["rollout_id"] for row in rows] == rollouts_in_order(locked)


@pytest.mark.parametrize("bucket_bytes", [10_000, 1 << 30])
def test_trl_messages(
    locked: Store, tmp_path: Path, bucket_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering.fetch_rows, "__defaults__", (bucket_bytes, None))
    path = tmp_path / "w.jsonl"
    assert export(locked, "w", "trl-jsonl", path) == 24
    wanted = [
        {
            "prompt": messages(int(rollout.split("-")[1])),
            "completion": [{"role": "assistant", "content": f"the answer\nof {rollout} is ½"}],
        }
        for rollout in rollouts_in_order(locked)
    ]
    assert [json.loads(line) for line in path.read_text().splitlines()] == wanted
    assert loaded("json", path, tmp_path / "cache") == wanted


def test_trl_text(locked: Store, tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    assert export(locked, "w", "trl-text-jsonl", path) == 24
    first = json.loads(path.read_text().splitlines()[0])
    rollout = rollouts_in_order(locked)[0]
    number = int(rollout.split("-")[1])
    assert first == {
        "prompt": f"Answer.\n\nWhat is {number} + {number}? ☃",
        "completion": f"the answer\nof {rollout} is ½",
    }


def test_verl(locked: Store, tmp_path: Path) -> None:
    path = tmp_path / "verl.parquet"
    assert export(locked, "w", "verl", path, ability="sums") == 6
    rows = loaded("parquet", path, tmp_path / "cache")
    prompts = list(dict.fromkeys(int(r.split("-")[1]) for r in rollouts_in_order(locked)))
    for row, prompt in zip(rows, prompts, strict=True):
        assert list(row) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
        assert row["data_source"] == "made" and row["ability"] == "sums"
        assert row["prompt"] == messages(prompt)
        assert row["reward_model"] == {"style": "rule", "ground_truth": "1"}
        extra = row["extra_info"]
        assert isinstance(extra, dict)
        assert (extra["split"], extra["prompt_id"], extra["dataset"]) == (
            "train", f"p{prompt:03d}", "w"
        )  # fmt: skip
        assert rollouts_in_order(locked)[extra["index"]].startswith(f"gen-{prompt:03d}")


def test_verl_needs_gold_answers(store: Store, tmp_path: Path) -> None:
    add_prompts(store, 2, answer=None)
    add_policies(store, policy("student"))
    add_rollouts(store, "gen", "student", [Made(0), Made(1)])
    built(store, "s", "sft", policy="student", correct_only=False)
    with pytest.raises(DatasetError, match="dataset s has prompts without a gold answer"):
        export(store, "s", "verl", tmp_path / "verl.parquet")
    assert list(tmp_path.glob("*verl*")) + list(tmp_path.glob(".*")) == []
    assert export(store, "s", "trl-jsonl", tmp_path / "s.jsonl") == 2


@pytest.mark.parametrize("format_", exporting.FORMATS)
def test_an_export_that_fails_leaves_what_was_there(
    locked: Store, tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*: No space left on device"):
        export(locked, "w", format_, path)
    assert path.read_text() == "before"
    assert list(tmp_path.glob(".out*")) == []
    monkeypatch.undo()
    export(locked, "w", format_, path)
    assert path.read_bytes() != b"before"


def test_what_cannot_be_exported(locked: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="export format 'csv' is unknown"):
        export(locked, "w", "csv", tmp_path / "w.csv")
    with pytest.raises(NotFoundError, match="no dataset 'x'"):
        export(locked, "x", "parquet", tmp_path / "x.parquet")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        export(locked, "w", "parquet", file / "w.parquet")
