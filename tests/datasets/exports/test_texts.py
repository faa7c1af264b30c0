"""Formats that hold text: what they leave out, and that they say how their tokens differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import queries
from s2d_store.datasets.build import build
from s2d_store.datasets.exports.run import export
from s2d_store.datasets.exports.sidecar import beside
from s2d_store.datasets.exports.trl_dpo import best_and_worst
from s2d_store.errors import DatasetError, InputError
from s2d_store.store import Store
from tests.support import made_stores, sampled_store
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, built
from tests.support.synthetic import policy


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trl_sft_leaves_out_what_was_cut_off(sampled: Store, tmp_path: Path) -> None:
    path, kept = tmp_path / "w.jsonl", tmp_path / "all.jsonl"
    written = export(sampled, "w", "trl-sft", path)
    expected = sampled_store.sequences(sampled, "w")
    ended = [row for row in expected if row["finish_reason"] == "stop"]
    assert written.dropped == {"truncated": len(expected) - len(ended)}
    found = lines(path)
    assert [row["completion"] for row in found] == [
        [{"role": "assistant", "content": row["response_text"]}] for row in ended
    ]
    assert all(row["prompt"][0]["role"] == "user" for row in found)
    assert export(sampled, "w", "trl-sft", kept, {"truncated": "keep"}).rows == len(expected)


def test_rows_that_become_other_tokens_are_counted(
    tmp_path: Path, questions: Path, teacher_folder: Path
) -> None:
    """A template that ends as the policy did makes those rows the same that lost nothing."""
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}<eos>{% else %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    records = made_stores.read(questions)
    store = sampled_store.make(
        tmp_path / "store", records, teacher_folder, n=12, chat_template=template
    )
    sampled_store.build_all(store)
    written = export(store, "w", "trl-sft", tmp_path / "w.jsonl")
    ended = [r for r in sampled_store.sequences(store, "w") if r["finish_reason"] == "stop"]
    # Special tokens within the response vanish from its text: <pad>, <bos>, <unk>.
    lost = sum(any(token < 4 and token != 2 for token in row["response"]) for row in ended)
    assert 0 < lost < len(ended)
    counted = written.facts["retokenised"]
    assert counted == {"same": len(ended) - lost, "longer": 0, "other": lost, "rejected": 0}
    # The template is not the policy's own: the sidecar has its text.
    record = json.loads(beside(tmp_path / "w.jsonl").read_text())
    assert record["chat_template"] == template
    assert "chat_template_path" in record["settings"]["trl.SFTConfig"]


def test_the_tokenizer_that_counts_may_be_named_or_missing(
    sampled: Store, tmp_path: Path, student_folder: Path
) -> None:
    path = tmp_path / "w.jsonl"
    none = export(sampled, "w", "trl-sft", path, {"tokenizer": "none"})
    assert none.facts == {"retokenised": None, "retokenised_unknown": "not asked for"}
    named = export(sampled, "w", "trl-sft", path, {"tokenizer": str(student_folder)})
    assert sum(named.facts["retokenised"].values()) == named.rows
    with pytest.raises(InputError, match="has no tokenizer"):
        export(sampled, "w", "trl-sft", path, {"tokenizer": str(tmp_path)})


def test_without_its_tokenizer_an_export_says_so(store: Store, tmp_path: Path) -> None:
    add_prompts(store, 2)
    add_policies(store, policy("teacher"))
    add_rollouts(store, "gen", "teacher", [Made(0), Made(1)], role="teacher", scorer="teacher")
    built(store, "w", "warmup", teacher="teacher", correct_only=False)
    facts = export(store, "w", "trl-sft", tmp_path / "w.jsonl").facts
    assert facts["retokenised"] is None
    assert "cannot be loaded" in facts["retokenised_unknown"]


def test_what_was_sampled_without_a_template_is_text(
    tmp_path: Path, questions: Path, teacher_folder: Path
) -> None:
    records = made_stores.read(questions)
    store = sampled_store.make(
        tmp_path / "store", records, teacher_folder, n=12, no_chat_template=True
    )
    sampled_store.build_all(store)
    written = export(store, "w", "trl-sft", tmp_path / "w.jsonl")
    rows = lines(tmp_path / "w.jsonl")
    assert rows and all(isinstance(row["prompt"], str) for row in rows)
    assert rows[0]["prompt"] in {record["question"] for record in records}
    assert written.facts["retokenised"]["same"] > 0
    with pytest.raises(DatasetError, match="sampled without a chat template"):
        export(store, "w", "verl-sft", tmp_path / "w.parquet")


def test_variables_of_the_template_go_along(
    tmp_path: Path, questions: Path, teacher_folder: Path
) -> None:
    records = made_stores.read(questions)[:4]
    kwargs = (("enable_thinking", False),)
    store = sampled_store.make(
        tmp_path / "store", records, teacher_folder, n=8, chat_template_kwargs=kwargs
    )
    sampled_store.build_all(store)
    export(store, "w", "trl-sft", tmp_path / "w.jsonl", {"truncated": "keep"})
    assert all(
        row["chat_template_kwargs"] == {"enable_thinking": False}
        for row in lines(tmp_path / "w.jsonl")
    )
    export(store, "w", "verl-sft", tmp_path / "w.parquet", {"truncated": "keep"})
    table = pq.read_table(tmp_path / "w.parquet")
    assert set(table.column("enable_thinking").to_pylist()) == {False}


def test_two_templates_are_refused(sampled: Store, tmp_path: Path, teacher_folder: Path) -> None:
    from s2d_store.engines.base import SamplingParams
    from s2d_store.rollouts.generate import generate
    from s2d_store.rollouts.generate_config import GenerateConfig

    params = SamplingParams(max_tokens=4)
    usual: dict[str, Any] = {"policy": str(teacher_folder), "role": "teacher", "params": params}
    generate(sampled, GenerateConfig(**usual, n=1, top_logprobs=5, no_chat_template=True))
    given = {"teacher": "teacher", "correct_only": "false", "finished_only": "false"}
    build(sampled, "mixed", queries.catalog()["warmup"], given)
    with pytest.raises(DatasetError, match="mixes rollouts sampled with a chat template and"):
        export(sampled, "mixed", "trl-sft", tmp_path / "w.jsonl")
    assert export(sampled, "mixed", "tokens", tmp_path / "w.parquet").rows == 40


def test_trl_kto_labels_by_reward(sampled: Store, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    rewards = pq.read_table(sampled.root / "datasets" / "g" / "rows.parquet")["reward"].to_pylist()
    export(sampled, "g", "trl-kto", path, {"truncated": "keep"})
    assert [row["label"] for row in lines(path)] == [reward > 0 for reward in rewards]
    written = export(sampled, "g", "trl-kto", path, {"truncated": "keep", "above": 1.5})
    assert [row["label"] for row in lines(path)] == [reward > 1.5 for reward in rewards]
    assert written.facts["desired"] == sum(reward > 1.5 for reward in rewards)
    # A dataset that no reward chose holds none.
    with pytest.raises(DatasetError, match="no row of dataset s has a reward"):
        export(sampled, "s", "trl-kto", path)


def test_trl_dpo_pairs_the_best_with_the_worst(sampled: Store, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    written = export(sampled, "g", "trl-dpo", path, {"truncated": "keep"})
    found = lines(path)
    graded = sampled.sql(
        "SELECT r.response_text, w.reward FROM rollouts AS r JOIN rewards AS w USING (rollout_id)"
    ).fetchall()
    reward_of: dict[str, set[float]] = {}
    for text, reward in graded:
        reward_of.setdefault(text, set()).add(reward)
    groups = len(
        set(pq.read_table(sampled.root / "datasets/g/rows.parquet")["group_id"].to_pylist())
    )
    assert written.rows == len(found) == groups
    for row in found:
        better, worse = (row[name][0]["content"] for name in ("chosen", "rejected"))
        assert max(reward_of[better]) > min(reward_of[worse])
        assert row["prompt"][0]["role"] == "user"
    assert written.dropped == {"no_pair": 28 - 2 * groups}


def test_pairs_of_a_group() -> None:
    rewards = np.array([0.0, 1.0, 1.0, 0.5, np.nan, 0.0, 2.0])
    groups = ["a", "a", "a", "a", "a", "b", "b"]
    rollouts = ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]
    assert best_and_worst(groups, rollouts, rewards, 1) == [(1, 0), (6, 5)]
    # The second best of group a is as good as the best; 0.5 is its second worst.
    assert best_and_worst(groups, rollouts, rewards, 5) == [(1, 0), (2, 3), (6, 5)]
    # A rollout that is used twice is one; equal rewards make no pair.
    assert best_and_worst(["a"] * 4, ["x", "y", "x", "y"], np.array([1.0, 0, 1, 0]), 9) == [(0, 1)]
    assert best_and_worst(["a", "a"], ["x", "y"], np.array([1.0, 1.0]), 9) == []


def test_datasets_without_rewards_are_refused(store: Store, tmp_path: Path) -> None:
    add_prompts(store, 1)
    add_policies(store, policy("student"), policy("teacher"))
    add_rollouts(store, "gen", "student", [Made(0), Made(0, 1)], scorer="teacher", support="policy")
    built(store, "o", "opd", student="student", teacher="teacher")
    for format_ in ("trl-kto", "trl-dpo"):
        with pytest.raises(DatasetError, match=r"dataset o \(opd\) has no column reward"):
            export(store, "o", format_, tmp_path / "o.jsonl")


def test_verl_sft_holds_whole_conversations(sampled: Store, tmp_path: Path) -> None:
    path = tmp_path / "w.parquet"
    export(sampled, "w", "verl-sft", path, {"truncated": "keep"})
    expected = sampled_store.sequences(sampled, "w")
    for row, one in zip(pq.read_table(path).to_pylist(), expected, strict=True):
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert row["messages"][1]["content"] == one["response_text"]
        assert row["row"] == one["row"]
