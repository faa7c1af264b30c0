"""English number words as numbers: `forty-two`, `minus three`, `two and a half`, `three quarters`.

Ordinals stay text: `third` is a fraction only behind a count (`two thirds`, `a third`).
"""

from __future__ import annotations

import re
from fractions import Fraction

_UP_TO_NINETEEN = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_SMALL = {word: value for value, word in enumerate(_UP_TO_NINETEEN)}
_TENS = {
    word: 10 * value
    for value, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), start=2
    )
}
_GROUPS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    form: under
    for under, word in (
        (3, "third"),
        (4, "fourth"),
        (5, "fifth"),
        (6, "sixth"),
        (7, "seventh"),
        (8, "eighth"),
        (9, "ninth"),
        (10, "tenth"),
        (12, "twelfth"),
        (16, "sixteenth"),
        (20, "twentieth"),
        (100, "hundredth"),
    )
    for form in (word, f"{word}s")
}
_ONLY_WORDS = re.compile(r"[a-zA-Z]+(?:[\s-]+[a-zA-Z]+){0,15}")


def number_of_words(text: str) -> Fraction | None:
    """The number that all of a text names, None when it names none or is not well formed."""
    if not _ONLY_WORDS.fullmatch(text):
        return None
    words = re.split(r"[\s-]+", text.lower())
    sign = -1 if words[0] in ("minus", "negative") else 1
    value = _unsigned(words[1:] if sign < 0 else words)
    return None if value is None else sign * value


def _unsigned(words: list[str]) -> Fraction | None:
    if not words:
        return None
    if words[-1] not in _PARTS:
        whole = _whole(words)
        return None if whole is None else Fraction(whole)
    under, counted = _PARTS[words[-1]], words[:-1]
    if "and" in counted:
        at = len(counted) - 1 - counted[::-1].index("and")
        before, over = _whole(counted[:at]), _count(counted[at + 1 :])
        if before is None or over is None or over >= under:
            return None
        return before + Fraction(over, under)
    over = 1 if words == ["half"] else _count(counted)
    return None if over is None else Fraction(over, under)


def _count(words: list[str]) -> int | None:
    return 1 if words in (["a"], ["an"]) else _whole(words)


def _whole(words: list[str]) -> int | None:
    """A whole number: groups that fall, each below a thousand."""
    total, rest, limit = 0, list(words), 10**15
    for name, size in reversed(_GROUPS.items()):
        if name in rest:
            at = rest.index(name)
            group = 1 if rest[:at] == ["a"] else _below_thousand(rest[:at])
            if not group or size >= limit:
                return None
            total, rest, limit = total + group * size, rest[at + 1 :], size
            if rest[:1] == ["and"]:
                rest = rest[1:]
                if not rest:
                    return None
    if not rest:
        return total if total else None
    last = _below_thousand(rest)
    return None if last is None or (total and not last) else total + last


def _below_thousand(words: list[str]) -> int | None:
    if len(words) == 1 and words[0] in _SMALL:
        return _SMALL[words[0]]
    if words[:2] in (["a", "hundred"], ["one", "hundred"]) or (
        words[1:2] == ["hundred"] and 1 <= _SMALL.get(words[0], 0) <= 19
    ):
        hundreds = 100 * (1 if words[0] == "a" else _SMALL[words[0]])
        rest = words[3:] if words[2:3] == ["and"] else words[2:]
        if not rest:
            return hundreds if len(words) == 2 else None
        below = _below_thousand(rest)
        return hundreds + below if below and below < 100 else None
    if len(words) == 1 and words[0] in _TENS:
        return _TENS[words[0]]
    if len(words) == 2 and words[0] in _TENS and 1 <= _SMALL.get(words[1], 0) <= 9:
        return _TENS[words[0]] + _SMALL[words[1]]
    return None
