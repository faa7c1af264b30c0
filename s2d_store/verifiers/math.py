"""Math answers graded by math-verify, with its silent failures and known wrong verdicts guarded.

math-verify (https://github.com/huggingface/Math-Verify) 0.9 reads text with regular expressions,
parses it to sympy and compares. Its own timeouts are off here: the pool's deadline replaces them.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from s2d_store.verifiers.base import Verdict

REVISION = "s2d2"
"""Ours, on top of math-verify's version: raise it whenever a verdict can change."""
MAX_RESPONSE_CHARS = 20_000
MAX_BARE_CHARS = 200
MAX_EXTRACTED_CHARS = 1_000
TINY = 1e-4
TINY_TOLERANCE = 1e-3
"""Relative difference at which two numbers below TINY are different."""

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")
# Responses choose the input of these patterns: each takes time linear in it. Hence the possessive
# runs of space, and none that starts inside another.
_CONNECTIVE = re.compile(
    r"(?:(?<!\s)\s++)?+(?:,\s*+)?+(?:\\text\{\s*+(?:and|or)\s*+\}|\b(?:and|or)\b)\s*+"
)
_BETWEEN_BOXES = re.compile(
    r"[\s$.]*+(?:,(?:\s*+(?:and|or))?+|and|or)[\s$]*+(?:[a-zA-Z]\s*+=\s*+)?+"
)
_WORD = re.compile(r"(?<!\\)(?<![a-zA-Z])[a-zA-Z]{2,}")
_DIGIT_SPACE = re.compile(r"(?<=\d)\\[,!;](?=\d{3})")
# An escaped character hides a brace, but a line break `\\` hides no box that follows it.
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*+\{|\\(?!\\(?:boxed|fbox)).|[{}]", re.DOTALL)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOLD = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])")


