"""Which verdicts count: versions, attempts, withdrawals, several verifiers, nobody's judgement."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from s2d_store.audits import run as audits
from s2d_store.errors import InputError, NotFoundError
from s2d_store.rollouts.withdraw import require_standing, withdraw
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, built
from tests.support.synthetic import NOW, REWARD, policy, table


def put(store: Store, *verdicts: dict[str, Any]) -> None:
    """Add verdicts on rollout `r`, the first of a store of one; later ones were made earlier."""
    if not store.sql("FROM rollouts").fetchall():
        add_prompts(store, 1)
        add_policies(store, policy("student"))
        add_rollouts(store, "r", "student", [Made(0)])
    rollout = "r-000-0-0"
    rows = [
        REWARD | {"rollout_id": rollout, "created_at": NOW - timedelta(hours=place)} | verdict
        for place, verdict in enumerate(verdicts)
    ]
    store.commit({"rewards": table("rewards", rows)}, fresh=True)


def current(store: Store, columns: str = "verifier_version") -> list[tuple[Any, ...]]:
    return store.sql(f"SELECT {columns} FROM current_rewards ORDER BY verifier").fetchall()


def of_version(version: str, **others: Any) -> dict[str, Any]:
    return {"verifier_version": version, **others}


@pytest.mark.parametrize(
    "versions",
    [
        ["0.9.0+s2d2", "0.9.0+s2d10"],
        ["1.2", "1.10"],
        ["9", "10.1"],
        ["v2", "v10"],
        ["2026-01-09", "2026-01-10"],
        ["src-ffff", "1"],
        ["7d3b38de", "0.1"],
        ["1.0", "1.0.1"],
    ],
)
def test_versions_are_ordered_by_their_numbers_whatever_the_clock(
    store: Store, versions: list[str]
) -> None:
    put(store, *map(of_version, versions))
    assert current(store) == [(versions[-1],)]
    flags = store.sql("SELECT verifier_version, counts FROM verdicts").fetchall()
    assert dict(flags) == {versions[-1]: True, versions[0]: False}


def test_versions_without_numbers_are_ordered_by_first_use(store: Store) -> None:
    put(store, of_version("src-aaaa"), of_version("src-ffff"))  # The second was used before.
    assert current(store) == [("src-aaaa",)]


def test_the_newest_attempt_counts_even_if_an_older_one_judged(store: Store) -> None:
    late = {"outcome": "timeout", "reward": None}
    put(store, of_version("1", attempt=1, **late), of_version("1", attempt=0, **late))
    assert current(store, "attempt, reward, outcome") == [(1, None, "timeout")]
    put(store, of_version("1", attempt=2))
    assert current(store, "attempt, reward, outcome") == [(2, 1.0, "correct")]


def test_a_withdrawn_version_counts_no_more_and_nothing_is_deleted(store: Store, cli: Cli) -> None:
    put(store, of_version("2", reward=0.0, outcome="wrong"), of_version("1"))
    assert current(store) == [("2",)]
    at = ("--store", store.root)
    done = cli("verifiers", "withdraw", "math-verify", "2", "--reason", "reads 1e5 as 5", *at)
    assert (done.code, "1 verdicts no longer count" in done.out) == (0, True)
    assert current(store) == [("1",)]
    assert store.sql("SELECT outcome FROM graded_rollouts").fetchall() == [("correct",)]
    assert store.sql("SELECT count(*) FROM verdicts").fetchall() == [(2,)]
    again = cli("verifiers", "withdraw", "math-verify", "2", "--reason", "again", *at)
    assert (again.code, "was withdrawn before" in again.out) == (0, True)
    listed = cli("verifiers", "list", *at)
    assert "code-tests" in listed.out and "reads 1e5 as 5" in listed.out
    refused = cli("verifiers", "withdraw", "math-verify", "3", "--reason", "x", *at)
    assert refused.code == 1 and "has no verdict of math-verify 3" in refused.err
    with pytest.raises(NotFoundError, match="math-verify 1, math-verify 2"):
        withdraw(store, "maths", "1", "x")
    with pytest.raises(InputError, match="no reason"):
        withdraw(store, "math-verify", "1", " ")
    with pytest.raises(InputError, match="was withdrawn: reads 1e5 as 5"):
        require_standing(store, "math-verify", "2")
    withdraw(store, "math-verify", "1", "too")
    assert current(store) == []
    assert store.sql("SELECT outcome FROM graded_rollouts").fetchall() == [(None,)]


def test_graded_rollouts_have_one_row_whatever_verifiers_ran(store: Store) -> None:
    put(store, of_version("1", verifier="zeta"), of_version("1", verifier="beta", reward=0.5))
    query = "SELECT verifier, reward FROM graded_rollouts"
    assert store.sql(query).fetchall() == [("beta", 0.5)]
    put(store, of_version("1", outcome="error", reward=None))
    assert store.sql(query).fetchall() == [("math-verify", None)]
    found = store.sql("SELECT verifier FROM rollout_rewards ORDER BY 1").fetchall()
    assert found == [("beta",), ("math-verify",), ("zeta",)]


@pytest.mark.parametrize(
    ("outcome", "reward", "right"),
    [
        ("correct", 1.0, True),
        ("correct", -1.0, True),
        ("wrong", 0.1, False),
        ("unparseable", 0.0, False),
        ("scored", 0.3, True),
        ("scored", 0.0, False),
        ("scored", -2.0, False),
        ("reported", 1.0, None),
        ("timeout", None, None),
        ("error", None, None),
        (None, None, None),
    ],
)
def test_what_counts_as_right(store: Store, outcome: str, reward: Any, right: Any) -> None:
    values = {"outcome": outcome, "reward": reward}
    found = store.sql("SELECT is_correct($outcome, $reward::DOUBLE)", values)
    assert found.fetchall() == [(right,)]


@pytest.mark.parametrize("reward", [1e300, 1e-46, 16777217.0, 5e-324, -0.0])
def test_rewards_are_float64_to_the_bit(store: Store, reward: float) -> None:
    put(store, {"reward": reward, "outcome": "scored"})
    ((found,),) = current(store, "reward")
    assert np.float64(found).tobytes() == np.float64(reward).tobytes()


def test_groups_leave_out_what_nobody_judged(store: Store) -> None:
    add_prompts(store, 2)
    add_policies(store, policy("student"))
    made = [Made(0, s, reward=float(s == 0)) for s in range(3)]
    made += [Made(0, 3), Made(1, 0, reward=1.0), Made(1, 1, reward=0.0), Made(1, 2)]
    add_rollouts(store, "gen", "student", made)
    late = REWARD | {"rollout_id": "gen-000-3-0", "outcome": "timeout", "reward": None}
    store.commit({"rewards": table("rewards", [late])}, fresh=True)
    rows = built(store, "g", "grpo", policy="student", form="dr_grpo").to_pylist()
    # The second group waits for its third rollout, which nothing has graded yet.
    assert {row["prompt_id"] for row in rows} == {"p000"} and len(rows) == 3
    assert {(row["group_size"], row["unjudged"]) for row in rows} == {(3, 1)}
    assert sorted(row["advantage"] for row in rows) == pytest.approx([-1 / 3, -1 / 3, 2 / 3])
    sized = built(store, "h", "grpo", policy="student", group_size=4).to_pylist()
    assert [row["rollout_id"] for row in sized] == [row["rollout_id"] for row in rows]


def test_an_audit_names_the_datasets_that_took_withdrawn_rewards(store: Store) -> None:
    add_prompts(store, 1)
    add_policies(store, policy("student"))
    add_rollouts(store, "gen", "student", [Made(0, s, reward=float(s)) for s in range(2)])
    built(store, "g", "grpo", policy="student")
    (fine,) = audits.audit(store, ["withdrawn_verdicts"])
    assert (fine.status, fine.figures[0]["withdrawn"]) == ("passed", False)
    withdraw(store, "math-verify", "1", "broken")
    (found,) = audits.audit(store, ["withdrawn_verdicts"])
    assert found.status == "failed"
    (row,) = found.sample
    assert (row["dataset"], row["rows"], row["withdrawn"]) == ("g", 2, "broken")
