"""The queries of queries/analysis that answer what researchers ask, on rewards chosen by hand."""

from __future__ import annotations

from typing import Any

import pytest

from s2d_store.errors import InputError, NotFoundError
from s2d_store.store import Store
from tests.support import two_policies
from tests.support.dataset_rows import Made, add_rollouts

Record = dict[str, Any]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("compared") / "store")
    two_policies.fill(store)
    two_policies.add_second_verifier(store)
    return store


def ask(store: Store, name: str, **params: Any) -> list[Record]:
    found = store.query(name, **params)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def test_pass_rate_by_difficulty(compared: Store) -> None:
    rows = ask(compared, "pass_rate_by_difficulty", reference="before", bands=2)
    found = {(r["policy"], r["reference_rate"]): (r["prompts"], r["pass_rate"]) for r in rows}
    assert found == {
        ("before", "0.00-0.50"): (2, 0.0),
        ("after", "0.00-0.50"): (2, 0.5),
        ("before", "0.50-1.00"): (2, 1.0),
        ("after", "0.50-1.00"): (2, 0.75),
    }


def test_averages_do_not_count_a_second_verifier(compared: Store) -> None:
    text = "SELECT avg(reward) FROM graded_rollouts WHERE policy = 'before'"
    assert compared.sql(text).fetchall() == [(0.5,)]
    rows = ask(compared, "tokens_per_correct")
    assert [(r["policy"], r["correct"], r["tokens_per_correct"]) for r in rows] == [
        ("after", 5, 64 / 5),
        ("before", 4, 8.0),
    ]


def test_length_by_reward(compared: Store) -> None:
    rows = ask(compared, "length_by_reward", purpose="eval")
    assert {(r["policy"], r["reward"], r["rollouts"], r["mean_tokens"]) for r in rows} == {
        ("before", 0.0, 4, 4.0),
        ("before", 1.0, 4, 4.0),
        ("after", 0.0, 3, 8.0),
        ("after", 1.0, 5, 8.0),
    }


def test_flips(compared: Store) -> None:
    rows = ask(compared, "flips", before="before", after="after")
    assert [(r["change"], r["prompt_id"], r["rate_before"], r["rate_after"]) for r in rows] == [
        ("won", "p001", 0.0, 1.0),
        ("lost", "p002", 1.0, 0.5),
    ]
    assert rows[0]["prompt"].startswith("What is 1 + 1?")
    assert rows[0]["rollout_before"] == "gen-before-001-0-0"
    assert rows[1]["rollout_after"] == "gen-after-002-1-0", "the one that is wrong now"


def test_verifiers_agree(compared: Store) -> None:
    (row,) = ask(compared, "verifiers_agree")
    assert (row["verifier_a"], row["verifier_b"]) == ("lenient", "math-verify")
    assert (row["rollouts"], row["agree"], row["only_a"], row["only_b"]) == (8, 0.5, 4, 0)
    assert row["kappa"] == 0.0 and row["example_a"] == "gen-before-001-0-0"


def test_tokens_of_scored_rollouts(compared: Store) -> None:
    (row,) = ask(compared, "top1_agreement")
    assert (row["policy"], row["scorer"], row["rollouts"], row["tokens"]) == (
        "after", "teacher", 8, 64,
    )  # fmt: skip
    rows = ask(compared, "kl_by_position", width=3)
    assert [(r["position"], r["tokens"]) for r in rows] == [(0, 24), (3, 24), (6, 16)]
    tokens = compared.sql("SELECT avg(kl) FROM tokens WHERE position < 3 AND policy = 'after'")
    assert rows[0]["kl"] == pytest.approx(tokens.fetchall()[0][0], abs=1e-4)
    (tail,) = ask(compared, "tail_mass")
    assert tail["topk_of"] == "teacher" and 0 <= tail["p50"] <= tail["p99"] <= tail["largest"] <= 1
    rows = ask(compared, "entropy_by_position", policy="after", width=8)
    assert [(r["tokens"], r["entropy"], r["logprob"]) for r in rows] == [(64, None, -1.0)]


def test_one_rollout_by_the_start_of_its_id(compared: Store) -> None:
    rows = ask(compared, "token_kl", rollout="gen-after-001-1")
    assert [r["position"] for r in rows] == list(range(8))
    assert rows[-1]["cumulative_kl"] == pytest.approx(sum(r["kl"] for r in rows), abs=1e-3)
    entries = ask(compared, "topk_at", rollout="gen-after-001-1", position=2)
    assert [r["rank"] for r in entries] == [1, 2, 3]
    with pytest.raises(InputError, match="several rollouts begin with 'gen-after'"):
        ask(compared, "token_kl", rollout="gen-after")
    with pytest.raises(NotFoundError, match="no rollout 'nope' in this store"):
        ask(compared, "token_kl", rollout="nope")


def test_repeats(store: Store) -> None:
    two_policies.fill(store)
    assert ask(store, "repeats") == []
    for text, ended in (("so 2 + 2 = 4, " * 20, "stop"), ("cut", "length"), (" \n", "stop")):
        made = [Made(0, 0, 3, 0.0)]
        add_rollouts(store, f"g{len(text)}", "after", made, response_text=text, finish_reason=ended)
    rows = ask(store, "repeats", tail=14)
    assert [(r["what"], r["times"]) for r in rows] == [("loops", 20), ("cut off", 0), ("empty", 0)]


def test_a_sample_is_drawn_by_a_number(compared: Store) -> None:
    ids = [r["rollout_id"] for r in ask(compared, "sample", n=4, outcome="wrong")]
    assert len(ids) == 4 and ids == [
        r["rollout_id"] for r in ask(compared, "sample", n=4, outcome="wrong")
    ]
    assert ids != [r["rollout_id"] for r in ask(compared, "sample", n=4, outcome="wrong", draw=1)]


def test_training_goes_on_over_the_rounds_of_a_stage(spent: Store) -> None:
    (stage,) = spent.sql(
        "SELECT stage FROM runs WHERE kind = 'train' GROUP BY stage ORDER BY count(*) DESC LIMIT 1"
    ).fetchall()[0]
    rows = ask(spent, "training", stage=stage)
    assert rows and {r["stage"] for r in rows} == {stage}
    for run in {r["run_id"] for r in rows}:
        assert [r["update"] for r in rows if r["run_id"] == run] == sorted(
            r["update"] for r in rows if r["run_id"] == run
        )
    with pytest.raises(NotFoundError, match="no stage 'nope' in this store"):
        ask(spent, "training", stage="nope")
    with pytest.raises(NotFoundError, match="no run 'nope' in this store"):
        ask(spent, "training", run="nope")


def test_labels_by_stage_are_those_of_the_books(spent: Store) -> None:
    rows = ask(spent, "labels_by_stage")
    counted = spent.sql(
        "SELECT role, stage, count(DISTINCT prompt_id) FROM spent_labels GROUP BY ALL"
    ).fetchall()
    assert {(r["role"], r["stage"], r["labels"]) for r in rows if r["labels"]} == set(counted)
