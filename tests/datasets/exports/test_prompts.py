"""Formats of distinct prompts: for trainers that sample anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from s2d_store.datasets.exports.run import export
from s2d_store.datasets.exports.sidecar import beside
from s2d_store.errors import DatasetError, InputError
from s2d_store.store import Store
from s2d_store.verifiers.verl_reward import compute_score
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, built
from tests.support.synthetic import NOW, policy, table


@pytest.fixture
def locked(store: Store) -> Store:
    """Dataset `w`: 12 rollouts of 6 prompts, each used twice."""
    add_prompts(store, 6)
    add_policies(store, policy("teacher"))
    made = [Made(p, s, tokens=3 + p, reward=1.0) for p in range(6) for s in range(2)]
    add_rollouts(store, "gen", "teacher", made, role="teacher", scorer="teacher")
    built(store, "w", "warmup", teacher="teacher", passes=2, rows_per_update=5)
    return store


@pytest.fixture
def unlabelled(store: Store) -> Store:
    """Dataset `s`: 2 prompts without an answer and one with."""
    add_prompts(store, 2, answer=None)
    labelled = {
        "prompt_id": "p009",
        "source": "made",
        "split": "train",
        "messages": [{"role": "user", "content": "9"}],
        "answer": "9",
        "meta": "{}",
        "created_at": NOW,
    }
    store.commit({"prompts": table("prompts", [labelled])}, fresh=True)
    add_policies(store, policy("student"))
    add_rollouts(store, "gen", "student", [Made(0), Made(1), Made(9)])
    built(store, "s", "sft", policy="student", correct_only=False)
    return store


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def first_use(store: Store) -> list[str]:
    rows = store.sql("SELECT prompt_id FROM dataset_rows ORDER BY row").fetchall()
    return list(dict.fromkeys(row[0] for row in rows))


def messages(prompt: int, more: str = "") -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": f"What is {prompt} + {prompt}? ☃{more}"},
    ]


def test_trl_grpo_has_a_line_per_distinct_prompt(locked: Store, tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    assert export(locked, "w", "trl-grpo", path, {"instruction": " In \\boxed{}."}).rows == 6
    assert lines(path) == [
        {
            "prompt": messages(int(prompt[1:]), " In \\boxed{}."),
            "solution": "1",
            "prompt_id": prompt,
            "source": "made",
        }
        for prompt in first_use(locked)
    ]


def test_verl_rl(locked: Store, tmp_path: Path) -> None:
    path = tmp_path / "verl.parquet"
    given = {"ability": "sums", "data_source": "openai/gsm8k"}
    assert export(locked, "w", "verl-rl", path, given).rows == 6
    for row, prompt in zip(pq.read_table(path).to_pylist(), first_use(locked), strict=True):
        assert list(row) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
        assert row["data_source"] == "openai/gsm8k" and row["ability"] == "sums"
        assert row["prompt"] == messages(int(prompt[1:]))
        assert row["reward_model"] == {"style": "rule", "ground_truth": "1"}
        extra = row["extra_info"]
        assert (extra["split"], extra["prompt_id"], extra["dataset"], extra["source"]) == (
            "train", prompt, "w", "made"
        )  # fmt: skip
    settings = json.loads(beside(path).read_text())["settings"]["verl"]
    assert settings == {"data.shuffle": False}


def test_verl_rl_without_a_name_says_which_function_grades(locked: Store, tmp_path: Path) -> None:
    path = tmp_path / "verl.parquet"
    export(locked, "w", "verl-rl", path)
    (source,) = set(pq.read_table(path).column("data_source").to_pylist())
    settings = json.loads(beside(path).read_text())["settings"]["verl"]
    assert source == "s2d"
    function = settings["reward.custom_reward_function.path"].removeprefix("pkg://")
    assert function == compute_score.__module__
    assert settings["reward.custom_reward_function.name"] == compute_score.__name__
    assert compute_score(source, "so it is \\boxed{72}", "72", {}) == {"score": 1.0, "judged": 1.0}
    assert compute_score(source, "it is \\boxed{71}", "72")["score"] == 0.0


def test_skyrl_and_open_instruct(locked: Store, tmp_path: Path) -> None:
    path = tmp_path / "sky.parquet"
    with pytest.raises(InputError, match="format skyrl needs --env-class"):
        export(locked, "w", "skyrl", path)
    export(locked, "w", "skyrl", path, {"env_class": "gsm8k"})
    row = pq.read_table(path).to_pylist()[0]
    number = int(first_use(locked)[0][1:])
    assert row["prompt"] == messages(number) and row["env_class"] == "gsm8k"
    assert row["reward_spec"] == {"method": "rule", "ground_truth": "1"}
    assert row["data_source"] == "made"
    path = tmp_path / "open.jsonl"
    export(locked, "w", "open-instruct", path)
    first = lines(path)[0]
    assert first["messages"] == messages(number)
    assert (first["ground_truth"], first["dataset"]) == ("1", "math")


@pytest.mark.parametrize("format_", ["trl-grpo", "verl-rl", "skyrl", "open-instruct"])
def test_prompts_without_an_answer_are_the_users_choice(
    unlabelled: Store, tmp_path: Path, format_: str
) -> None:
    path = tmp_path / "out"
    needed = {"env_class": "x"} if format_ == "skyrl" else {}
    with pytest.raises(DatasetError, match="dataset s has prompts without a gold answer"):
        export(unlabelled, "s", format_, path, needed)
    assert not path.exists() and not list(tmp_path.glob(".out*"))
    dropped = export(unlabelled, "s", format_, path, needed | {"unlabelled": "drop"})
    assert (dropped.rows, dropped.dropped) == (1, {"unlabelled": 2})
    assert export(unlabelled, "s", format_, path, needed | {"unlabelled": "keep"}).rows == 3


def test_messages_that_columns_cannot_hold_are_counted(store: Store, tmp_path: Path) -> None:
    add_prompts(store, 1)
    called = {"tool_calls": [{"id": "c", "function": {"name": "add", "arguments": "{}"}}]}
    conversation = [
        {"role": "user", "content": "add", "extra": None},
        {"role": "assistant", "content": None, "extra": json.dumps(called)},
    ]
    row = {
        "prompt_id": "p001",
        "source": "made",
        "split": "train",
        "messages": conversation,
        "answer": "2",
        "meta": "{}",
        "created_at": NOW,
    }
    store.commit({"prompts": table("prompts", [row])}, fresh=True)
    add_policies(store, policy("student"))
    add_rollouts(store, "gen", "student", [Made(0), Made(1)])
    built(store, "s", "sft", policy="student", correct_only=False)
    written = export(store, "s", "verl-rl", tmp_path / "s.parquet")
    assert (written.rows, written.dropped) == (1, {"other_fields": 1})
    # JSONL holds them as they are.
    assert export(store, "s", "trl-grpo", tmp_path / "s.jsonl").rows == 2
    found = {row["prompt_id"]: row["prompt"] for row in lines(tmp_path / "s.jsonl")}
    assert found["p001"][1]["tool_calls"] == called["tool_calls"]
