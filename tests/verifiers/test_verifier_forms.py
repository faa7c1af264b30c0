"""Verifiers of every form, through a real pool: classes, functions, verl's, TRL's, async, sums."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from s2d_store.errors import InputError, S2DError
from s2d_store.verifiers import combined
from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.pool import VerifierPool
from s2d_store.verifiers.registry import load_verifier, needs_answer
from s2d_store.verifiers.verdict_checks import check_verdict

OWN = textwrap.dedent(
    """
    import asyncio, time
    from s2d_store.verifiers.base import Verdict

    class Whole:
        name, version = "whole", "1"
        needs_answer, needs_tokens = False, True

        def grade(self, item):
            seen = {"ids": item.response_token_ids, "system": item.messages[0]["content"]}
            seen |= {"meta": item.meta, "source": item.source, "id": item.rollout_id}
            return Verdict(1.0, "scored", item.response, metrics=seen, cost={"tokens": 3})

    class Slow:
        name, version = "slow", "1"
        async def grade(self, item):
            await asyncio.sleep(0.01)
            return Verdict(0.5, "scored")

    def compute_score(data_source, solution_str, ground_truth, extra_info=None):
        right = solution_str.endswith(ground_truth)
        rest = {"acc": right, "index": extra_info["index"], "of": data_source}
        return {"score": float(right), **rest}

    def plain_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
        return solution_str == ground_truth

    def accuracy_reward(completions, solution, **kwargs):
        contents = [completion[0]["content"] for completion in completions]
        return [float(a == b) for a, b in zip(contents, solution)]

    def length_reward(completions: list[str], **kwargs) -> list[float]:
        return [float(len(text)) for text in completions]

    async def later(prompts, completions, index, **kwargs):
        await asyncio.sleep(0.01)
        return [i + len(p) for i, p in zip(index, prompts)]

    def abstains(completions, **kwargs):
        return [None for _ in completions]

    def tidy(item):
        return 0.0 if " " in item.response else 1.0
    tidy.needs_answer = False

    def same(response, answer):
        return Verdict(float(response == answer), "correct" if response == answer else "wrong")

    def infinite(item):
        return float("inf")

    def three(a, b, c):
        return 1.0
    """
)
ITEM = Item(
    "r1",
    "42",
    answer="42",
    messages=({"role": "system", "content": "Think."}, {"role": "user", "content": "6*7?"}),
    source="sums",
    meta={"index": 7},
    token_ids=(5, 6),
)


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_rewards.py").write_text(OWN)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def verdict_of(spec: str, item: Item = ITEM) -> Verdict:
    return check_verdict(load_verifier(f"own_rewards:{spec}").grade(item))


def test_a_pool_hands_over_the_whole_item() -> None:
    with VerifierPool("own_rewards:Whole", 1) as pool:
        assert pool.needs.tokens and not pool.needs.answer
        ((key, verdict, _),) = pool.grade_many([ITEM])
    seen = {"ids": [5, 6], "system": "Think.", "meta": {"index": 7}, "source": "sums", "id": "r1"}
    assert key == "r1" and verdict == Verdict(1.0, "scored", "42", "", seen, {"tokens": 3})


@pytest.mark.parametrize(
    ("spec", "reward", "metrics"),
    [
        ("Slow", 0.5, None),
        ("compute_score", 1.0, {"acc": True, "index": 7, "of": "sums"}),
        ("plain_score", 1.0, None),
        ("accuracy_reward", 1.0, None),
        ("length_reward", 2.0, None),
        ("later", 9.0, None),
        ("tidy", 1.0, None),
    ],
)
def test_functions_and_coroutines_score(spec: str, reward: float, metrics: Any) -> None:
    assert verdict_of(spec) == Verdict(reward, "scored", metrics=metrics)


def test_functions_state_a_version_by_their_source() -> None:
    loaded = load_verifier("own_rewards:tidy")
    assert loaded.name == "own_rewards.tidy" and loaded.version.startswith("src-")
    assert not needs_answer("own_rewards:tidy") and needs_answer("math-verify")
    assert not loaded.needs.answer and load_verifier("own_rewards:accuracy_reward").needs.answer
    with pytest.raises(InputError, match=r"three is not a verifier\n.*a, b, c"):
        load_verifier("own_rewards:three")


def test_what_is_no_reward_is_no_judgement() -> None:
    assert verdict_of("abstains").outcome == verdict_of("infinite").outcome == "error"
    assert verdict_of("abstains").reward is verdict_of("infinite").reward is None


def test_any_accepted_answer_is_right() -> None:
    several = Item("r", "42", answer_type="list", answers=("41", "42"))
    assert verdict_of("same", several).outcome == "correct"
    assert verdict_of("same", Item("r", "4", answers=("41", "42"))).outcome == "wrong"


@pytest.mark.parametrize("reward", [1e300, 1e-46, 16777217, 0.1, -0.0, 5e-324, 2**60])
def test_rewards_cross_the_pool_bit_for_bit(reward: float) -> None:
    assert check_verdict(Verdict(reward, "scored")).reward == reward


@pytest.mark.parametrize("reward", [float("nan"), float("-inf"), 2**53 + 1, 10**400, None, "1"])
def test_what_no_float64_holds_is_an_error(reward: Any) -> None:
    found = check_verdict(Verdict(reward, "scored"))
    assert (found.reward, found.outcome) == (None, "error")


def test_what_a_verifier_says_is_bounded() -> None:
    long = check_verdict(Verdict(1.0, "correct", "x" * 50_000_000, "y" * 50_000))
    assert (len(long.extracted), len(long.detail)) == (10_000, 2_000)
    deep: Any = []
    for _ in range(50):
        deep = [deep]
    for metrics in ({"a": "x" * 100_000}, {"a": deep}, {"a": object()}):
        assert check_verdict(Verdict(1.0, "correct", metrics=metrics)).outcome == "error"
    assert check_verdict(Verdict(1.0, "correct", metrics={"a": float("nan")})).metrics == {
        "a": None
    }
    assert check_verdict(Verdict(1.0, "reported")).outcome == "error"
    assert check_verdict(Verdict(0.0, "timeout")) == Verdict(None, "timeout")


def test_a_sum_weighs_its_parts_and_keeps_them() -> None:
    spec = "reward = 0.9 * own_rewards:same + 0.1*own_rewards:tidy"
    loaded = load_verifier(spec)
    assert loaded.name == "reward" and loaded.needs.answer
    right = loaded.grade(ITEM)
    assert right.reward == pytest.approx(1.0) and right.outcome == "correct"
    assert right.metrics is not None
    assert right.metrics["own_rewards.tidy"] == {"weight": 0.1, "reward": 1.0, "outcome": "scored"}
    wrong = loaded.grade(Item("r", "41", answer="42"))
    assert wrong.reward == pytest.approx(0.1) and wrong.outcome == "wrong"
    other = load_verifier("reward = 0.8 * own_rewards:same + 0.2*own_rewards:tidy")
    assert other.version != loaded.version


def test_a_sum_judges_nothing_where_a_part_does_not() -> None:
    found = load_verifier("own_rewards:same + own_rewards:abstains").grade(ITEM)
    assert (found.reward, found.outcome) == (None, "error")
    assert "own_rewards.abstains: the verifier returned None" in found.detail


def test_a_sum_is_parsed_or_refused() -> None:
    asked = combined.parse("r = math-verify - 0.5 * a.b:c + 2*x")
    assert asked.terms == (
        combined.Term(1.0, "math-verify"),
        combined.Term(-0.5, "a.b:c"),
        combined.Term(2.0, "x"),
    )
    assert combined.parse("0.5*a + b").name.startswith("sum-")
    for bad in ("0.5 * ", "= a", "a + a", "r = 0.5 a", "r/x = a + b", "a ** b", "+"):
        with pytest.raises(S2DError):
            combined.parse(bad)
    with pytest.raises(S2DError, match="no verifier is named 'nope'"):
        VerifierPool("0.5 * math-verify + nope", 1)
