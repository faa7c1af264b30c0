"""Math answers: read and compared exactly by this package, and by math-verify where that cannot.

`answer_place` finds the answer in a response, `readings` says what it means, `agreement` compares
it with the gold answer. What those do not know (equations, intervals, matrices, unions) is parsed
by math-verify (https://github.com/huggingface/Math-Verify) 0.9, and compared by `exact_grader`.
Its own timeouts are off here: the pool's deadline replaces them.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from s2d_store.errors import InputError
from s2d_store.verifiers.agreement import same_answer
from s2d_store.verifiers.answer_place import (
    ANSWER_FROM,
    CONNECTIVE,
    MAX_RESPONSE_CHARS,
    AnswerFrom,
    Place,
    places,
)
from s2d_store.verifiers.answer_text import MAX_CHARS, light_latex
from s2d_store.verifiers.base import Verdict
from s2d_store.verifiers.exact_grader import as_sets, exact_grader, is_laborious
from s2d_store.verifiers.gold import GoldAnswer, read_gold
from s2d_store.verifiers.readings import Reading, read

REVISION = "s2d7"
"""Ours, on top of math-verify's version: raise it whenever a verdict can change."""
MAX_EXTRACTED_CHARS = 1_000
MAX_PARSED_CHARS = 2_000
MAX_NESTING = 20
"""Brackets in brackets that math-verify is given; MATH's golds go to 8."""

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")
_DIGIT_SPACE = re.compile(r"(?<=\d)\\[,!;](?=\d{3})")


