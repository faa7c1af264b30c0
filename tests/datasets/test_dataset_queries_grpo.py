"""The query grpo: advantages against NumPy, groups whole inside an update, lag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import queries
from s2d_store.datasets.build import read_lock, verify
from s2d_store.sql import connection, parameters
from s2d_store.store import Store
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, built
from tests.support.synthetic import policy

REWARDS = {
    0: [1.0, 0.0, 0.0, 1.0],
    1: [0.1, 0.7, 0.35, 0.35],
    2: [1.0, 1.0, 1.0, 1.0],
    3: [0.0, 0.0],
    4: [-3.0, 250.5, 0.0],
    5: [0.25],
}


@pytest.fixture
def grouped(store: Store) -> Store:
    """A group a prompt with the rewards above, of varied lengths, and one that is half graded."""
    add_prompts(store, 10)
    add_policies(store, policy("student"))
    made = [
        Made(p, s, tokens=3 + s, reward=r) for p, rs in REWARDS.items() for s, r in enumerate(rs)
    ]
    made += [Made(9, 0, reward=1.0), Made(9, 1, reward=None)]
    add_rollouts(store, "gen", "student", made)
    return store


def expected(form: str, rewards: list[float], epsilon: float) -> np.ndarray:
    values = np.array(rewards, np.float32).astype(float)
    centred = values - values.mean()
    return centred if form == "dr_grpo" else centred / (values.std(ddof=1) + epsilon)


@pytest.mark.parametrize("form", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("keep_equal", [False, True])
def test_advantages(grouped: Store, form: str, keep_equal: bool) -> None:
    rows = built(
        grouped, "g", "grpo", policy="student", form=form, keep_equal=keep_equal, epsilon=1e-4
    ).to_pylist()
    spread = {0, 1, 4} | ({2, 3} if keep_equal and form != "dapo" else set())
    assert {int(r["prompt_id"][1:]) for r in rows} == spread, "single and half graded: never"
    for prompt in spread:
        group = [r for r in rows if r["prompt_id"] == f"p{prompt:03d}"]
        values = REWARDS[prompt]
        wanted = expected(form, values, 1e-4)
        np.testing.assert_allclose([r["advantage"] for r in group], wanted, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose([r["reward"] for r in group], values, rtol=1e-6)
        assert {r["group_size"] for r in group} == {len(values)}
        np.testing.assert_allclose(group[0]["group_mean"], np.mean(values), rtol=1e-6)
        np.testing.assert_allclose(group[0]["group_std"], np.std(values, ddof=1), rtol=1e-6)
        assert sum(r["advantage"] for r in group) == pytest.approx(0, abs=1e-6)
    assert all(r["labelled"] for r in rows)
    labels = read_lock(grouped, "g")["counts"]["labels"]
    assert labels == 5, "equal groups too: their rewards kept them out, or in"


def test_the_behaviour_policys_logprobs_come_along(grouped: Store) -> None:
    rows = built(grouped, "g", "grpo", policy="student").to_pylist()
    assert all(r["response_logprobs"] == [-1.0] * len(r["response_token_ids"]) for r in rows)
    assert set(r["lag"] for r in rows) == {0}


def test_unlabelled_prompts_spend_no_label(store: Store) -> None:
    add_prompts(store, 1, answer=None)
    add_policies(store, policy("student"))
    add_rollouts(store, "gen", "student", [Made(0, s, reward=float(s)) for s in range(3)])
    built(store, "g", "grpo", policy="student")
    assert read_lock(store, "g")["counts"]["labels"] == 0


def many(store: Store, prompts: int, sizes: tuple[int, ...], *, shuffled: bool = False) -> Store:
    """Groups of alternating sizes with rewards that do not sum exactly in binary."""
    add_prompts(store, prompts)
    add_policies(store, policy("student"))
    rng = np.random.default_rng(0)
    made = [
        Made(p, s, tokens=4 + p % 3, reward=float(rng.integers(0, 1000)) / 997)
        for p in range(prompts)
        for s in range(sizes[p % len(sizes)])
    ]
    if shuffled:
        rng.shuffle(made)
    for i in range(0, len(made), 200):
        add_rollouts(store, "gen", "student", made[i : i + 200])
    return store


def test_groups_stay_whole_inside_an_update(store: Store) -> None:
    many(store, 50, (4, 6))
    rows = built(store, "g", "grpo", policy="student", prompts_per_update=8, passes=2)
    updates, prompts = (rows.column(c).to_pylist() for c in ("update", "prompt_id"))
    assert max(updates) == 13, "100 groups, 8 an update"
    assert all(
        len({p for u, p in zip(updates, prompts, strict=True) if u == n}) == 8 for n in range(1, 7)
    )
    for start in range(rows.num_rows):
        if start == 0 or prompts[start] != prompts[start - 1]:
            size = rows.column("group_size")[start].as_py()
            group = rows.slice(start, size)
            assert set(group.column("prompt_id").to_pylist()) == {prompts[start]}
            assert len(set(group.column("update").to_pylist())) == 1
            samples = [int(r.split("-")[2]) for r in group.column("rollout_id").to_pylist()]
            assert samples == list(range(size))
    first, second = prompts[: len(prompts) // 2], prompts[len(prompts) // 2 :]
    assert sorted(first) == sorted(second) and first != second


def test_group_size_updates_and_target_tokens(store: Store) -> None:
    many(store, 40, (4, 6))
    given = {"policy": "student", "prompts_per_update": 4}
    assert built(store, "six", "grpo", group_size=6, **given).num_rows == 120
    two = built(store, "two", "grpo", updates=2, **given)
    assert len(set(two.column("prompt_id").to_pylist())) == 8
    some = built(store, "some", "grpo", target_tokens=300, **given)
    sizes = [len(r) for r in some.column("response_token_ids").to_pylist()]
    by_update = np.bincount(some.column("update").to_numpy(), sizes)[1:]
    assert by_update.sum() >= 300 > by_update[:-1].sum()


def test_the_same_bits_whatever_the_order_of_the_rows(store: Store, tmp_path: Path) -> None:
    many(store, 60, (7, 5))
    other = many(Store.init(tmp_path / "other"), 60, (7, 5), shuffled=True)
    given = {"policy": "student", "keep_equal": True}
    built(store, "g", "grpo", **given)
    query = queries.catalog()["grpo"]
    seen = []
    for made, threads in ((store, 1), (store, 4), (other, 2)):
        con = made.connect(unsafe=True)
        con.execute(f"SET threads = {threads}")
        values = parameters.resolve(query, {"policy": "student"}, con) | {"seed": 0}
        connection.prepare(con, query.sql)
        rows = con.sql(query.sql, params=parameters.bind(query, values)).to_arrow_table()
        seen.append(
            dict(
                zip(*(rows.column(c).to_pylist() for c in ("rollout_id", "advantage")), strict=True)
            )
        )
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 360
    assert verify(store, "g").matches


def test_groups_of_a_policy_that_lags(store: Store) -> None:
    add_prompts(store, 4)
    old = policy("old")
    new = policy("new", parent=old["policy_id"]) | {"run_id": "t", "update": 5}
    add_policies(store, old, new)
    for name in ("old", "new"):
        made = [Made(p, s, reward=float(s)) for p in range(4) for s in range(2)]
        add_rollouts(store, name, name, made)
    assert built(store, "fresh", "grpo", policy="new").num_rows == 8
    stale = built(store, "stale", "grpo", policy="new", max_lag=5)
    assert sorted(stale.column("lag").to_pylist()) == [0] * 8 + [5] * 8
    assert set(stale.column("group_size").to_pylist()) == {2}, "policies make groups of their own"
