"""Gold answers: what one says, and why one cannot be graded against."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from s2d_store.verifiers.answer_place import closing_brace, places
from s2d_store.verifiers.answer_text import MAX_CHARS, plain_characters
from s2d_store.verifiers.readings import Reading, read, understood

if TYPE_CHECKING:
    from s2d_store.verifiers.math import MathVerifier

MAX_WORDS = 6
"""A gold answer of more words, in which no single answer is found, is a sentence."""

UNREADABLE = "cannot read the gold answer"
"""How the reason begins why an answer cannot be graded against, in verdicts too."""

_FORMULA = re.compile(r"\$([^$]{1,400})\$")
_STATED = re.compile(
    r"\b(?:answers?|results?|sum|total|value|solution)\b[^$\n]{0,60}?\b(?:is|are|equals|=)\s*:?\s*(.{1,200}?)\.?$",
    re.I | re.DOTALL,
)


@dataclass(frozen=True)
class GoldAnswer:
    """A gold answer as it is graded against.

    Attributes:
        text: the part that is the answer: `5` of `The answer is 5`.
        reading: what it says.
        problem: why it cannot be graded against; empty when it can.
    """

    text: str
    reading: Reading
    problem: str = ""


def read_gold(answer: str) -> GoldAnswer:
    """What a gold answer says; a sentence is read by the one answer that it states."""
    shown = f"{UNREADABLE} {answer[:200]!r}"
    if len(answer) > 20 * MAX_CHARS:
        return GoldAnswer(
            answer, Reading("", ""), f"{shown}: {len(answer)} characters are too many"
        )
    found = read(answer[:MAX_CHARS])
    if not any(character.isalnum() for character in found.key) and "\\" not in found.key:
        return GoldAnswer(answer, Reading("", ""), f"{shown}: it has no letter and no digit")
    open_words = found.words and answer.count("(") > answer.count(")")
    if open_words or closing_brace(answer + "}", 0) != len(answer):
        return GoldAnswer(answer, found, f"{shown}: its braces do not match")
    if not _is_sentence(answer, found):
        return GoldAnswer(answer, found)
    stated = _stated(answer)
    if stated is not None:
        inner = read(stated)
        if inner.decided and not _is_sentence(stated, inner):
            return GoldAnswer(stated, inner)
    if found.mentioned is not None and found.mentioned.written is not None:
        return GoldAnswer(found.mentioned.text, found.mentioned)
    return GoldAnswer(answer, found, f"{shown}: it is a sentence; state the answer alone")


def gold_readable(answer: str) -> str | None:
    r"""Why a gold answer cannot be graded against, or None when it can.

    math-verify is loaded, and asked, only for what is no number, choice, word or list of these.

    Args:
        answer: the gold answer's text.

    Returns:
        A reason in one sentence. Answers of which only the same text would be graded correct, such
        as `1, 2, \ldots, n`, have one too, although a verdict on them is no error.
    """
    gold = read_gold(answer.strip())
    if gold.problem:
        return gold.problem
    if understood(gold.reading) or _verifier().parses(gold.text):
        return None
    return f"only the same text as {answer[:200]!r} is graded correct: it cannot be read"


@cache
def _verifier() -> MathVerifier:
    from s2d_store.verifiers.math import MathVerifier

    return MathVerifier()


def _is_sentence(answer: str, found: Reading) -> bool:
    text = re.sub(r"\\[a-zA-Z]+", " ", plain_characters(answer))
    words = re.findall(r"[^\W\d_]{2,}", text)
    if re.search(r"</answer>|\\boxed\s*\{|^####", answer, re.M) and not found.written:
        return True
    if found.letter and not found.words:
        return False
    if len(_FORMULA.findall(answer)) == 1 and len(words) >= 2 and not _FORMULA.fullmatch(answer):
        return True
    if len(words) >= 3 and _STATED.search(answer):
        return True
    return len(words) > MAX_WORDS and not found.written and not found.special


def _stated(answer: str) -> str | None:
    placed = places(answer, "tag") or places(answer, "box") or places(answer, "hash")
    if placed:
        return placed[0].text
    formulas = _FORMULA.findall(answer)
    if len(formulas) == 1:
        return str(formulas[0])
    found = _STATED.search(answer.strip())
    return found[1] if found else None
