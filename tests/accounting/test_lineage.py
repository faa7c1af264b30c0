"""Lineage: the whole cost of a policy, each part once, and the walk back from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import queries
from s2d_store.accounting import policy_cost
from s2d_store.accounting.folded_trace import fold
from s2d_store.accounting.lineage import trace
from s2d_store.errors import NotFoundError
from s2d_store.sql import parameters
from s2d_store.store import Store
from tests.support import made_stores, spending, synthetic

FORWARD = 2 * 1000 * (spending.PROMPT_TOKENS + spending.TOKENS)
BACKWARD = 3 * FORWARD


@pytest.fixture
def whole(spent: Store, tmp_path: Path) -> Store:
    return made_stores.copy(spent, tmp_path / "whole")


def rows(store: Store, name: str, **given: str) -> list[dict[str, Any]]:
    query, con = queries.catalog()[name], store.connect()
    relation = con.sql(
        query.sql, params=parameters.bind(query, parameters.resolve(query, given, con))
    )
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def cost(store: Store, policy: str, **given: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Amounts (labels, graded, generated, scored, trained, updates) by level and names."""
    result = {}
    for row in rows(store, "lineage", policy=policy, **given):
        key = tuple(row[k] for k in ("level", "side", "stage", "policy") if row[k] is not None)
        result[key] = tuple(list(row.values())[4:10])
    return result


def test_the_whole_cost_of_a_student_by_side_stage_and_policy(whole: Store) -> None:
    found = cost(whole, "final")
    assert found == {
        ("policy", "upstream", "rl", "teacher"): (0, 4, 40, 0, 0, 0),
        ("policy", "upstream", "rl", "teacher-rl"): (4, 0, 0, 0, 40, 2),
        ("policy", "downstream", "warmup", "teacher-rl"): (0, 4, 40, 0, 0, 0),
        ("policy", "downstream", "warmup", "warm"): (3, 0, 0, 0, 30, 2),
        ("policy", "downstream", "opd", "warm"): (0, 2, 20, 0, 0, 0),
        ("policy", "downstream", "opd", "teacher-rl"): (0, 0, 0, 20, 0, 0),
        ("policy", "downstream", "opd", "opd"): (0, 0, 0, 0, 20, 1),
        ("policy", "downstream", "grpo", "opd"): (0, 2, 20, 0, 0, 0),
        ("policy", "downstream", "grpo", "final"): (4, 0, 0, 0, 40, 2),
        ("side", "upstream"): (4, 4, 40, 0, 40, 2),
        # c d e of the warmup, a e f g of the last stage: e counts once.
        ("side", "downstream"): (6, 7, 80, 20, 90, 5),
        ("stage", "rl"): (4, 4, 40, 0, 40, 2),
        ("stage", "warmup"): (3, 4, 40, 0, 30, 2),
        ("stage", "opd"): (0, 2, 20, 20, 20, 1),
        ("stage", "grpo"): (4, 2, 20, 0, 40, 2),
        # a b c d and c d e f g of all: seven prompts; x was graded, never trained on.
        ("all",): (7, 8, 120, 20, 130, 7),
    }


def test_flops_follow_from_tokens_and_parameters(whole: Store) -> None:
    total = rows(whole, "lineage", policy="final")[-1]
    # 12 rollouts sampled, 2 scored, 13 row uses trained on.
    assert total["flops"] == pytest.approx(FORWARD * (12 + 2) + BACKWARD * 13)


def test_a_policy_on_the_way_costs_what_is_behind_it_alone(whole: Store) -> None:
    assert cost(whole, "teacher-rl")["all",] == (4, 4, 40, 0, 40, 2)
    assert cost(whole, "warm")["all",] == (5, 5 + 1, 80, 0, 70, 4)
    assert cost(whole, "base")["all",] == (0, 0, 0, 0, 0, 0)


