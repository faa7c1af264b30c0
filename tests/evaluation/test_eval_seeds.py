"""Comparisons of methods over training seeds: the query, and `s2d eval` with methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from s2d_store.errors import QueryError
from s2d_store.evaluation import checks
from s2d_store.evaluation.evaluate import EvalConfig, across_seeds, report
from s2d_store.evaluation.methods import Members
from s2d_store.policies.registry import Registered
from s2d_store.rollouts.generate_config import GenerateConfig, run_of
from s2d_store.statistics import paired_test, t_interval
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import audit_rows as rows
from viewer import report as viewed

PROMPTS = 40
ACCURACY = {"bridge": (0.62, 0.66, 0.7, 0.59), "cold": (0.5, 0.58, 0.6, 0.45)}
METHODS = "cold.s{seed},bridge.s{seed}"


def run_of_settings(name: str) -> str:
    """The run that `s2d eval` looks for, with its default settings."""
    config = GenerateConfig(policy=name, role="student", purpose="eval")
    return run_of(config, Registered(rows.policy_id(name), name, "", "", None))


def fill(store: Store, accuracies: Mapping[str, tuple[float, ...]] = ACCURACY) -> None:
    """A policy per method and seed, each right on its share of PROMPTS, drawn by chance."""
    rng = np.random.default_rng(0)
    prompts = rows.add_prompts(store, [f"question {i}" for i in range(PROMPTS)], "test")
    for method, shares in accuracies.items():
        for seed, share in enumerate(shares):
            name = f"{method}.s{seed}"
            rows.add_policy(store, name)
            given = {"purpose": "eval", "engine": "transformers", "max_tokens": 512}
            rollouts = rows.add_rollouts(store, run_of_settings(name), name, prompts, n=1, **given)
            rows.grade(
                store, rollouts, ((rng.permutation(PROMPTS) < share * PROMPTS) * 1.0).tolist()
            )


def seeds(store: Store, **given: object) -> list[dict[str, Any]]:
    return checks.rows(checks.connect(store), "eval_seeds", {k: str(v) for k, v in given.items()})


def accuracies(store: Store) -> dict[str, np.ndarray]:
    found = store.sql(
        "SELECT split_part(policy, '.', 1), list(rate ORDER BY policy) "
        "FROM (SELECT policy, avg(reward) AS rate FROM graded_rollouts GROUP BY policy) GROUP BY 1"
    )
    return {method: np.array(rates) for method, rates in found.fetchall()}


def test_methods_are_compared_seed_by_seed(store: Store) -> None:
    fill(store)
    (row,) = seeds(store, methods=METHODS, margin=0.3)
    of = accuracies(store)
    difference = of["bridge"] - of["cold"]
    assert (row["method"], row["against"]) == ("bridge.s{seed}", "cold.s{seed}")
    assert (row["seeds"], row["unpaired"], row["prompts"]) == (4, 0, PROMPTS)
    assert (row["mean"], row["against_mean"]) == pytest.approx(
        (of["bridge"].mean(), of["cold"].mean()), abs=6e-5
    )
    expected = paired_test(difference, margin=0.3)
    shown = [row[key] for key in ("standard_error", "low", "high", "p", "p_equivalent")]
    assert shown == pytest.approx(list(expected), abs=6e-5)
    assert row["p_holm"] == row["p"], "one comparison needs no correction"
    assert row["conclusion"] == "better, equivalent", "a difference, within a wide margin"


def test_no_gain_is_a_claim_that_needs_evidence(store: Store) -> None:
    fill(store, {"bridge": (0.62, 0.6, 0.7), "cold": (0.5, 0.65, 0.6)})
    (row,) = seeds(store, methods=METHODS)
    assert row["p"] > 0.05 and row["conclusion"] == "not decided"
    (row,) = seeds(store, methods=METHODS, margin=0.01)
    assert row["p_equivalent"] > 0.05 and row["conclusion"] == "not decided"
    (row,) = seeds(store, methods=METHODS, margin=0.9)
    assert row["p_equivalent"] < 0.05 and row["conclusion"] == "equivalent"
    (row,) = seeds(store, methods=METHODS, seeds="1")
    assert (row["seeds"], row["p"], row["conclusion"]) == (1, None, "unknown")


def test_several_comparisons_are_corrected(store: Store) -> None:
    fill(store, {**ACCURACY, "sft": (0.55, 0.6, 0.62, 0.5)})
    found = seeds(store, methods=f"{METHODS},sft.s{{seed}}")
    assert [(r["method"], r["against"]) for r in found] == [
        ("bridge.s{seed}", "cold.s{seed}"),
        ("sft.s{seed}", "cold.s{seed}"),
        ("sft.s{seed}", "bridge.s{seed}"),
    ]
    by_p = sorted(found, key=lambda row: row["p"])
    expected, least = [], 0.0
    for row, factor in zip(by_p, (3, 2, 1), strict=True):
        least = max(least, min(1, factor * row["p"]))
        expected.append(least)
    assert [row["p_holm"] for row in by_p] == pytest.approx(expected, abs=1e-5)
    held = seeds(store, methods=f"{METHODS},sft.s{{seed}}", baseline="bridge.s{seed}")
    assert {r["against"] for r in held} == {"bridge.s{seed}"} and len(held) == 2


def test_a_seed_of_one_method_alone_is_counted(store: Store) -> None:
    fill(store, {"bridge": ACCURACY["bridge"], "cold": ACCURACY["cold"][:3]})
    (row,) = seeds(store, methods=METHODS)
    assert (row["seeds"], row["unpaired"]) == (3, 1)


def test_a_policy_with_several_eval_runs_needs_a_choice(store: Store) -> None:
    fill(store)
    prompts = rows.prompt_ids(store, run_of_settings("cold.s0"))
    rows.add_rollouts(store, "warmer", "cold.s0", prompts, n=1, purpose="eval", temperature=1.5)
    with pytest.raises(QueryError, match="has several eval runs"):
        seeds(store, methods=METHODS)
    runs = ",".join(run_of_settings(f"{m}.s{s}") for m in ACCURACY for s in range(4))
    assert len(seeds(store, methods=METHODS, eval_runs=runs)) == 1


def test_reports_of_single_seeds_are_compared(store: Store) -> None:
    """As `s2d run` does: every seed is sampled with a seed of its own, so that runs differ."""
    fill(store)
    reports = []
    for seed in range(4):
        policies = tuple(f"{method}.s{seed}" for method in ACCURACY)
        settings = GenerateConfig(
            policy="", role="student", purpose="eval", n=1, verifier="math-verify"
        )
        reports.append(report(store, EvalConfig(policies, settings, k=(1,))))
    members = [
        Members(f"{method}.s{{seed}}", {str(s): f"{method}.s{s}" for s in range(4)})
        for method in ACCURACY
    ]
    prompts = rows.prompt_ids(store, run_of_settings("cold.s0"))
    found = across_seeds(store, reports, members, prompts, "cold.s{seed}")
    (pair,), of = found.method_pairs, accuracies(store)
    assert (pair.method, pair.seeds) == ("bridge.s{seed}", 4) and not found.pairs
    assert pair.difference == pytest.approx((of["bridge"] - of["cold"]).mean(), abs=6e-5)
    page = viewed.write(viewed.opened(store), "md")
    assert "| cold.s{seed} | bridge.s{seed} | 4 | -0.11" in page.replace("\\", "")


def test_the_command_compares_methods(store: Store, cli: Cli) -> None:
    fill(store)
    asked = ("cold.s{seed}", "bridge.s{seed}", "--n", 1, "--report", "--store", store.root)
    done = cli("eval", *asked, "--margin", 0.02)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    of = accuracies(store)
    # Of one rollout per prompt, all measures are the same.
    measures = ["avg@1", "=", "pass@1", "=", "maj@1"]
    assert lines[1][:8] == [*measures, "cold.s{seed}", "4", f"{of['cold'].mean():.3f}"]
    assert "over training seeds" in done.out and "over prompts" not in done.out
    assert lines[-2][:4] == [
        "bridge.s{seed}",
        "cold.s{seed}",
        "4",
        f"{(of['bridge'] - of['cold']).mean():+.3f}",
    ]
    assert "equivalent: within 0.02, by two one-sided tests at 5%" in done.out
    report = json.loads(cli("eval", *asked, "--seeds", "1-3", "--format", "json").out)
    (method, _) = report["methods"]
    assert method["seeds"] == ["1", "2", "3"] and len(report["scores"]) == 6
    figure = next(f for f in method["figures"] if f["measure"] == "avg@1")
    assert figure["standard_error"] == pytest.approx(t_interval(of["cold"][1:]).standard_error)
    assert report["pairs"] == [] and report["method_pairs"][0]["seeds"] == 3
    done = cli("eval", *asked, "--seeds", "3-5")
    assert "no policy of seed 4 is named 'cold.s{seed}'" in done.err
    done = cli("eval", *asked, "--baseline", "warm.s{seed}")
    assert "baseline 'warm.s{seed}' is not one of those evaluated" in done.err
