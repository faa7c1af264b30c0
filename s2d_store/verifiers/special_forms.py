r"""Answers that look like arithmetic and are none: dates, times, ratios, digits to a base."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_LONG = "january|february|march|april|june|july|august|sept|september|october|november|december"
_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "sixteen": 16,
}  # fmt: skip
_ISO = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_SLASHED = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_MONTH = re.compile(rf"\b({_LONG}|{'|'.join(_MONTHS)})\b\.?", re.I)
_TIME = re.compile(
    r"(\d{1,2})(?::(\d{2})(?::(\d{2}))?|(?=\s*[ap]\.?\s?m\b))"
    r"\s*(a\.?\s?m\.?|p\.?\s?m\.?|o'clock|noon|midnight)?",
    re.I,
)
_RANGE = re.compile(r"(\d{1,6})(?:-| to )(\d{1,6})((?:-\d{1,6})*)(?:\s+[a-z]{2,}){0,3}")
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?)+")
_BASE = re.compile(
    r"[({]?\s*([0-9][0-9A-F]*|[A-F][A-F]*[0-9][0-9A-F]*)\s*[)}]?\s*"
    r"(?:_\s*(?:\{\s*\(?(\d{1,2}|[a-z]+)\)?\s*\}|(\d{1,2})|([a-z]+))"
    r"|\(?\s*(?:in )?base[ -](\d{1,2}|[a-z]+)\s*\)?)"
)


class Special(NamedTuple):
    """A form with its own equality.

    Attributes:
        kind: `date`, `time`, `ratio`, `range` or `base`.
        value: its parts; a part that was not written is None.
    """

    kind: str
    value: tuple[object, ...]


def special(text: str) -> Special | None:
    """The date, time, ratio or number to a base that a text is; None for any other text."""
    if ":" in text:
        return _time(text) or _ratio(text)
    if text[-1] in "mM." and (time := _time(text)):
        return time
    if "_" in text or "base" in text:
        return _base(text)
    return _date(text) or _range(text)


def same_special(left: Special, right: Special) -> bool | None:
    """Whether two special forms are the same; None when their kinds differ."""
    if left.kind != right.kind:
        return None
    if left.kind == "time":
        left, right = _by_half(left, right), _by_half(right, left)
    if left.kind in ("time", "date"):
        # A part that only one of them states is not held against the other.
        return len(left.value) == len(right.value) and all(
            a is None or b is None or a == b for a, b in zip(left.value, right.value, strict=True)
        )
    return left.value == right.value


def _by_half(time: Special, other: Special) -> Special:
    """`17:15` as `5:15 p.m.` beside a time with a.m. or p.m., which no ratio has."""
    hour, *rest, half = time.value
    if isinstance(hour, int) and 12 < hour < 24 and half is None and other.value[-1]:
        return Special("time", (hour - 12, *rest, "p"))
    return time


def _base(text: str) -> Special | None:
    found = _BASE.fullmatch(text)
    if found is None:
        return None
    written = next(group for group in found.groups()[1:] if group)
    base = int(written) if written.isdigit() else _BASES.get(written)
    if base is None:
        return None
    return Special("base", (found[1].lstrip("0") or "0", base))


def _time(text: str) -> Special | None:
    found = _TIME.fullmatch(text)
    if found is None or int(found[1]) > 24 or int(found[2] or 0) > 59 or int(found[3] or 0) > 59:
        return None
    half = (found[4] or "").lower()[:1]
    return Special(
        "time",
        (
            int(found[1]),
            int(found[2] or 0),
            int(found[3] or 0),
            half if half in "ap" and half else None,
        ),
    )


def _ratio(text: str) -> Special | None:
    if not _RATIO.fullmatch(text):
        return None
    parts = [Fraction(part) for part in re.split(r"\s*:\s*", text)]
    if not parts[-1] or not any(parts):
        return Special("ratio", tuple(parts))
    return Special("ratio", tuple(part / parts[-1] for part in parts))


def _range(text: str) -> Special | None:
    """`10-12` and `10 to 12`; a falling pair without spaces is a difference."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    ends = [int(end) for end in (found[1], found[2], *found[3].split("-")[1:])]
    if any(before >= after for before, after in pairwise(ends)):
        return None
    return Special("range", tuple(ends))


def _date(text: str) -> Special | None:
    if iso := _ISO.fullmatch(text):
        return Special("date", (int(iso[1]), int(iso[3]), int(iso[4])))
    if slashed := _SLASHED.fullmatch(text):
        # 3/4/2024 is read as it is written: which of the two is the month is not known.
        return Special("date", (int(slashed[4]), int(slashed[1]), int(slashed[3])))
    if len(text) > 40 or not (month := _MONTH.search(text)):
        return None
    rest = (text[: month.start()] + " " + text[month.end() :]).lower()
    if not re.fullmatch(r"(?:[\s,.]|\d+(?:st|nd|rd|th)?|\bof\b|\bthe\b)+", rest):
        return None
    numbers = [int(part) for part in re.findall(r"\d+", rest)]
    days, years = [n for n in numbers if n < 32], [n for n in numbers if 1000 <= n <= 9999]
    if len(numbers) != len(days) + len(years) or len(days) > 1 or len(years) > 1:
        return None
    which = _MONTHS.index(month[1].lower()[:3]) + 1
    return (
        Special("date", (years[0] if years else None, which, days[0] if days else None))
        if numbers
        else None
    )
