"""The KL between policies from stored logprobs: its standard error is over prompts."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import queries
from s2d_store.statistics import student_quantile

TRIALS, PROMPTS, ROLLOUTS = 1000, 30, 8
MACROS = ("plain_sampling", "sampled_only", "sampled_kl")


def estimates(differences_TPR: np.ndarray, tokens_TPR: np.ndarray) -> dict[str, np.ndarray]:
    """What the macro says of trials, each with a scorer of its own.

    Args:
        differences_TPR: summed logprob differences by trial, prompt and rollout.
        tokens_TPR: tokens of each rollout.
    """
    trials, prompts, rollouts = differences_TPR.shape
    n = differences_TPR.size
    scorer = np.repeat([f"scorer {i:04}" for i in range(trials)], prompts * rollouts)
    prompt = np.tile(np.repeat(np.arange(prompts), rollouts), trials)
    rollout = [f"rollout {i}" for i in range(n)]
    # A rollout's first token holds its whole difference.
    pairs = zip(differences_TPR.flat, tokens_TPR.flat, strict=True)
    lists = [[d] + [0.0] * (t - 1) for d, t in pairs]
    zeros = [[0.0] * t for t in tokens_TPR.flat]
    made = {
        "rollouts": pa.table(
            {
                "rollout_id": rollout,
                "policy_id": ["sampler"] * n,
                "prompt_id": prompt,
                "response_tokens": tokens_TPR.ravel(),
                "sampled_tokens": pa.nulls(n, pa.int32()),
                "response_mask": pa.nulls(n, pa.list_(pa.bool_())),
                "response_logprobs": pa.array(lists, pa.list_(pa.float64())),
                "temperature": np.ones(n),
                "top_p": np.ones(n),
                "top_k": np.zeros(n, np.int32),
            }
        ),
        "topk": pa.table(
            {
                "rollout_id": rollout,
                "scorer_policy_id": scorer,
                "support": ["own"] * n,
                "k": np.ones(n, np.int32),
                "sampled_logprobs": pa.array(zeros, pa.list_(pa.float64())),
            }
        ),
    }
    con = duckdb.connect()
    con.execute("CREATE SCHEMA raw")
    for name, table in made.items():
        con.register("made", table)
        con.execute(f"CREATE TABLE raw.{name} AS FROM made")
    for name in MACROS:
        con.execute((queries.ROOT / "macros" / f"{name}.sql").read_text())
    return con.execute("FROM sampled_kl(false) ORDER BY scorer_id").fetchnumpy()


def drawn(rng: np.random.Generator, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences of 0.2 nats per token on average, unlike between prompts."""
    shape = (trials, PROMPTS, ROLLOUTS)
    tokens = rng.integers(5, 20, shape)
    hard = rng.normal(0, 0.1, (trials, PROMPTS, 1))
    return tokens * (0.2 + hard + rng.normal(0, 0.1, shape)), tokens


def test_an_interval_holds_the_kl_95_times_in_100() -> None:
    """As if the 8 rollouts of a prompt were independent, 1.96 errors would cover about 55%."""
    found = estimates(*drawn(np.random.default_rng(0), TRIALS))
    assert set(found["prompts"]) == {PROMPTS} and set(found["rollouts"]) == {PROMPTS * ROLLOUTS}
    within = (
        np.abs(found["kl"] - 0.2) <= student_quantile(0.975, PROMPTS - 1) * found["standard_error"]
    )
    assert 0.93 < within.mean() < 0.97


def test_the_error_is_that_of_a_ratio_over_prompts() -> None:
    differences, tokens = drawn(np.random.default_rng(1), 1)
    found = estimates(differences, tokens)
    by_prompt, counted = differences[0].sum(1), tokens[0].sum(1)
    kl = by_prompt.sum() / counted.sum()
    spread = np.sqrt(PROMPTS / (PROMPTS - 1) * ((by_prompt - kl * counted) ** 2).sum())
    assert found["kl"][0] == pytest.approx(kl)
    assert found["standard_error"][0] == pytest.approx(spread / counted.sum())


def test_one_prompt_has_no_error() -> None:
    found = estimates(np.full((1, 1, 8), 0.5), np.full((1, 1, 8), 3))
    assert found["kl"][0] == pytest.approx(0.5 / 3)
    assert np.ma.is_masked(found["standard_error"][0])