class MathVerifier:
    r"""Whether a response's final answer equals a gold answer as mathematics.

    The whole rule is one page, docs/verdicts.md: where the answer stands, how it is read, what is
    equal. Exact numbers are compared exactly; a decimal of 6 or more digits stands for the values
    that round to it. Only the last 20,000 characters of a response are read.

    Args:
        answer_from: where the answer must stand: `auto` for the first place that holds one, or
            only `box`, `tag` (`<answer>`), `hash` (`####`) or `last-number`.

    Attributes:
        name: `math-verify`, and the place when it is not `auto`, e.g. `math-verify.box`: verdicts
            by another rule stand beside those of this one and never replace them.
        version: math-verify's version, our revision and the place, e.g. `0.9.0+s2d7.box`.
    """

    def __init__(self, answer_from: AnswerFrom = "auto") -> None:
        if answer_from not in ANSWER_FROM:
            raise InputError(
                f"{answer_from!r} is no place of an answer",
                why=f"a place is one of {', '.join(ANSWER_FROM)}",
                fix="write for example answer_from='box', or leave it out",
            )
        import math_verify

        for library in ("math_verify", "latex2sympy2_extended", "sympy"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self.answer_from = answer_from
        place = "" if answer_from == "auto" else f".{answer_from}"
        self.name = f"math-verify{place}"
        self.version = f"{version('math-verify')}+{REVISION}{place}"
        self._lib, self._grader = math_verify, exact_grader()
        # One instance of each: math-verify keeps the compiled patterns of one config only.
        self._latex = math_verify.LatexExtractionConfig(boxed_match_priority=0)
        self._plain = math_verify.ExprExtractionConfig()
        self._gold = lru_cache(maxsize=1024)(read_gold)
        self._gold_parsed = lru_cache(maxsize=1024)(self._parse_gold)

    def verify(self, response: str, answer: str) -> Verdict:
        r"""Grade one response.

        Args:
            response: text as the policy wrote it.
            answer: gold, a number, LaTeX, an expression, a choice or words: `72`, `\frac{1}{2}`,
                `(3, \pi/2)`, `B`, `\text{even}`.

        Returns:
            Reward 1.0 for `correct`, else 0.0; `extracted` is the answer's text, cut at 1,000
            characters. A gold answer that cannot be read is an `error`, unless the response
            states the same text.

        Raises:
            Exception: what sympy raises in the comparison; a pool's worker makes it an `error`.
        """
        gold = self._gold(answer.strip())
        if not gold.reading.key:
            return Verdict(0.0, "error", detail=gold.problem)
        verdict: Verdict | None = None
        for place in places(response, self.answer_from):
            graded = self._graded(gold, place)
            verdict = graded or verdict
            if graded is not None and (place.how != "tag" or graded.outcome == "correct"):
                break
        if verdict is not None and verdict.outcome == "correct":
            return verdict
        if gold.problem:
            return Verdict(0.0, "error", detail=gold.problem)
        return verdict or Verdict(0.0, "unparseable")

    def _graded(self, gold: GoldAnswer, place: Place) -> Verdict | None:
        """The verdict on what stands in one place; None when the next place is to be tried."""
        if place.how == "prose":
            return self._graded_prose(gold, place.text)
        text = place.text[:MAX_EXTRACTED_CHARS]
        if len(place.text) <= MAX_CHARS:
            given = read(place.text)
            same = same_answer(gold.reading, given)
            if same is True:
                return Verdict(1.0, "correct", text)
            if place.how == "bound":
                return Verdict(0.0, "wrong", text)
            loose = place.how not in ("box", "tag")
            if loose and not _states_an_answer(given, place.how):
                return None
            if same is False:
                return Verdict(0.0, "wrong", text)
            if not given.key:
                return Verdict(0.0, "unparseable", text) if not loose else None
        if place.how == "line":
            return None
        parsed = self._read_whole(light_latex(place.text))
        if parsed is None:
            if place.how == "box":
                # Read as text, and not the gold answer's.
                judged = given_words(place.text)
                return Verdict(0.0, "wrong" if judged else "unparseable", text)
            return None
        return self._compared(gold, parsed, text.strip("$") if place.how == "whole" else text)

    def _graded_prose(self, gold: GoldAnswer, text: str) -> Verdict | None:
        """What math-verify finds in prose: the last formula, or the last number."""
        for mode in ("first_match", "any_match"):
            parsed, found = self._parse(text, (self._latex, self._plain), mode)
            if parsed is None:
                continue
            # Beyond the first match math-verify's text is that of another match.
            extracted = (found if mode == "first_match" else str(parsed))[:MAX_EXTRACTED_CHARS]
            if mode == "first_match":
                same = same_answer(gold.reading, read(found[:MAX_CHARS]))
                if same is not None:
                    return Verdict(float(same), "correct" if same else "wrong", extracted)
            return self._compared(gold, parsed, extracted)
        return None

    def _compared(self, gold: GoldAnswer, parsed: Any, extracted: str) -> Verdict:
        extracted = extracted[:MAX_EXTRACTED_CHARS]
        expected = self._gold_parsed(gold.text)
        if expected is not None:
            expected, parsed = as_sets(expected, parsed)
        same = (
            expected is not None
            and not (is_laborious(expected) or is_laborious(parsed))
            and not self._is_condition(expected, parsed)
            and self._grader.verify(
                expected,
                parsed,
                timeout_seconds=None,
                raise_on_error=True,
                allow_set_relation_comp=True,
            )
        )
        return Verdict(1.0, "correct", extracted) if same else Verdict(0.0, "wrong", extracted)

    def parses(self, answer: str) -> bool:
        """Whether math-verify can read a gold answer."""
        return self._gold_parsed(answer) is not None

    def _parse_gold(self, answer: str) -> Any | None:
        """The sympy form of a gold answer, None when math-verify cannot read it."""
        import sympy  # type: ignore[import-untyped]

        parsed = self._read_whole(light_latex(answer))
        # math-verify reads `12:00` as 12/0, which equals nothing, itself included.
        return None if parsed in (sympy.nan, sympy.zoo) else parsed

    def _read_whole(self, text: str) -> Any | None:
        """The sympy form of an expression that is all of `text`."""
        text = " ".join(text.split()).rstrip(".").strip("$").strip()
        text = _DIGIT_SPACE.sub("", text)
        if not text or len(text) > MAX_PARSED_CHARS or _nesting(text) > MAX_NESTING:
            return None  # math-verify would need minutes, and no person reads it either.
        if _NUMBER.fullmatch(text):
            return self._parse(text, (self._plain,), "first_match")[0]
        listed = ", ".join(without_thousands(part) for part in CONNECTIVE.split(text))
        return self._parse(rf"\boxed{{{listed}}}", (self._latex,), "first_match")[0]

    def _parse(self, text: str, targets: tuple[Any, ...], mode: str) -> tuple[Any | None, str]:
        try:
            found = self._lib.parse(
                text, targets, extraction_mode=mode, parsing_timeout=None, raise_on_error=True
            )
        except (ValueError, RecursionError):
            return None, ""  # Not an expression, such as a number of 5,000 digits.
        expressions = [item for item in found if not isinstance(item, str)]
        texts = [item for item in found if isinstance(item, str)]
        return (expressions[0] if expressions else None), (texts[0] if texts else "")

    def _is_condition(self, gold: Any, parsed: Any) -> bool:
        """Whether an equation is offered for a gold value without stating one.

        `x=5`, `f(1)=5` and `m+n=5` state the value 5; `3x=5` and `3x-y+13=0` do not, although
        math-verify compares their right-hand side.
        """
        import sympy

        if isinstance(gold, sympy.Eq) or not isinstance(parsed, sympy.Eq):
            return False
        left, right = parsed.lhs, parsed.rhs
        if left.is_Number and right.is_Number:
            return not _nearly(left, right)
        if not left.free_symbols or isinstance(left, sympy.Symbol) or left.is_Function:
            return False
        scaled = isinstance(left, sympy.Mul) and left.args[0].is_number and len(left.args) == 2
        return bool(scaled or right == 0)


def _nearly(left: Any, right: Any) -> bool:
    """Whether two sympy numbers differ by no more than a rounding: `1/3 = 0.33`, not `4 = 5`."""
    a, b = complex(left), complex(right)
    return abs(a - b) <= 0.01 * max(abs(a), abs(b))


def _states_an_answer(given: Reading, how: str) -> bool:
    """Whether prose in a place such as "the answer is ..." is read well enough to be judged."""
    if given.parts:
        return all(part.decided and not part.words for part in given.parts)
    if given.words:
        return given.mentioned is not None and how in ("hash", "stated")
    return given.decided or how == "whole"


def _nesting(text: str) -> int:
    """How deep the brackets of a text go."""
    depth = deepest = 0
    for mark in text:
        depth += (mark in "([{") - (mark in ")]}")
        deepest = max(deepest, depth)
    return deepest


def given_words(text: str) -> bool:
    """Whether a text holds anything that can be judged as an answer."""
    return any(character.isalnum() for character in text)


def without_thousands(text: str) -> str:
    """`1,234` as `1234`; anything else unchanged."""
    return text.replace(",", "") if _NUMBER.fullmatch(text.strip()) else text


__all__ = ["MAX_RESPONSE_CHARS", "REVISION", "MathVerifier"]