def test_a_policy_made_half_way_through_a_run_counts_up_to_there(whole: Store) -> None:
    spending.add_policy(whole, "half", "opd", "train-f", 1)
    found = cost(whole, "half")
    assert found["policy", "downstream", "grpo", "half"] == (2, 0, 0, 0, 20, 1), "only e and f"
    assert trace(whole, "half")["run"]["updates"] == 1
    assert trace(whole, "final")["run"]["updates"] == 2


def test_a_dataset_reached_after_the_policy_was_made_is_not_behind_it(store: Store) -> None:
    spending.add_policy(store, "base")
    first = spending.generate(store, "g1", "base", "ab")
    second = spending.generate(store, "g2", "base", "cd")
    spending.dataset(store, "one", "grpo", first)
    spending.dataset(store, "two", "grpo", second)
    spending.train(store, "run", "id-one", "rl")
    updates = store.sql("FROM updates").to_arrow_table().to_pylist()
    later = [row | {"update": 2, "dataset_id": "id-two"} for row in updates]
    store.commit({"updates": synthetic.table("updates", later)})
    spending.add_policy(store, "early", "base", "run", 1)
    spending.add_policy(store, "late", "base", "run", 2)
    assert cost(store, "early")["all",][2] == 20
    assert cost(store, "late")["all",][2] == 40
    assert [d["name"] for d in trace(store, "early")["run"]["datasets"]] == ["one"]
    assert [d["name"] for d in trace(store, "late")["run"]["datasets"]] == ["one", "two"]


def test_rollouts_that_serve_teacher_and_student_count_once_upstream(store: Store) -> None:
    """A diamond: one base, whose rollouts train the teacher and then warm up the student."""
    spending.add_policy(store, "base")
    shared = spending.generate(store, "g", "base", "ab", stage="both", role="teacher")
    spending.train(store, "train-t", spending.dataset(store, "t", "grpo", shared), "rl")
    spending.add_policy(store, "teacher", "base", "train-t", 1)
    bridge = spending.generate(store, "gt", "teacher", "c", stage="warmup", role="teacher")
    mixed = spending.dataset(store, "w", "warmup", shared + bridge, rows_per_update=3)
    spending.train(store, "train-s", mixed, "warmup")
    spending.add_policy(store, "student", "base", "train-s", 1)
    found = cost(store, "student")
    assert found["policy", "upstream", "both", "base"] == (0, 0, 20, 0, 0, 0)
    assert ("policy", "downstream", "both", "base") not in found
    assert found["all",] == (0, 0, 30, 0, 50, 2)


def test_evaluation_is_counted_only_when_asked_for(whole: Store) -> None:
    spending.train(whole, "peek", spending.dataset(whole, "p", "grpo", ["eval-v"]), "x")
    spending.add_policy(whole, "peeked", "final", "peek", 1)
    before = cost(whole, "final")["all",][2]
    assert cost(whole, "peeked")["all",][2] == before
    assert cost(whole, "peeked", purpose="")["all",][2] == before + 20


def test_scorers_of_an_older_lock_are_all_that_scored(whole: Store) -> None:
    own = ["gs-e", "gs-f"]
    old = spending.dataset(whole, "old", "opd", own, scorers=None)
    spending.train(whole, "train-old", old, "opd")
    spending.add_policy(whole, "old", "warm", "train-old", 1)
    assert cost(whole, "old")["stage", "opd"][3] == 40, "teacher-rl and stranger scored them"
    assert cost(whole, "opd")["stage", "opd"][3] == 20


def test_the_scoring_of_a_reference_policy_counts_once(whole: Store) -> None:
    """A KL term reads its logprobs; two rounds of the same rollouts are scored once."""
    stranger, before = spending.policy_id("stranger"), cost(whole, "final")["all",]
    now, older = {"references": [stranger]}, {"params": {"reference": stranger}}
    for name, start, locked in (("one", "final", now), ("two", "one", older)):
        made = spending.dataset(whole, f"d-{name}", "grpo", ["gs-e", "gs-f"], **locked)
        spending.train(whole, f"train-{name}", made, "kl")
        spending.add_policy(whole, name, start, f"train-{name}", 1)
        assert cost(whole, name)["policy", "downstream", "opd", "stranger"] == (0, 0, 0, 20, 0, 0)
        assert cost(whole, name)["all",][3] == before[3] + 20


