"""Gold answers by type: text, number, list of accepted answers, or none; nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from s2d_store.errors import InputError
from s2d_store.prompts.plain_json import MAX_DIGITS, WrittenFloat

GSM8K_MARK = "####"
AnswerType = Literal["text", "number", "list", "none"]


@dataclass(frozen=True)
class Gold:
    """A gold answer.

    Attributes:
        type: text, number, list or none.
        answer: as text; of a list its first; None where there is none.
        answers: every accepted answer of a list, else None.
    """

    type: AnswerType
    answer: str | None
    answers: tuple[str, ...] | None = None


def read_gold(where: str, value: Any) -> Gold:
    """A record's gold answer.

    None, NaN, empty text and an empty list are no answer. A number becomes plain decimal digits,
    as it was written where that is known: 1e-07 is 0.0000001, and 3.0 is 3.

    Raises:
        InputError: names `where`: a boolean, bytes, an object, a nested list, an infinite number.
    """
    if isinstance(value, list | tuple):
        return _accepted(where, value)
    if isinstance(value, str):
        text = gold_text(value)
        return Gold("text", text) if text else Gold("none", None)
    if value is None or (isinstance(value, float | Decimal) and math.isnan(value)):
        return Gold("none", None)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return Gold("number", _plain_decimal(where, value))
    raise _refused(where, value)


def gold_text(text: str) -> str:
    """The gold answer itself: GSM8K's solutions carry it behind the last `####`."""
    return text.rpartition(GSM8K_MARK)[2].strip() if GSM8K_MARK in text else text.strip()


def _accepted(where: str, values: list[Any] | tuple[Any, ...]) -> Gold:
    found: dict[str, None] = {}
    for value in values:
        if isinstance(value, list | tuple):
            raise _refused(where, values)
        gold = read_gold(where, value)
        if gold.answer is None:
            raise InputError(
                f"{where}: one of the accepted answers is empty",
                f"they are {_shown(values)}",
                "leave it out of the list, or --answer-field none for unlabelled prompts",
            )
        found[gold.answer] = None
    answers = tuple(found)
    return Gold("list", answers[0], answers) if answers else Gold("none", None)


def _plain_decimal(where: str, value: float | Decimal) -> str:
    if isinstance(value, WrittenFloat):
        exact = Decimal(value.written)
    else:
        exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite() or abs(exact.adjusted()) > MAX_DIGITS:
        raise _refused(where, value)
    text = format(exact, "f")
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    return "0" if text == "-0" else text


def _refused(where: str, value: Any) -> InputError:
    return InputError(
        f"{where}: the gold answer is {_shown(value)}",
        f"a {type(value).__name__} is no answer: it is text, a finite number, or a flat list of "
        "accepted answers",
        "--answer-field NAME of another field, or --answer-field none for unlabelled prompts",
    )


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
