"""math-verify in the pool against hostile answers: one outcome each, and the pool serves on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from s2d_store.verifiers.base import OUTCOMES, Item, Verdict
from s2d_store.verifiers.math import MathVerifier
from s2d_store.verifiers.pool import VerifierPool
from tests.support.hostile_answers import CLASSES, GOLD, MONSTERS, MUST_TIME_OUT, responses

pytestmark = pytest.mark.slow

EASY = ("code", "latex", "unicode")
"""Classes that seldom run into the deadline; of the others one is drawn at a time."""


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool("math-verify", workers=2, deadline_s=1.0) as pool:
        assert pool.name == "math-verify"
        yield pool


@pytest.fixture(scope="module")
def math() -> MathVerifier:
    return MathVerifier()


def graded(pool: VerifierPool, texts: dict[str, str]) -> dict[str, Verdict]:
    found = list(pool.grade_many(Item(key, text, GOLD) for key, text in texts.items()))
    assert sorted(key for key, _, _ in found) == sorted(texts)
    assert {verdict.outcome for _, verdict, _ in found} <= set(OUTCOMES) - {"correct"}
    for _, verdict, _ in found:
        (verdict.extracted + verdict.detail).encode()  # Parquet takes no lone surrogates.
    return {key: verdict for key, verdict, _ in found}


def test_monsters_end_and_the_pool_serves_on(pool: VerifierPool) -> None:
    verdicts = graded(pool, MONSTERS)
    assert {verdicts[name].outcome for name in MUST_TIME_OUT} == {"timeout"}
    after = pool.grade_many([Item("a", "7919", GOLD), Item("b", r"\boxed{7918}", GOLD)])
    assert {key: verdict.outcome for key, verdict, _ in after} == {"a": "correct", "b": "wrong"}


@settings(
    max_examples=8,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    easy=st.lists(st.sampled_from(EASY).flatmap(responses), min_size=30, max_size=40),
    hard=st.sampled_from(sorted(set(CLASSES) - set(EASY))).flatmap(responses),
)
def test_every_hostile_answer_has_one_outcome(
    pool: VerifierPool, easy: list[str], hard: str
) -> None:
    graded(pool, {str(at): text for at, text in enumerate([hard, *easy])})


@pytest.mark.parametrize("kind", CLASSES)
def test_hostile_answers_are_drawn(kind: str) -> None:
    drawn: set[str] = set()

    @settings(
        max_examples=20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(responses(kind))
    def draw(text: str) -> None:
        drawn.add(text)

    draw()
    assert len(drawn) > 10


SUBSETS = [
    (r"\{1, 2, 3\}", r"\boxed{\{1, 2\}}"),
    ("1, 2, 3", r"\boxed{1, 2}"),
    ("1, 2", r"\boxed{1, 2, 3}"),
    ("1 and 2", r"\boxed{1}"),
    ("1 and 2", r"The answers are $1$ and $3$."),
    ("x=1 or x=2", r"\boxed{x=1}"),
    ("x=1, x=2", r"\boxed{x=2}"),
    ("(1, 2)", r"\boxed{1}"),
    (r"\{1, 2\}", "2"),
    ("1, 2", "1"),
]


@pytest.mark.parametrize(("gold", "response"), SUBSETS)
def test_part_of_an_answer_is_not_correct(math: MathVerifier, gold: str, response: str) -> None:
    assert math.verify(response, gold).outcome in ("wrong", "unparseable")