def circle(store: Store) -> None:
    for name, parent in (("a", "b"), ("b", "a")):
        spending.add_policy(store, name, parent, f"train-{name}", 1)
    for name, other in (("a", "b"), ("b", "a")):
        rollouts = spending.generate(store, f"g{name}", other, "pq")
        made = spending.dataset(store, name, "grpo", rollouts)
        spending.train(store, f"train-{name}", made, "rl")


@pytest.mark.timeout(60)
def test_records_that_run_in_a_circle_still_end(store: Store) -> None:
    circle(store)
    assert cost(store, "a")["all",] == (0, 0, 40, 0, 40, 2)
    assert {row["policy"] for row in rows(store, "ancestry", policy="a")} == {"a", "b"}
    assert trace(store, "a")["parent"]["name"] == "b"


def test_ancestry_names_each_policy_once_with_its_relations(whole: Store) -> None:
    found = {
        r["policy"]: (r["steps"], r["relations"]) for r in rows(whole, "ancestry", policy="final")
    }
    assert found == {
        "final": (0, None),
        "opd": (1, "parent, sampled"),
        "warm": (1, "parent, sampled"),
        "teacher-rl": (2, "sampled, scored"),
        "base": (2, "parent"),
        "teacher": (3, "parent, sampled"),
    }


def nodes(found: Any) -> list[dict[str, Any]]:
    """Every policy in a trace, in full or mentioned."""
    if isinstance(found, list):
        return [node for item in found for node in nodes(item)]
    if not isinstance(found, dict):
        return []
    own = [found] if "policy_id" in found and "name" in found else []
    return own + [node for value in found.values() for node in nodes(value)]


def test_a_trace_holds_every_step_and_each_policy_once(whole: Store) -> None:
    found = trace(whole, "final")
    full = [n["name"] for n in nodes(found) if not n.get("seen")]
    assert sorted(full) == ["base", "final", "opd", "teacher", "teacher-rl", "warm"]
    assert found["parent"] == {
        "policy_id": spending.policy_id("opd"),
        "name": "opd",
        "seen": True,
    }
    run = found["run"]
    assert (run["run_id"], run["stage"], run["status"], run["code_version"]) == (
        "train-f",
        "grpo",
        "done",
        "1",
    )
    (dataset,) = run["datasets"]
    assert (dataset["name"], dataset["query"], dataset["seed"]) == ("f", "grpo", 7)
    assert dataset["versions"] == {"rollouts": 3} and dataset["fingerprint"] == "f"
    assert [(g["run_id"], g["rows"]) for g in dataset["generate_runs"]] == [("gf", 2), ("gs", 2)]
    assert dataset["verifiers"] == [
        {
            "verifier": "math-verify",
            "verifier_version": "1",
            "rows": 4,
            "withdrawn": None,
            "run": {"run_id": "verify", "recorded": False},
        }
    ]
    assert dataset["score_runs"] == [], "GRPO learns from no scores"
    opd = dataset["generate_runs"][0]["policy"]
    (scored,) = opd["run"]["datasets"][0]["score_runs"]
    assert (scored["run"]["run_id"], scored["scorer"]["name"], scored["rows"]) == (
        "score",
        "teacher-rl",
        2,
    )


def test_a_policy_without_a_run_says_so(whole: Store, cli: Any) -> None:
    assert trace(whole, "base")["run"] is None
    result = cli("trace", "base", "--store", whole.root)
    assert result.code == 0 and "no training run recorded" in result.out


