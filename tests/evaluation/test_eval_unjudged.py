"""Rollouts that nobody judged: counted in an evaluation, and left out of its rewards."""

from __future__ import annotations

import dataclasses

import pytest

from cli.eval_output import print_report
from s2d_store.evaluation import checks
from s2d_store.evaluation.figures import Figure, Report, Score
from s2d_store.store import Store
from tests.support.synthetic import REWARD, fill, table


@pytest.fixture
def evaluated(store: Store) -> Store:
    """6 prompts of 4 eval rollouts, 2 of each right; of the first prompt a right one timed out when
    it was graded again, of the second all four."""
    fill(store, purpose="eval", run="eval-teacher")
    prompts = [row[0] for row in store.sql("SELECT prompt_id FROM prompts ORDER BY 1").fetchall()]
    chosen = store.sql(
        "SELECT rollout_id FROM rollouts WHERE (prompt_id = $first AND sample_index = 0) "
        "OR prompt_id = $second",
        {"first": prompts[0], "second": prompts[1]},
    ).fetchall()
    late = {"outcome": "timeout", "reward": None, "attempt": 1}
    rows = [REWARD | {"rollout_id": rollout} | late for (rollout,) in chosen]
    store.commit({"rewards": table("rewards", rows)}, fresh=True)
    return store


def test_measures_leave_out_unjudged_rollouts_and_count_them(evaluated: Store) -> None:
    given = {"n": "4", "k": "1,4"}
    rows = checks.rows(checks.connect(evaluated), "eval_scores", given)
    found = {row["measure"]: row for row in rows}
    # The second prompt has no judged rollout; the first has three, one of them right.
    assert {row["prompts"] for row in found.values()} == {5}
    assert {(row["rollouts"], row["unjudged"]) for row in found.values()} == {(20, 1)}
    assert found["avg@4"]["value"] == pytest.approx((1 / 3 + 4 * 1 / 2) / 5, abs=1e-4)
    assert found["pass@1"]["value"] == found["avg@4"]["value"]
    # Four tries of the first prompt cannot be told from three rollouts.
    assert found["pass@4"]["value"] == 1.0


def test_the_report_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    score = Score("p", "run", 5, 20, 1, 1, 0, (Figure("avg@4", 0.5, 0.05, 0.4, 0.6),))
    unreadable = ("prompt p1: cannot read the gold answer '('",)
    print_report(Report(4, "math-verify", 0.0, unreadable, (score,)), "table")
    out = capsys.readouterr().out
    assert "1 gold answers cannot be read, so nobody is judged on them, e.g. prompt p1" in out
    assert "p: 1 of 20 rollouts were not judged (timeout, error)" in out
    print_report(
        Report(4, "math-verify", 0.0, (), (dataclasses.replace(score, unjudged=0),)), "table"
    )
    assert "not judged" not in capsys.readouterr().out


def test_of_one_rollout_a_prompt_the_same_figure_is_printed_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("avg@1", "pass@1", "maj@1", "truncated")
    figures = tuple(Figure(name, 0.0, 0.0, 0.0, 0.1) for name in names)
    score = Score("p", "run", 5, 5, 0, 0, 0, figures)
    print_report(Report(1, "math-verify", 0.0, (), (score,)), "table")
    measures = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:3]]
    assert measures == ["avg@1 = pass@1 = maj@1", "truncated"]
