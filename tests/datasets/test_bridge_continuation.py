"""Bridge continuation: same updates and rows, tokens within tolerance, no label."""

from __future__ import annotations

import numpy as np
import pytest

from s2d_store.audits import audit
from s2d_store.datasets.build import build, read_lock, verify
from s2d_store.errors import DatasetError, NotFoundError
from s2d_store.store import Store
from tests.support.dataset_rows import (
    Made,
    add_policies,
    add_prompts,
    add_rollouts,
    built,
    policy_id,
    trained,
    user_query,
)
from tests.support.synthetic import policy

Lengths = np.ndarray


def lengths(n: int, low: int, high: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(low, high, n).tolist()


def prepare(
    store: Store, treated: list[int], bridge: list[int], *, kind: str = "opd", **given: object
) -> None:
    """A GRPO dataset `stage3` of rollouts of these lengths, 8 groups of 2 an update, and a bridge
    dataset of the others, which `student` was trained on."""
    add_prompts(store, max(len(bridge), len(treated) // 2))
    add_policies(store, policy("start"), policy("teacher"))
    made = [Made(i, tokens=n) for i, n in enumerate(bridge)]
    support = "policy" if kind == "opd" else "own"
    role, name = ("student", "start") if kind == "opd" else ("teacher", "teacher")
    add_rollouts(store, "gen-bridge", name, made, role=role, scorer="teacher", support=support)
    if kind == "opd":
        built(store, "bridge", "opd", student="start", teacher="teacher", **given)
    else:
        built(store, "bridge", "warmup", teacher="teacher", correct_only=False, **given)
    trained(store, "train-bridge", "bridge", "start", "student")
    pairs = [Made(i // 2, i % 2, tokens=n, reward=float(i % 2)) for i, n in enumerate(treated)]
    add_rollouts(store, "gen-grpo", "student", pairs)
    built(store, "stage3", "grpo", policy="student", prompts_per_update=8)


def tokens_by_update(store: Store, name: str) -> tuple[Lengths, Lengths]:
    """Rows and response tokens of each update."""
    rows = store.sql(
        "SELECT d.update, count(*), sum(r.response_tokens) FROM dataset_rows AS d "
        "JOIN datasets AS s USING (dataset_id) JOIN rollouts AS r USING (rollout_id) "
        "WHERE s.name = $name GROUP BY ALL ORDER BY 1",
        {"name": name},
    ).fetchall()
    return np.array([r[1] for r in rows]), np.array([r[2] for r in rows])


def assert_matched(store: Store, tolerance: float) -> None:
    wanted_rows, wanted = tokens_by_update(store, "stage3")
    rows, tokens = tokens_by_update(store, "control")
    assert rows.tolist() == wanted_rows.tolist()
    assert (np.abs(tokens - wanted) <= tolerance * wanted).all(), (tokens, wanted)
    assert abs(tokens.sum() - wanted.sum()) <= tolerance * wanted.sum()
    assert read_lock(store, "control")["counts"]["labels"] == 0
    (result,) = audit(store, ["replay_matched"])
    assert result.status == "passed"


@pytest.mark.parametrize("kind", ["opd", "warmup"])
def test_a_control_matches_with_the_bridges_topk(store: Store, kind: str) -> None:
    prepare(store, lengths(120, 10, 40), lengths(300, 8, 45, seed=1), kind=kind)
    bridge = {} if kind == "opd" else {"bridge": "warmup"}
    rows = built(store, "control", "bridge_continuation", treatment="stage3", **bridge)
    assert_matched(store, 0.02)
    assert set(rows.column("earlier_uses").to_pylist()) == {1}, "the bridge itself"
    assert rows.column("rollout_id").to_pylist() != sorted(rows.column("rollout_id").to_pylist())
    assert len(set(rows.column("rollout_id").to_pylist())) == 120, "each is used once"
    assert all(r.startswith("gen-bridge") for r in rows.column("rollout_id").to_pylist())
    assert set(rows.column("scorer_policy_id").to_pylist()) == {policy_id("teacher")}
    assert set(rows.column("support").to_pylist()) == {"policy" if kind == "opd" else "own"}
    per_row = np.abs(
        np.array(rows.column("treatment_tokens").to_pylist())
        - np.array([len(r) for r in rows.column("response_token_ids").to_pylist()])
    )
    assert np.median(per_row) <= 1, "rows, not only sums, are close"
    assert verify(store, "control").matches


def test_every_last_rollout_can_be_needed(store: Store) -> None:
    shuffled = lengths(96, 10, 40)
    prepare(store, shuffled, sorted(shuffled))
    rows = built(store, "control", "bridge_continuation", treatment="stage3", tolerance=0)
    assert len(set(rows.column("rollout_id").to_pylist())) == 96
    assert_matched(store, 0)


def test_seeds_draw_different_rollouts(store: Store) -> None:
    prepare(store, lengths(64, 10, 20), lengths(400, 10, 20, seed=1))
    first = set(
        built(store, "control", "bridge_continuation", treatment="stage3")
        .column("rollout_id")
        .to_pylist()
    )
    again = built(store, "other", "bridge_continuation", seed=1, treatment="stage3")
    assert len(first & set(again.column("rollout_id").to_pylist())) < 40


def test_treatments_longer_than_most_of_the_bridge(store: Store) -> None:
    """The longest rows have no rollout of their length; the others make up for them."""
    treated = lengths(96, 20, 50) + [70] * 16
    bridge = lengths(400, 5, 60, seed=1)
    prepare(store, treated, bridge)
    built(store, "control", "bridge_continuation", treatment="stage3", tolerance=0.03)
    assert_matched(store, 0.03)


def test_rollouts_serve_as_often_as_passes_allows(store: Store) -> None:
    prepare(store, lengths(120, 10, 40), lengths(30, 8, 45, seed=1))
    with pytest.raises(DatasetError) as error:
        built(store, "control", "bridge_continuation", treatment="stage3")
    text = str(error.value)
    assert "90 bridge rollouts are missing to match dataset stage3" in text
    assert "it has 120 rows" in text and "30 rollouts used at most 1 times" in text
    assert "--param passes=4 uses each more often" in text
    assert not (store.root / "datasets" / "control").exists()
    rows = built(
        store, "control", "bridge_continuation", treatment="stage3", passes=8, tolerance=0.05
    )
    uses = np.unique(rows.column("rollout_id").to_pylist(), return_counts=True)[1]
    assert uses.max() <= 8
    assert_matched(store, 0.05)


def test_tokens_that_cannot_be_matched(store: Store) -> None:
    prepare(store, lengths(64, 30, 40), lengths(200, 5, 15, seed=1))
    with pytest.raises(DatasetError) as error:
        built(store, "control", "bridge_continuation", treatment="stage3")
    text = str(error.value)
    assert "do not match the response tokens of dataset stage3" in text
    assert "tolerance 2.0%" in text and "4 of 4 updates are off" in text
    assert "tokens are missing and 0 too many" in text
    accepted = text.rsplit("tolerance=", 1)[1]
    built(store, "control", "bridge_continuation", treatment="stage3", tolerance=accepted)
    assert_matched(store, float(accepted))


def test_bridges_are_chosen_by_kind_name_or_id(store: Store) -> None:
    prepare(store, lengths(32, 10, 20), lengths(100, 10, 20, seed=1), updates=1)
    lock = read_lock(store, "bridge")
    assert lock["counts"]["rows"] == 64
    inside = set(
        r[0] for r in store.sql(
            "SELECT rollout_id FROM dataset_rows WHERE dataset_id = $id", {"id": lock["dataset_id"]}
        ).fetchall()
    )  # fmt: skip
    for name, bridge in (("kind", "opd"), ("name", "none, bridge"), ("id", lock["dataset_id"])):
        rows = built(
            store, name, "bridge_continuation", treatment="stage3", bridge=bridge, tolerance=0.05
        )
        assert set(rows.column("rollout_id").to_pylist()) <= inside
    for given in ({"bridge": "warmup"}, {"policy": "student"}, {"role": "teacher"}, {"k": 9}):
        with pytest.raises(DatasetError, match="no bridge rollouts to match dataset stage3 with"):
            built(store, "empty", "bridge_continuation", treatment="stage3", **given)
    by_policy = built(
        store,
        "policy",
        "bridge_continuation",
        treatment="stage3",
        policy="start",
        role="student",
        tolerance=0.05,
    )
    assert by_policy.num_rows == 32


def test_the_treatment_must_be_there(store: Store) -> None:
    prepare(store, lengths(32, 10, 20), lengths(40, 10, 20))
    with pytest.raises(NotFoundError) as error:
        built(store, "control", "bridge_continuation", treatment="stage4")
    assert "no dataset 'stage4' to match" in str(error.value)
    assert "locked: bridge, stage3" in str(error.value)


def test_the_treatments_files_may_be_gone(store: Store) -> None:
    from s2d_store.datasets.build import drop

    prepare(store, lengths(32, 10, 20), lengths(100, 10, 20, seed=1))
    drop(store, "stage3")
    built(store, "control", "bridge_continuation", treatment="stage3", tolerance=0.05)
    assert_matched(store, 0.05)


def test_a_users_control_query_is_checked_too(store: Store) -> None:
    prepare(store, lengths(32, 10, 20), lengths(100, 10, 20, seed=1))
    select = (
        "SELECT row_number() OVER (ORDER BY rollout_id) - 1 AS row, {update} AS update, "
        "rollout_id, scorer_policy_id, support, k, {labelled} AS labelled FROM topk LIMIT 32"
    )
    cases = [
        ("(row_number() OVER (ORDER BY rollout_id) - 1) // 16 + 1", "true", "are labelled"),
        ("(row_number() OVER (ORDER BY rollout_id) - 1) // 8 + 1", "false", "has 8 rows"),
    ]
    for update, labelled, message in cases:
        sql = select.format(update=update, labelled=labelled)
        query = user_query(sql, kind="bridge_continuation", treatment="stage3", tolerance="0.9")
        with pytest.raises(DatasetError, match=message):
            build(store, "control", query, {})
    with pytest.raises(DatasetError, match="control query mine has no parameter treatment"):
        build(store, "control", user_query(sql, kind="bridge_continuation"), {})


def test_only_the_treatments_own_line_is_drawn_from(store: Store) -> None:
    """Another arm's OPD data, of another student, is not the bridge's."""
    prepare(store, lengths(32, 10, 20), lengths(100, 10, 20, seed=1))
    add_policies(store, policy("stranger"))
    made = [Made(i, tokens=n) for i, n in enumerate(lengths(100, 10, 20, seed=2))]
    add_rollouts(store, "gen-other", "stranger", made, scorer="teacher", support="policy")
    built(store, "other", "opd", student="stranger", teacher="teacher")
    trained(store, "train-other", "other", "stranger", "stranger-opd")
    rows = built(store, "control", "bridge_continuation", treatment="stage3", tolerance=0.05)
    assert all(r.startswith("gen-bridge") for r in rows.column("rollout_id").to_pylist())
    named = built(
        store, "named", "bridge_continuation", treatment="stage3", bridge="opd", tolerance=0.05
    )
    drawn = {row["rollout_id"]: row["earlier_uses"] for row in named.to_pylist()}
    assert any(r.startswith("gen-other") for r in drawn), "as asked"
    assert {uses for r, uses in drawn.items() if r.startswith("gen-other")} == {0}


def test_rows_have_one_support(store: Store) -> None:
    """A reverse KL on a teacher's own top k was no bridge's objective."""
    prepare(store, lengths(32, 10, 20), lengths(100, 10, 20, seed=1))
    made = [Made(i, tokens=n) for i, n in enumerate(lengths(100, 10, 20, seed=2))]
    add_rollouts(store, "gen-teacher", "teacher", made, role="teacher", scorer="teacher")
    built(store, "warmup", "warmup", teacher="teacher", correct_only=False)
    for number, (given, support) in enumerate(
        (({}, "own"), ({"support": "policy"}, "policy"), ({"support": "own"}, "own"))
    ):
        given |= {"bridge": "opd,warmup", "tolerance": "0.05"}
        rows = built(store, f"c{number}", "bridge_continuation", treatment="stage3", **given)
        assert set(rows.column("support").to_pylist()) == {support}, "the newest one's, or as asked"


def test_rows_that_a_reward_had_chosen_are_refused(store: Store) -> None:
    prepare(store, lengths(32, 10, 20), lengths(100, 10, 20, seed=1))
    made = [Made(i, tokens=n, reward=1.0) for i, n in enumerate(lengths(100, 10, 20, seed=2))]
    add_rollouts(store, "gen-teacher", "teacher", made, role="teacher", scorer="teacher")
    built(store, "warmup", "warmup", teacher="teacher")
    with pytest.raises(DatasetError, match="32 rows of control query bridge_continuation are lab"):
        built(
            store, "c", "bridge_continuation", treatment="stage3", bridge="warmup", tolerance=0.05
        )
