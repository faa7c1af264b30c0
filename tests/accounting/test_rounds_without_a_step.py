"""A GRPO round in which no group's rewards differ trains on nothing, and has spent its labels."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import queries
from s2d_store.accounting.policy_cost import policy_costs
from s2d_store.datasets.build import build
from s2d_store.store import Store
from tests.support import spending
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, policy_id
from tests.support.synthetic import policy


def round_(store: Store, number: int, start: str, prompts: Iterable[int], mixed: bool) -> None:
    """One round of stage3 as a recipe records it: 2 rollouts of 4 tokens for each prompt."""
    sampled, name = f"gen-{number}", f"round-{number}"
    made = [Made(p, s, reward=float(s == 0 and mixed)) for p in prompts for s in range(2)]
    add_rollouts(store, sampled, start, made)
    spending.add_run(store, sampled, "generate", "stage3")
    given = {"policy": start, "runs": sampled, "prompts_per_update": "8"}
    lock = build(store, name, queries.catalog()["grpo"], given, may_be_empty=True)
    settings = {"policy_id": policy_id(start), "dataset_id": lock["dataset_id"]}
    if not mixed:
        assert lock["counts"]["rows"] == 0
        spending.add_run(store, f"train-{number}", "train", "stage3", settings)
        return
    spending.train(store, f"train-{number}", lock["dataset_id"], "stage3", config=settings)
    add_policies(
        store, policy(name, parent=policy_id(start)) | {"run_id": f"train-{number}", "update": 1}
    )


@pytest.fixture
def rounds(store: Store) -> Store:
    """Of four rounds of stage3 from `bridge`, 4 prompts each, the second alone took a step."""
    add_prompts(store, 20)
    add_policies(store, policy("bridge"))
    round_(store, 0, "bridge", range(4), mixed=False)
    round_(store, 1, "bridge", range(4, 8), mixed=True)
    round_(store, 2, "round-1", range(8, 12), mixed=False)
    round_(store, 3, "round-1", range(10, 14), mixed=False)
    return store


def test_the_books_hold_the_labels_of_rounds_without_a_step(rounds: Store) -> None:
    text = "SELECT name, labels, label_visits, graded_labels, updates FROM spent_in('train') "
    stage = rounds.sql(f"{text} WHERE scope IN ('stage', 'role')").fetchall()
    assert sorted(stage) == [("stage3", 14, 4, 14, 1), ("student", 14, 4, 14, 1)]
    by_run = rounds.sql(f"{text} WHERE scope = 'run' AND name LIKE 'train-%' ORDER BY name")
    assert by_run.fetchall() == [
        ("train-0", 4, 0, 0, 0),
        ("train-1", 4, 4, 0, 1),
        ("train-2", 4, 0, 0, 0),
        ("train-3", 4, 0, 0, 0),
    ]
    (found,) = rounds.sql(queries.catalog()["labels_by_stage"].sql).fetchall()
    assert found[:5] == ("student", "stage3", 4, 1, 14), "runs, updates, labels"


def test_the_lineage_of_the_stages_policy_holds_all_its_rounds(rounds: Store) -> None:
    bridge, made = policy_costs(rounds, ["bridge", "round-1"])
    assert (made["labels"], made["label_visits"], made["updates"]) == (14, 4, 1)
    assert made["generated_tokens"] == 4 * 4 * 2 * 4, "of every round's rollouts"
    assert not any(bridge.values()), "what it was before the stage began"
    spent = rounds.sql("SELECT count(*) FROM spent_on_line('round-1')").fetchall()
    assert spent == [(14,)], "a replay may visit them"


def test_another_arm_from_the_same_policy_is_not_charged(rounds: Store) -> None:
    add_rollouts(rounds, "gen-arm", "bridge", [Made(19, s, reward=float(s)) for s in range(2)])
    given = {"policy": "bridge", "runs": "gen-arm"}
    lock = build(rounds, "arm", queries.catalog()["grpo"], given)
    spending.train(rounds, "train-arm", lock["dataset_id"], "cold")
    arm = policy("arm", parent=policy_id("bridge")) | {"run_id": "train-arm", "update": 1}
    add_policies(rounds, arm)
    (cost,) = policy_costs(rounds, ["arm"])
    assert (cost["labels"], cost["generated_tokens"]) == (1, 8)


def test_the_audit_of_splits_sees_labels_of_rounds_without_a_step(rounds: Store) -> None:
    found = rounds.sql(
        "SELECT stage, count(DISTINCT prompt_id) FROM labels_by_stage(NULL) GROUP BY 1"
    )
    assert found.fetchall() == [("student/stage3", 14)]
