"""The figures of `s2d eval` against plain Python, on rows made by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from s2d_store.errors import QueryError
from s2d_store.evaluation import checks
from s2d_store.statistics import mean_interval, paired_test
from s2d_store.store import Store
from tests.support import audit_rows as rows
from tests.support.synthetic import NOW, table

N, STORED = 3, 4
UNREADABLE = ""
ROLLOUT = {
    "role": "student",
    "purpose": "eval",
    "round": 0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "max_tokens": 8,
    "seed": 0,
    "engine": "vllm",
    "engine_version": "0",
    "prompt_token_ids": [1, 2, 3],
    "response_text": "text",
    "prompt_tokens": 3,
    "created_at": NOW,
}
VERDICT = {
    "verifier": "math-verify",
    "verifier_version": "1",
    "detail": "",
    "seconds": 0.0,
    "run_id": "verify",
    "created_at": NOW,
}


@dataclass(frozen=True)
class Said:
    """One made rollout: the answer read from it, whether it is right, its tokens, cut or not."""

    answer: str
    right: bool
    tokens: int = 5
    cut: bool = False


def add_eval(
    store: Store, name: str, prompts: Sequence[str], said: Sequence[Sequence[Said]]
) -> str:
    """An eval run of a new policy, with what it said to each prompt, in order of sample_index."""
    rows.add_policy(store, name)
    run, made, verdicts = f"eval-{name}", [], []
    for prompt, answers in zip(prompts, said, strict=True):
        for index, it in enumerate(answers):
            at = {"rollout_id": f"{run}-{prompt}-{index}"}
            place = {"run_id": run, "policy_id": rows.policy_id(name), "prompt_id": prompt}
            tokens = {"response_tokens": it.tokens, "finish_reason": "length" if it.cut else "stop"}
            lists = {"response_token_ids": [1] * it.tokens, "response_logprobs": [-1.0] * it.tokens}
            made.append(ROLLOUT | at | place | tokens | lists | {"sample_index": index})
            outcome = "correct" if it.right else "wrong"
            judged = {"reward": float(it.right), "outcome": outcome, "extracted": it.answer}
            judged |= {} if it.answer else {"outcome": "unparseable"}
            verdicts.append(VERDICT | at | judged)
    rows.put(store, rollouts=table("rollouts", made), rewards=table("rewards", verdicts))
    return run


def random_answers(seed: int, prompts: int, n: int = STORED) -> list[list[Said]]:
    """Answers 0 (right), 1, 2 or none, so that votes often tie and some prompts have no vote."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 4, (prompts, n))
    return [
        [
            Said(
                UNREADABLE if answer == 3 else f" {answer} ",
                bool(answer == 0),
                int(rng.integers(1, 9)),
                bool(rng.integers(0, 2)),
            )
            for answer in row
        ]
        for row in drawn
    ]


def majority(answers: Sequence[Said]) -> float:
    votes = Counter(it.answer for it in answers if it.answer)
    if not votes:
        return 0.0
    tied = [answer for answer, count in votes.items() if count == max(votes.values())]
    return sum(answer.strip() == "0" for answer in tied) / len(tied)


def by_prompt(said: Sequence[Sequence[Said]], k: Sequence[int]) -> dict[str, list[float]]:
    """Every measure of each prompt, from the first N rollouts."""
    taken = [answers[:N] for answers in said]
    right = [sum(it.right for it in answers) for answers in taken]
    found = {f"avg@{N}": [c / N for c in right]}
    for tries in k:
        found[f"pass@{tries}"] = [1 - math.comb(N - c, tries) / math.comb(N, tries) for c in right]
    found[f"maj@{N}"] = [majority(answers) for answers in taken]
    found["tokens"] = [sum(it.tokens for it in answers) / N for answers in taken]
    found["truncated"] = [sum(it.cut for it in answers) / N for answers in taken]
    return found


