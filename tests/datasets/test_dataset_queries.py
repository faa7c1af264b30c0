"""The queries warmup, sft and opd: which rollouts they take, how many, and in which order."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from s2d_store.datasets.build import read_lock
from s2d_store.errors import DatasetError, InputError, NotFoundError
from s2d_store.sql import parameters
from s2d_store.store import Store
from tests.support.dataset_rows import (
    Made,
    add_policies,
    add_prompts,
    add_rollouts,
    add_scores,
    built,
    policy_id,
)
from tests.support.synthetic import NOW, policy, table

SAMPLES = 10


def graded(prompts: range, right: int) -> list[Made]:
    """SAMPLES rollouts per prompt, of which `right` are correct."""
    return [Made(p, s, reward=float(s < right)) for p in prompts for s in range(SAMPLES)]


# Of prompts 0 to 9, 10 to 19, and so on.
RATES = (0.0, 0.1, 0.5, 1.0)


@pytest.fixture
def taught(store: Store) -> Store:
    """Ten prompts each that the teacher solves never, in 1 of 10, in 5 of 10, always; the student
    solves the first twenty always and the others never."""
    add_prompts(store, 40)
    add_policies(store, policy("teacher"), policy("student"))
    made = [
        m
        for i, right in enumerate(int(10 * rate) for rate in RATES)
        for m in graded(range(10 * i, 10 * i + 10), right)
    ]
    add_rollouts(store, "gen", "teacher", made, role="teacher", scorer="teacher")
    student = [Made(p, reward=float(p < 20)) for p in range(40)]
    add_rollouts(store, "gen-student", "student", student)
    return store


def prompts_of(rows: object) -> set[int]:
    return {int(p[1:]) for p in rows.column("prompt_id").to_pylist()}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("query", "whose"), [("warmup", "teacher"), ("sft", "policy")])
def test_pass_rate_band(taught: Store, query: str, whose: str) -> None:
    given = {whose: "teacher", "correct_only": False}
    band = built(taught, "band", query, min_pass_rate=0.1, max_pass_rate=0.5, **given)
    assert prompts_of(band) == set(range(10, 30)) and band.num_rows == 200
    rates = dict(
        zip(*(band.column(c).to_pylist() for c in ("prompt_id", "pass_rate")), strict=True)
    )
    assert rates["p010"] == pytest.approx(0.1) and rates["p020"] == 0.5
    by_student = built(
        taught, "by-student", query, max_pass_rate=0.5, pass_rate_of="student", **given
    )
    assert prompts_of(by_student) == set(range(20, 40))


def test_a_band_or_a_weight_spends_labels_even_on_wrong_rollouts(taught: Store) -> None:
    given = {"teacher": "teacher", "correct_only": False}
    built(taught, "all", "warmup", **given)
    built(taught, "band", "warmup", max_pass_rate=0.5, **given)
    built(taught, "paced", "warmup", weighting="paced", **given)
    labels = [read_lock(taught, n)["counts"]["labels"] for n in ("all", "band", "paced")]
    assert labels == [0, 40, 40], "every graded prompt, also those outside the band"


@pytest.mark.parametrize(("query", "whose"), [("warmup", "teacher"), ("sft", "policy")])
def test_paced_draws_by_p_times_one_minus_p(taught: Store, query: str, whose: str) -> None:
    given = {whose: "teacher", "correct_only": False, "updates": 5, "rows_per_update": 16}
    share = {}
    for weighting in ("none", "paced"):
        halves = []
        for seed in range(4):
            rows = built(
                taught, f"{weighting}{seed}", query, seed=seed, weighting=weighting, **given
            )
            assert rows.num_rows == 80
            halves += [RATES[int(p[1:]) // 10] for p in rows.column("prompt_id").to_pylist()]
            told = set(rows.column("pass_rate").to_pylist())
            assert told <= ({0.1, 0.5} if weighting == "paced" else {None})
        assert (set(halves) <= {0.1, 0.5}) == (weighting == "paced")
        counts = {rate: np.isclose(halves, rate).sum() for rate in (0.1, 0.5)}
        share[weighting] = counts[0.5] / (counts[0.1] + counts[0.5])
    # Weights 0.25 against 0.09; drawing 80 of 200 without replacement flattens 0.735 to about 0.70.
    assert share["none"] == pytest.approx(0.5, abs=0.09)
    assert share["paced"] == pytest.approx(0.70, abs=0.06)


def test_what_is_drawn_by_weight_is_shuffled(taught: Store) -> None:
    rows = built(
        taught, "w", "warmup", teacher="teacher", correct_only=False, weighting="paced",
        updates=10, rows_per_update=16,
    )  # fmt: skip
    rates = np.array(rows.column("pass_rate").to_pylist())
    assert abs((rates[:80] == 0.5).mean() - (rates[80:] == 0.5).mean()) < 0.25


def test_target_tokens_ends_with_the_update_that_reaches_it(store: Store) -> None:
    add_prompts(store, 30)
    add_policies(store, policy("teacher"), policy("student"))
    made = [Made(p, tokens=5 + p % 7, reward=1.0) for p in range(30)]
    add_rollouts(store, "gen", "student", made, scorer="teacher")
    for query, given in (
        ("sft", {"policy": "student"}),
        ("opd", {"student": "student", "teacher": "teacher", "support": "own"}),
    ):
        rows = built(store, query, query, target_tokens=100, rows_per_update=4, **given)
        sizes = [len(r) for r in rows.column("response_token_ids").to_pylist()]
        by_update = np.bincount(rows.column("update").to_numpy(), sizes)[1:]
        assert by_update.sum() >= 100 > by_update[:-1].sum()
        assert rows.num_rows % 4 == 0
        every = built(store, f"{query}-all", query, target_tokens=10_000, **given)
        assert every.num_rows == 30


def test_sft_rows_hold_tokens_alone(taught: Store) -> None:
    rows = built(taught, "s", "sft", policy="teacher", max_per_prompt=1)
    assert rows.num_rows == 30 and set(rows.column("reward").to_pylist()) == {1.0}
    lists = [c for c in rows.column_names if c.endswith("ids") or "logprobs" in c]
    assert lists == ["prompt_token_ids", "response_token_ids"]
    assert read_lock(taught, "s")["counts"]["labels"] == 40, "ten that it never solved"


def test_a_word_that_is_none_of_the_choices(taught: Store) -> None:
    with pytest.raises(InputError, match=r"weighting='pace' .* is not one of none, paced"):
        built(taught, "x", "warmup", teacher="teacher", weighting="pace")
    with pytest.raises(NotFoundError, match=r"no policy 'studnt'.*did you mean 'student'"):
        built(taught, "x", "warmup", teacher="teacher", pass_rate_of="studnt")


def test_an_unknown_policy_among_hundreds_names_the_newest(store: Store) -> None:
    named = [policy(f"r{i:03d}") | {"created_at": NOW + timedelta(hours=i)} for i in range(200)]
    store.commit({"policies": table("policies", named)})
    with pytest.raises(NotFoundError) as unknown:
        parameters.policy(store.connect(), "teacher")
    assert unknown.value.why.startswith("the newest of 200 registered: r192, r193")
    assert unknown.value.why.endswith("r199")


@pytest.fixture
def lagging(store: Store) -> Store:
    """base -> (run a, 10 updates) -> mid -> (run b, checkpoints 3 and 8) -> late3, late8."""
    add_prompts(store, 6)
    base = policy("base")
    mid = policy("mid", parent=base["policy_id"]) | {"run_id": "a", "update": 10}
    made = {"run_id": "b", "parent_policy_id": mid["policy_id"]}
    late3 = policy("late3") | made | {"update": 3}
    late8 = policy("late8") | made | {"update": 8}
    add_policies(store, base, mid, late3, late8, policy("teacher"), policy("stranger"))
    for name in ("base", "mid", "late3", "late8", "stranger"):
        made_rollouts = [Made(p, round=p % 2, reward=0.0) for p in range(6)]
        add_rollouts(store, name, name, made_rollouts, scorer="teacher", support="policy")
    return store


@pytest.mark.parametrize(
    ("max_lag", "expected"),
    [
        (0, {"late8": 0}),
        (4, {"late8": 0}),
        (5, {"late8": 0, "late3": 5}),
        (8, {"late8": 0, "late3": 5, "mid": 8}),
        (18, {"late8": 0, "late3": 5, "mid": 8, "base": 18}),
    ],
)
def test_opd_takes_versions_up_to_the_lag(
    lagging: Store, max_lag: int, expected: dict[str, int]
) -> None:
    rows = built(lagging, "o", "opd", student="late8", teacher="teacher", max_lag=max_lag)
    lags = {
        r.split("-")[0]: lag
        for r, lag in zip(
            rows.column("rollout_id").to_pylist(), rows.column("lag").to_pylist(), strict=True
        )
    }
    assert lags == expected
    assert rows.num_rows == 6 * len(expected)
    assert set(rows.column("scorer_policy_id").to_pylist()) == {policy_id("teacher")}
    assert read_lock(lagging, "o")["counts"]["labels"] == 0


def test_opd_round_support_and_k(lagging: Store) -> None:
    given = {"student": "late8", "teacher": "teacher"}
    rows = built(lagging, "round", "opd", round=1, **given)
    assert rows.column("round").to_pylist() == [1, 1, 1]
    assert rows.column("support").to_pylist() == ["policy"] * 3
    with pytest.raises(DatasetError, match="query opd selects no rows"):
        built(lagging, "own", "opd", support="own", **given)
    some = rows.column("rollout_id").to_pylist()
    add_scores(lagging, "teacher", some, [4] * 3, support="own")
    own = built(lagging, "own", "opd", support="own", **given)
    assert set(own.column("rollout_id").to_pylist()) == set(some)
    with pytest.raises(DatasetError, match="query opd selects no rows"):
        built(lagging, "k", "opd", k=7, **given)