def test_an_unknown_policy_is_the_usual_error(whole: Store, cli: Any) -> None:
    with pytest.raises(NotFoundError, match="no policy 'finl' in this store; did you mean 'final'"):
        trace(whole, "finl")
    for command in (("trace", "finl"), ("budget", "--lineage", "finl")):
        result = cli(*command, "--store", whole.root)
        assert result.code == 1 and "did you mean 'final'" in result.err


def test_trace_prints_a_tree_or_json(whole: Store, cli: Any) -> None:
    result = cli("trace", "final", "--full", "--store", whole.root)
    lines = result.out.splitlines()
    assert lines[0].startswith("policy final (")
    assert "  training run train-f (stage grpo, done, code 1), 2 updates" in lines
    assert any(line.strip() == "sampled by warm (shown above)" for line in lines)
    assert any(line.strip() == "parent opd (shown above)" for line in lines)
    assert sum("teacher-rl (" in line and "shown above" not in line for line in lines) == 1
    parsed = json.loads(cli("trace", "final", "--format", "json", "--store", whole.root).out)
    assert parsed == trace(whole, "final")
    assert cli("trace", "final", "--format", "xml", "--store", whole.root).code == 1


def test_rounds_of_a_stage_are_folded(whole: Store, cli: Any) -> None:
    result = cli("trace", "final", "--store", whole.root)
    assert result.code == 0 and len(result.out.splitlines()) < 12
    parts = fold(trace(whole, "final"))
    assert parts[0].line == "final" and parts[0].stage == "grpo" and parts[0].updates == 2
    names = [part.last for part in parts]
    assert len(names) == len(set(names)), "a policy stands once"
    assert "teacher-rl" in {part.line for part in parts}, "teachers have lines of their own"
    rounds = {"run_id": "r", "stage": "s", "updates": 3, "datasets": []}
    chain: Any = None
    for number in range(3):
        chain = {"policy_id": f"p{number}", "name": f"p{number}", "run": rounds, "parent": chain}
    (part,) = fold(chain)
    assert (part.rounds, part.first, part.last, part.updates) == (3, "p0", "p2", 9)


def test_costs_of_many_policies_are_those_of_each(whole: Store) -> None:
    names = [name for (name,) in whole.sql("SELECT name FROM policies ORDER BY 1").fetchall()]
    found = list(policy_cost.policy_costs(whole, names))
    totals = [rows(whole, "lineage", policy=name)[-1] for name in names]
    assert found == [{key: total[key] for key in policy_cost.COSTS} for total in totals]
    assert len({spent["updates"] for spent in found}) > 2, "not all alike"
    with pytest.raises(NotFoundError, match="nobody"):
        list(policy_cost.policy_costs(whole, ["nobody"]))


def test_lineage_prints_a_table_or_json(whole: Store, cli: Any) -> None:
    result = cli("budget", "--lineage", "final", "--store", whole.root)
    assert result.code == 0
    assert (
        "labels spent: 4 on its teachers (upstream), 6 on its own line (downstream), "
        "7 distinct in all" in result.out
    )
    parsed = json.loads(
        cli("budget", "--lineage", "final", "--format", "json", "--store", whole.root).out
    )
    assert parsed["policy"] == "final"
    assert parsed["rows"] == rows(whole, "lineage", policy="final")


def test_the_example_in_the_docstring_runs(store: Store, tmp_path: Path) -> None:
    import doctest

    from s2d_store.accounting import lineage
    from s2d_store.datasets.build import build

    synthetic.fill(store, n_prompts=3, n=2)
    lock = build(store, "w", queries.catalog()["warmup"], {"teacher": "teacher"})
    spending.train(store, "train", lock["dataset_id"], "warmup")
    spending.add_policy(store, "student", "teacher", "train", 1)
    result = doctest.testmod(lineage, extraglobs={"store": store})
    assert result.attempted == 3 and result.failed == 0