def prompts_of(store: Store, n: int) -> list[str]:
    """n new prompts, in order of their id."""
    return sorted(rows.add_prompts(store, [f"question {i}" for i in range(n)], "test"))


def scores(store: Store, **given: object) -> list[dict[str, Any]]:
    return checks.rows(checks.connect(store), "eval_scores", {k: str(v) for k, v in given.items()})


def pairs(store: Store, **given: object) -> list[dict[str, Any]]:
    return checks.rows(checks.connect(store), "eval_pairs", {k: str(v) for k, v in given.items()})


def test_scores_and_intervals_are_those_of_plain_python(store: Store) -> None:
    prompts = prompts_of(store, 10)
    said = {"a": random_answers(1, 10), "b": random_answers(2, 7)}
    for name, answers in said.items():
        add_eval(store, name, prompts[: len(answers)], answers)
    found = scores(store, n=N, k="3,1")
    assert [(row["policy"], row["measure"]) for row in found] == [
        (name, measure) for name in said for measure in by_prompt(said[name], (1, 3))
    ]
    for row in found:
        values = by_prompt(said[row["policy"]], (1, 3))[row["measure"]]
        assert (row["prompts"], row["rollouts"]) == (len(values), N * len(values))
        assert row["value"] == pytest.approx(np.mean(values), abs=6e-5), row
        expected = mean_interval(np.array(values), bounded=row["measure"] != "tokens")
        shown = row["standard_error"], row["low"], row["high"]
        assert shown == pytest.approx(expected, abs=6e-5), row


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("0 0 1", 1.0),
        ("0 1 1", 0.0),
        ("0 1 2", 1 / 3),
        ("0 1 -", 0.5),
        ("1 - -", 0.0),
        ("0 - -", 1.0),
        ("- - -", 0.0),
    ],
)
def test_a_majority_counts_readable_answers_and_shares_ties(
    store: Store, answers: str, expected: float
) -> None:
    said = [Said(UNREADABLE if a == "-" else a, a == "0") for a in answers.split()]
    add_eval(store, "a", prompts_of(store, 1), [said])
    (row,) = (r for r in scores(store, n=N) if r["measure"] == f"maj@{N}")
    assert row["value"] == pytest.approx(expected, abs=6e-5)


def test_a_verifier_that_extracts_nothing_has_no_majority(store: Store) -> None:
    prompts = prompts_of(store, 2)
    rows.add_policy(store, "a")
    rollouts = rows.add_rollouts(store, "run", "a", prompts, n=1, purpose="eval")
    rows.grade(store, rollouts, [1.0, 0.0])
    graded = store.sql("FROM raw.rewards").to_arrow_table().to_pylist()
    bare = {"verifier": "bare", "extracted": "", "created_at": NOW}
    rows.put(store, rewards=table("rewards", [row | bare for row in graded]))
    (row,) = (r for r in scores(store, verifier="bare") if r["measure"] == "maj@1")
    assert (row["prompts"], row["value"], row["low"], row["high"]) == (2, None, None, None)


def test_only_graded_eval_rollouts_below_n_count(store: Store) -> None:
    prompts = prompts_of(store, 3)
    add_eval(store, "a", prompts, [[Said("0", True), Said("1", False)]] * 3)
    # One prompt has a single rollout more, one is sampled for training, one has no verdict.
    rows.add_rollouts(store, "train", "a", prompts, n=2)
    (late,) = rows.add_rollouts(
        store, "eval-a", "a", prompts[:1], n=1, purpose="eval", sample_index=2, rollout_id="late"
    )
    assert {r["prompts"] for r in scores(store, n=2)} == {3}
    assert scores(store, n=3) == []
    rows.grade(store, [late], [1.0])
    assert {(r["prompts"], r["rollouts"]) for r in scores(store, n=3)} == {(1, 3)}
    some = ",".join(prompts[1:])
    assert {r["prompts"] for r in scores(store, n=1, prompts=some)} == {2}
    assert scores(store, n=1, verifier="other") == scores(store, n=1, eval_runs="none") == []


