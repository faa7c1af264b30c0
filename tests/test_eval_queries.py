"""eval_scores and eval_pairs against NumPy on made-up rewards."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import audit_rows as made
import numpy as np
import pytest
from synthetic import NOW, table

import queries
from s2d_store import params
from s2d_store.store import Store

N, PROMPTS = 4, 40


def ask(store: Store, name: str, **given: object) -> list[dict[str, Any]]:
    query = queries.catalog()[name]
    con = store.connect()
    values = params.resolve(query, {k: str(v) for k, v in given.items()}, con)
    return con.sql(query.sql, params=params.bound(query, values)).to_arrow_table().to_pylist()


@pytest.fixture
def answers(store: Store) -> dict[str, list[list[str]]]:
    """Answers of two policies to the same prompts; `1` is right, `` is no answer."""
    rng = np.random.default_rng(0)
    prompts = made.add_prompts(store, [f"question {i}" for i in range(PROMPTS)], "test")
    given: dict[str, list[list[str]]] = {}
    for name, right in (("a", 0.35), ("b", 0.6)):
        made.add_policy(store, name)
        p = [right, 0.9 * (1 - right) / 2, 0.9 * (1 - right) / 2, 0.1 * (1 - right)]
        given[name] = rng.choice(["1", "2", "3", ""], (PROMPTS, N + 1), p=p).tolist()
        rollouts = made.add_rollouts(store, f"eval-{name}", name, prompts, n=N + 1, purpose="eval")
        flat = [answer for row in given[name] for answer in row]
        rows = [
            {
                "rollout_id": rollout,
                "verifier": "math-verify",
                "verifier_version": "1",
                "reward": float(answer == "1"),
                "outcome": {"1": "correct", "": "unparseable"}.get(answer, "wrong"),
                "extracted": answer,
                "detail": "",
                "seconds": 0.0,
                "run_id": "verify",
                "created_at": NOW,
            }
            for rollout, answer in zip(rollouts, flat, strict=True)
        ]
        made.put(store, rewards=table("rewards", rows))
    return given


def means(rows: list[list[str]]) -> np.ndarray:
    return np.array([[a == "1" for a in row[:N]] for row in rows]).mean(axis=1)


def majority(row: list[str]) -> float:
    votes = Counter(a for a in row[:N] if a)
    if not votes:
        return 0.0
    tied = [a for a, count in votes.items() if count == max(votes.values())]
    return float("1" in tied) / len(tied)


def test_scores_are_numpys(store: Store, answers: dict[str, list[list[str]]]) -> None:
    rows = {row["policy"]: row for row in ask(store, "eval_scores", n=N, k=2)}
    assert rows.keys() == answers.keys()
    rng = np.random.default_rng(1)
    for name, given in answers.items():
        row, avg = rows[name], means(given)
        assert row["prompts"] == PROMPTS
        assert row["avg_at_n"] == pytest.approx(avg.mean(), abs=1e-4)
        pairs = [any(row[i] == "1" for i in c) for row in given for c in combinations(range(N), 2)]
        assert row["pass_at_k"] == pytest.approx(np.mean(pairs), abs=1e-4)
        maj = np.array([majority(row) for row in given])
        assert row["maj_at_n"] == pytest.approx(maj.mean(), abs=1e-4)
        for values, low, high in ((avg, "avg_low", "avg_high"), (maj, "maj_low", "maj_high")):
            drawn = values[rng.integers(0, PROMPTS, (20_000, PROMPTS))].mean(axis=1)
            assert row[low] == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
            assert row[high] == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)


def test_pairs_are_compared_on_the_same_prompts(
    store: Store, answers: dict[str, list[list[str]]]
) -> None:
    (row,) = ask(store, "eval_pairs", n=N)
    gain = means(answers["b"]) - means(answers["a"])
    assert (row["policy"], row["baseline"], row["prompts"]) == ("b", "a", PROMPTS)
    assert row["difference"] == pytest.approx(gain.mean(), abs=1e-4)
    counts = [int((gain > 0).sum()), int((gain < 0).sum()), int((gain == 0).sum())]
    assert [row["won"], row["lost"], row["tied"]] == counts
    rng = np.random.default_rng(1)
    drawn = gain[rng.integers(0, PROMPTS, (20_000, PROMPTS))].mean(axis=1)
    assert row["low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert row["high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)
    (mirrored,) = ask(store, "eval_pairs", n=N, baseline="b")
    assert mirrored["policy"] == "a" and mirrored["difference"] == -row["difference"]


def test_the_seed_decides_the_draws(store: Store, answers: dict[str, list[list[str]]]) -> None:
    first, again, other = (ask(store, "eval_scores", n=N, seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    assert [row["avg_at_n"] for row in first] == [row["avg_at_n"] for row in other]


def test_prompts_with_too_few_rollouts_are_left_out(
    store: Store, answers: dict[str, list[list[str]]]
) -> None:
    assert ask(store, "eval_scores", n=N + 2) == [] == ask(store, "eval_pairs", n=N + 2)
