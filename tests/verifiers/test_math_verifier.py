"""math-verify: which answers are right, wrong, or cannot be read."""

from __future__ import annotations

import time

import pytest

from s2d_store.verifiers.answer_place import closing_brace, final_boxed
from s2d_store.verifiers.math import MathVerifier


@pytest.fixture(scope="module")
def math() -> MathVerifier:
    return MathVerifier()


CORRECT = [
    ("72", "72"),
    ("72", r"Adding up, \boxed{71} is wrong, so it is \boxed{72}."),
    ("72", "She sold 48 + 24 clips.\n#### 72"),
    ("1,234", "1234"),
    ("1234", "The total is $1,234."),
    ("1234", r"\boxed{1{,}234}"),
    ("0.5", r"\boxed{\frac{1}{2}}"),
    (r"\frac{1}{2}", "The answer is 0.5"),
    (r"(3, \pi/2)", r"It is \boxed{\left(3, \frac{\pi}{2}\right)}."),
    ("x+1", "$1+x$"),
    ("1331 and 1728", r"\boxed{1728} and \boxed{1331}"),
    (r"\{1, 2\}", r"\boxed{2, 1}"),
    ("5", r"\boxed{x = 5}"),
    ("113", r"\boxed{m+n=113}"),
    ("73", "437 + 2*234 = 905\n\nFinal Answer: **73**"),
    ("3", r"so \boxed{3}. An unfinished \boxed{4"),
]
WRONG = [
    ("72", "47"),
    ("72", r"It is 72, no, \boxed{73}"),
    ("1331 and 1728", "1728"),
    ("1331 and 1728", r"\boxed{1331}"),
    ("1331", r"\boxed{1331} and \boxed{1728}"),
    ("1,2,3", r"\boxed{1,2}"),
    (r"\{1,2\}", r"\boxed{\{1,2,3\}}"),
    ("0", "3x=0"),
    ("0", r"\boxed{3x=0}"),
    ("6", r"\boxed{2x=6}"),
    ("3x+4y+14=0", "3*x-1*y+13=0"),
    (r"\frac{1}{2^{99}}", r"\boxed{\frac{1}{2^{98}}}"),
]


@pytest.mark.parametrize(("answer", "response"), CORRECT)
def test_math_correct(math: MathVerifier, answer: str, response: str) -> None:
    verdict = math.verify(response, answer)
    assert (verdict.outcome, verdict.reward, verdict.detail) == ("correct", 1.0, "")
    assert verdict.extracted


@pytest.mark.parametrize(("answer", "response"), WRONG)
def test_math_wrong(math: MathVerifier, answer: str, response: str) -> None:
    verdict = math.verify(response, answer)
    assert (verdict.outcome, verdict.reward) == ("wrong", 0.0)


@pytest.mark.parametrize("response", ["", "I cannot tell.", r"\boxed{}", "\u221e\u00e9"])
def test_math_unparseable(math: MathVerifier, response: str) -> None:
    assert math.verify(response, "5").outcome == "unparseable"


@pytest.mark.parametrize("answer", ["", "  ", "???"])
def test_math_gold_that_cannot_be_read_is_an_error(math: MathVerifier, answer: str) -> None:
    verdict = math.verify("5", answer)
    assert verdict.outcome == "error"
    assert "gold answer" in verdict.detail and repr(answer.strip()) in verdict.detail


def test_math_extracts_the_text_of_the_answer(math: MathVerifier) -> None:
    assert math.verify(r"first 3, then \boxed{\frac{1}{2}}.", "1").extracted == r"\frac{1}{2}"
    assert math.verify("We get 3, then 47 apples.", "1").extracted == "47"


def test_math_reads_only_the_tail(math: MathVerifier) -> None:
    assert math.verify(r"\boxed{5} " + "so " * 10_000, "5").outcome == "unparseable"
    assert math.verify("so " * 10_000 + r"\boxed{5}", "5").outcome == "correct"


def test_math_raises_what_the_comparison_raises(
    math: MathVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> bool:
        raise TypeError("no order between these")

    monkeypatch.setattr(math._grader, "sympy_expr_eq", broken)
    with pytest.raises(TypeError, match="no order"):
        math.verify(r"\boxed{(-\infty, 3]}", "x \\le 2")


@pytest.mark.parametrize(
    "response",
    [
        r"\boxed{" * 2800,
        r"\boxed{" * 1400 + "}" * 1400,
        r"\boxed{1" + " " * 19_000 + "x}",
        r"\boxed{1}" + " " * 19_000 + r"\boxed{2}",
        "####" + " " * 19_000 + "x\ny",
        "#" * 19_000 + "\ny",
        "1" + " " * 190 + "?",
    ],
    ids=["unclosed", "nested", "space", "between", "mark", "marks", "bare"],
)
def test_math_own_patterns_take_linear_time(
    math: MathVerifier, monkeypatch: pytest.MonkeyPatch, response: str
) -> None:
    # Linear time is some milliseconds; quadratic was seconds and cubic, hours.
    monkeypatch.setattr(math, "_parse", lambda text, targets, mode: (None, ""))
    began = time.thread_time()
    math.verify(response, "72")
    assert time.thread_time() - began < 0.5


def test_boxes_are_balanced() -> None:
    assert final_boxed(r"{ \boxed{1 \boxed{2} } \\boxed{3}") == "3"
    assert final_boxed(r"\boxed{1 \boxed{2} \}}") == r"1 \boxed{2} \}"
    assert final_boxed(r"\boxed{\frac{1}{2}} and \boxed{\{3\}}") == r"\frac{1}{2}, \{3\}"
    assert final_boxed(r"\boxed{1} then \boxed{2}") == "2"
    assert final_boxed(r"\boxed{1") is None
    assert closing_brace(r"{a\}b{}}", 1) == 7