def test_the_order_of_rows_changes_no_figure(store: Store, tmp_path: Any) -> None:
    texts = [f"question {i}" for i in range(12)]
    said = {text: answers for text, answers in zip(texts, random_answers(4, 12), strict=True)}
    other = Store.init(tmp_path / "other")
    for each, order in ((store, texts), (other, texts[::-1])):
        prompts = rows.add_prompts(each, order, "test")
        add_eval(each, "a", prompts, [said[text] for text in order])
    assert scores(other, n=N) == scores(store, n=N)


def test_rewards_on_another_scale_have_intervals_beyond_1(store: Store) -> None:
    prompts = prompts_of(store, 4)
    rows.add_policy(store, "a")
    rollouts = rows.add_rollouts(store, "run", "a", prompts, n=1, purpose="eval")
    rows.grade(store, rollouts, [1.0, 1.0, 0.0, 1.0])
    rows.grade(store, rollouts, [1.0, 5.0, 9.0, 7.0], verifier="judge")
    high = {
        verifier: next(r for r in scores(store, verifier=verifier) if r["measure"] == "avg@1")[
            "high"
        ]
        for verifier in ("math-verify", "judge")
    }
    assert high["math-verify"] <= 1 < high["judge"]


def test_k_above_n_is_refused(store: Store) -> None:
    add_eval(store, "a", prompts_of(store, 2), random_answers(1, 2))
    with pytest.raises(QueryError, match="pass@k needs k of 1 to n: k = 4, n = 3"):
        scores(store, n=N, k="1,4")


def test_pairs_differ_prompt_by_prompt(store: Store) -> None:
    prompts = prompts_of(store, 12)
    said = {name: random_answers(seed, 12) for seed, name in enumerate("abc")}
    for name in "abc":
        add_eval(store, name, prompts, said[name])
    means = {name: np.array(by_prompt(said[name], ())[f"avg@{N}"]) for name in "abc"}
    # Policy d lacks the last prompts: only those that both have are compared.
    add_eval(store, "d", prompts[:9], random_answers(9, 9))
    means["d"] = np.array(by_prompt(random_answers(9, 9), ())[f"avg@{N}"])
    found = pairs(store, n=N, eval_runs="eval-c,eval-a,eval-d")
    assert [(r["policy"], r["against"]) for r in found] == [("a", "c"), ("d", "c"), ("d", "a")]
    for row in found:
        size = min(len(means[row["policy"]]), len(means[row["against"]]))
        difference = means[row["policy"]][:size] - means[row["against"]][:size]
        assert row["prompts"] == size
        assert row["difference"] == pytest.approx(difference.mean(), abs=6e-5)
        error, low, high, p, _ = paired_test(difference)
        shown = row["standard_error"], row["low"], row["high"], row["p"]
        assert shown == pytest.approx((error, low, high, p), abs=6e-5)
        won, lost = int((difference > 1e-9).sum()), int((difference < -1e-9).sum())
        assert (row["won"], row["lost"], row["tied"]) == (won, lost, size - won - lost)
    smallest = min(found, key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(min(1, 3 * smallest["p"]), abs=1e-5)
    assert max(row["p_holm"] for row in found) >= max(row["p"] for row in found)
    assert {row["p_equivalent"] for row in found} == {None}, "no margin, no such claim"
    held = pairs(store, n=N, baseline="eval-b")
    assert [(r["policy"], r["against"]) for r in held] == [("a", "b"), ("c", "b"), ("d", "b")]
    assert pairs(store, n=N, eval_runs="eval-a") == []


def test_policies_that_share_no_prompt_make_no_pair(store: Store) -> None:
    first, second = prompts_of(store, 2)
    add_eval(store, "a", [first], random_answers(1, 1))
    add_eval(store, "b", [second], random_answers(1, 1))
    assert pairs(store, n=N) == []