class MathVerifier:
    r"""Whether a response's final answer equals a gold answer as mathematics.

    The answer is the last `\boxed{...}` (boxes joined by a comma, "and" or "or" count as one
    list), else a last line `#### ...` as in GSM8K, else the whole response when it is nothing but
    a short expression, else the last expression or number in it. Only the last 20,000 characters
    of a response are read.

    Guarded against in math-verify: a gold such as `1331 and 1728` read as its last number, so
    that half of the answer is right (its issue 47: golds are read whole); `3x=0` taken for 0
    (issue 60: such an equation states no value); numbers below 1e-4 equal once rounded to six
    decimals; exceptions that count as a wrong answer.

    Attributes:
        name: `math-verify`.
        version: math-verify's version and our revision, e.g. `0.9.0+s2d2`.
    """

    def __init__(self) -> None:
        import math_verify
        import sympy  # type: ignore[import-untyped]

        for library in ("math_verify", "latex2sympy2_extended", "sympy"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self.name = "math-verify"
        self.version = f"{version('math-verify')}+{REVISION}"
        self._lib, self._sympy = math_verify, sympy
        # One instance of each: math-verify keeps the compiled patterns of one config only.
        self._latex = math_verify.LatexExtractionConfig(boxed_match_priority=0)
        self._plain = math_verify.ExprExtractionConfig()
        self._gold = lru_cache(maxsize=1024)(self._read_gold)

    def verify(self, response: str, answer: str) -> Verdict:
        r"""Grade one response.

        Args:
            response: text as the policy wrote it.
            answer: gold, a number, LaTeX or an expression: `72`, `\frac{1}{2}`, `(3, \pi/2)`.

        Returns:
            Reward 1.0 for `correct`, else 0.0; `extracted` is the answer's text, cut at 1,000
            characters. A gold answer that cannot be read is an `error`.

        Raises:
            Exception: what sympy raises in the comparison; a pool's worker makes it an `error`.
        """
        gold, problem = self._gold(answer.strip())
        if problem:
            return Verdict(0.0, "error", detail=problem)
        extracted, parsed = self._read_response(response[-MAX_RESPONSE_CHARS:])
        extracted = extracted[:MAX_EXTRACTED_CHARS]
        if parsed is None:
            return Verdict(0.0, "unparseable", extracted)
        same = (
            not self._is_condition(gold, parsed)
            and self._lib.verify(gold, parsed, timeout_seconds=None, raise_on_error=True)
            and not self._differ_below_rounding(gold, parsed)
        )
        return Verdict(1.0, "correct", extracted) if same else Verdict(0.0, "wrong", extracted)

    def _read_gold(self, answer: str) -> tuple[Any | None, str]:
        """The sympy form of a gold answer, and why nothing can be graded against it, or empty."""
        problem = f"cannot read the gold answer {answer[:200]!r}"
        try:
            gold = self._read_whole(answer)
        except (ValueError, RecursionError) as error:
            return None, f"{problem}: {type(error).__name__}: {error}"[:MAX_EXTRACTED_CHARS]
        # math-verify reads `12:00` as 12/0, which equals nothing, itself included.
        if gold is None or gold in (self._sympy.nan, self._sympy.zoo):
            return None, problem
        return gold, ""

    def _read_response(self, text: str) -> tuple[str, Any | None]:
        """The answer's text and its sympy form, None when there is none to be read."""
        boxed = final_boxed(text)
        if boxed is not None:
            return boxed, self._read_whole(boxed)
        text = _BOLD.sub("", text).strip()
        marked = text.rpartition("\n")[2].partition("####")[2].strip()
        whole = marked or text
        if is_bare_expression(whole):
            parsed = self._read_whole(whole)
            if parsed is not None:
                return whole.strip("$"), parsed
        fallback = ""
        for mode in ("first_match", "any_match"):
            parsed, fallback = self._parse(text, (self._latex, self._plain), mode)
            if parsed is not None:
                # Beyond the first match math-verify's text is that of another match.
                return (fallback if mode == "first_match" else str(parsed)), parsed
        return fallback, None

    def _read_whole(self, text: str) -> Any | None:
        """The sympy form of an expression that is all of `text`."""
        text = _DIGIT_SPACE.sub("", text.strip().rstrip(".").strip("$").strip())
        if not text:
            return None
        if _NUMBER.fullmatch(text):
            return self._parse(text, (self._plain,), "first_match")[0]
        listed = ", ".join(without_thousands(part) for part in _CONNECTIVE.split(text))
        return self._parse(rf"\boxed{{{listed}}}", (self._latex,), "first_match")[0]

    def _parse(self, text: str, targets: tuple[Any, ...], mode: str) -> tuple[Any | None, str]:
        found = self._lib.parse(
            text, targets, extraction_mode=mode, parsing_timeout=None, raise_on_error=True
        )
        expressions = [item for item in found if not isinstance(item, str)]
        texts = [item for item in found if isinstance(item, str)]
        return (expressions[0] if expressions else None), (texts[0] if texts else "")

    def _is_condition(self, gold: Any, parsed: Any) -> bool:
        """Whether an equation is offered for a gold value without stating one.

        `x=5`, `f(1)=5` and `m+n=5` state the value 5; `3x=5` and `3x-y+13=0` do not, although
        math-verify compares their right-hand side.
        """
        equation = self._sympy.Eq
        if isinstance(gold, equation) or not isinstance(parsed, equation):
            return False
        left, right = parsed.lhs, parsed.rhs
        if not left.free_symbols or isinstance(left, self._sympy.Symbol) or left.is_Function:
            return False
        scaled = (
            isinstance(left, self._sympy.Mul) and left.args[0].is_number and len(left.args) == 2
        )
        return bool(scaled or right == 0)

    def _differ_below_rounding(self, gold: Any, parsed: Any) -> bool:
        """Whether two tiny numbers differ where math-verify's six decimals see none of it."""
        if not all(isinstance(x, self._sympy.Expr) and x.is_number for x in (gold, parsed)):
            return False
        sizes = [abs(x.evalf(20)) for x in (gold, parsed)]
        if not all(size.is_Float or size.is_Integer for size in sizes):
            return False
        largest = max(sizes)
        if largest == 0 or largest > TINY:
            return False
        return bool(abs((gold - parsed).evalf(20)) > TINY_TOLERANCE * largest)


def final_boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, or the last ones in a list; None without a closed box."""
    opened: list[tuple[int, int] | None] = []
    closed: list[tuple[int, int, int, int]] = []
    for found in _BOX_OR_BRACE.finditer(text):
        if found[0] == "{":
            opened.append(None)
        elif found[0].endswith("{") and len(found[0]) > 2:
            opened.append(found.span())
        elif found[0] == "}" and opened and (box := opened.pop()):
            closed.append((*box, *found.span()))
    boxes: list[tuple[int, int, str]] = []
    for start, inner, inner_end, end in sorted(closed):
        if not (boxes and start < boxes[-1][1]):  # A box in a box is part of the outer one.
            boxes.append((start, end, text[inner:inner_end]))
    if not boxes:
        return None
    first = len(boxes) - 1
    while first > 0 and _BETWEEN_BOXES.fullmatch(text[boxes[first - 1][1] : boxes[first][0]]):
        first -= 1
    return ", ".join(content for _, _, content in boxes[first:])


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one open before `start`; None when it stays open."""
    depth = 1
    for found in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.start()
    return None


def is_bare_expression(text: str) -> bool:
    """Whether `text` is short, complete and holds no words: all of it is then the answer."""
    if len(text) > MAX_BARE_CHARS or "\n" in text:
        return False
    if closing_brace(text + "}", 0) != len(text):
        return False  # A response cut off inside braces: what is left is another number.
    return _WORD.search(_CONNECTIVE.sub(",", text)) is None


def without_thousands(text: str) -> str:
    """`1,234` as `1234`; anything else unchanged."""
    return text.replace(",", "") if _NUMBER.fullmatch(text.strip()) else text
