"""Known answers: the project's own golds, the collected cases, whole numbers in 53 forms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.verdict_forms import FORMS
from benchmarks.verdicts import Case, collected, in_forms, own_cases
from s2d_store.errors import InputError
from s2d_store.verifiers.gold import gold_readable
from s2d_store.verifiers.math import MathVerifier

DEBATED = {r"First \boxed{5} but then it should be \boxed{"}
"""Decided otherwise than the collection has it: docs/verdicts.md says why."""


@pytest.fixture(scope="module")
def math() -> MathVerifier:
    return MathVerifier()


def collected_cases(name: str) -> list[Case]:
    for folder in Path(__file__).resolve().parents:
        path = folder / "shared" / "cases" / f"{name}.jsonl"
        if path.exists():
            return list(collected(path))
    pytest.skip("../shared/cases is not here")


def misjudged(math: MathVerifier, cases: list[Case]) -> list[tuple[Case, str]]:
    graded = [(case, math.verify(case.response, case.gold).outcome) for case in cases]
    return [
        (case, outcome)
        for case, outcome in graded
        if outcome not in (("correct",) if case.right else ("wrong", "unparseable"))
    ]


def test_own_golds(math: MathVerifier) -> None:
    cases = list(own_cases())
    assert Counter(case.right for case in cases)[False] > 400
    assert misjudged(math, cases) == []


@pytest.mark.parametrize("name", ["verdicts", "verdict_controls"])
def test_collected_cases(math: MathVerifier, name: str) -> None:
    missed = misjudged(math, collected_cases(name))
    assert {case.response for case, _ in missed} <= DEBATED


def test_whole_numbers_in_every_form(math: MathVerifier) -> None:
    assert len(set(FORMS)) == 53
    assert misjudged(math, list(in_forms(["18", "1,450", "70000", "6"]))) == []


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        ("box", r"<answer>6</answer> \boxed{5}", "#### 5"),
        ("tag", r"\boxed{6} <answer>5</answer>", r"\boxed{5}"),
        ("hash", "\\boxed{6}\n#### 5", "<answer>5</answer>"),
        ("last-number", r"\boxed{6} is half of it less 1: 5", "5 is the answer, not 6"),
    ],
)
def test_a_stated_place_is_the_only_one(rule: str, right: str, wrong: str) -> None:
    verifier = MathVerifier(answer_from=rule)  # type: ignore[arg-type]
    assert verifier.name == f"math-verify.{rule}" and verifier.version.endswith(f".{rule}")
    assert verifier.verify(right, "5").outcome == "correct"
    assert verifier.verify(wrong, "5").outcome in ("wrong", "unparseable")
    assert verifier.verify(f"<think>{right}", "5").outcome == "unparseable"


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(InputError, match="auto, box, tag, hash, last-number"):
        MathVerifier(answer_from="boxes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    ["5", r"\frac{1}{2}", "B", "even", "12:00", "The answer is 5", "x=1 or x=2", r"\{1, 2\}",
     r"(-\infty, 3]", "Janet sells 9 eggs.\n#### 18", r"So it is \boxed{7}."],
)  # fmt: skip
def test_golds_that_can_be_read(math: MathVerifier, answer: str) -> None:
    assert gold_readable(answer) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no letter and no digit"),
        ("???", "no letter and no digit"),
        (r"\frac{1}{", "braces"),
        ("not a number at all (", "braces"),
        ("There are 3 apples and 4 pears in the basket today", "sentence"),
        ("The proof goes by induction over the number of edges of G", "sentence"),
        ("7" * 30_000, "too many"),
        (r"1, 2, \ldots, n", "only the same text"),
    ],
)
def test_golds_that_cannot_be_read_say_why(math: MathVerifier, answer: str, reason: str) -> None:
    said = gold_readable(answer)
    assert said is not None and reason in said
    if reason != "only the same text":
        verdict = math.verify(r"\boxed{5}", answer)
        assert (verdict.outcome, verdict.reward) == ("error", 0.0) and reason in verdict.detail


def test_the_same_text_is_correct_whatever_can_be_read(math: MathVerifier) -> None:
    for gold in (
        r"1, 2, \ldots, n",
        r"\triangle ABC",
        "p \\Rightarrow q",
        "It rains all day long today in Oslo",
    ):
        assert math.verify(rf"\boxed{{{gold}}}", gold).outcome == "correct"
        assert math.verify(r"\boxed{5}", gold).outcome != "correct"


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        (r"1000000!", r"999999! \cdot 1000000", True),
        (r"\frac{1000000!}{999999!}", "1000001", False),
        (r"1000000! + 1", "1000000!", False),
        (r"\prod_{k=1}^{1000000} k", "5", False),
        (r"\sum_{k=1}^{1000000} \frac{1}{k}", "5", False),
        (r"\begin{pmatrix} 10000000! \end{pmatrix}", r"\begin{pmatrix} 2 \end{pmatrix}", False),
        (r"\sum_{k=1}^{10} k", "55", True),
    ],
)
def test_numbers_too_large_to_work_out_take_no_time(
    math: MathVerifier, answer: str, gold: str, right: bool
) -> None:
    assert math.verify(rf"\boxed{{{answer}}}", gold).outcome == ("correct" if right else "wrong")
