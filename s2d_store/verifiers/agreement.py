"""Whether a gold answer and a given one, both read, are the same answer.

None where this file cannot tell: math-verify is then asked. The rule for readers:
docs/verdicts.md.
"""

from __future__ import annotations

import re
from fractions import Fraction

from s2d_store.verifiers.answer_text import CJK
from s2d_store.verifiers.approximations import approximate
from s2d_store.verifiers.exact_numbers import same_value
from s2d_store.verifiers.expressions import Written
from s2d_store.verifiers.rationals import Node, NotRational, TooLarge, number, rational, symbols
from s2d_store.verifiers.readings import Reading
from s2d_store.verifiers.special_forms import same_special
from s2d_store.verifiers.units import LAKHS

_CAPITALS = re.compile(r"(?<![\\a-zA-Z])[A-Z]{2,}(?![a-zA-Z])")
_RUN = re.compile(rf"[{CJK}]|[^\W\d_{CJK}]+|\d+")
ROUNDED_DIGITS = 6
"""Decimals and significant digits from which a decimal may stand for the value it rounds."""
PRINTED_DIGITS = 16
"""Significant digits from which a decimal is taken for a printed float64."""
PRINTED_DECIMALS = 8
PRINTED_ERROR = Fraction(1, 2**51)


def same_answer(gold: Reading, given: Reading) -> bool | None:
    """Whether two answers are the same; None when that cannot be told here."""
    # `x = 5` and `5`: the side that states less is enough.
    if gold.left and given.left and gold.left != given.left:
        return None
    return _same_right(gold, given)


def _same_right(gold: Reading, given: Reading) -> bool | None:
    if gold.key and gold.key == given.key and _spaced_alike(gold, given):
        return True
    if gold.special or given.special:
        return _same_specials(gold, given)
    for one, other in ((gold, given), (given, gold)):
        if len(one.parts) == 1 and one.brackets in ("()", r"\{\}") and not other.parts:
            return same_answer(*((one.parts[0], other) if one is gold else (other, one.parts[0])))
    if gold.letter or given.letter:
        return _same_choice(gold, given)
    if gold.written and given.written:
        return same_number(gold.written, given.written)
    if gold.parts or given.parts:
        return _same_lists(gold, given)
    if gold.words or given.words:
        return _same_words(gold, given)
    # `\angle ABC` is not `\angle ACB`: math-verify would multiply the letters.
    return None if _points(gold.text) == _points(given.text) else False


def _points(text: str) -> list[str]:
    return sorted(_CAPITALS.findall(text))


def same_number(gold: Written, given: Written) -> bool | None:
    """Whether two numbers or expressions are equal, a percent or degree mark at either or neither.

    A decimal of 6 or more digits stands for every value that rounds to it; all else is exact.
    """
    if bool(symbols(gold.node)) != bool(symbols(given.node)):
        # `5 m` beside 5: the letter is a unit.
        gold, given = (
            one.without_unit if one.without_unit and symbols(one.node) else one
            for one in (gold, given)
        )
    verdicts = []
    for left, right in _marked(gold, given):
        same = same_value(left, right)
        verdicts.append(same or (_rounded(gold, given, left, right) if same is False else same))
    if any(verdict is True for verdict in verdicts):
        return True
    return None if None in verdicts else False


def _marked(gold: Written, given: Written) -> list[tuple[Node, Node]]:
    pairs = [(gold.node, given.node)]
    if gold.mark != given.mark:
        meant = [_meant(written) for written in (gold, given)]
        pairs.append((meant[0], meant[1]))
    return pairs


def _meant(written: Written) -> Node:
    if written.mark == "%":
        return ("div", written.node, number(100))
    if written.mark == "deg":
        return ("mul", written.node, ("div", ("const", "pi"), number(180)))
    return written.node


def _rounded(gold: Written, given: Written, left: Node, right: Node) -> bool:
    """Whether one is a decimal that the other rounds to."""
    for decimal, node, exact, other in ((gold, left, right, given), (given, right, left, gold)):
        if decimal.decimals is None or symbols(exact):
            continue
        if other.decimals is not None and other.decimals > decimal.decimals:
            continue  # Of two decimals the shorter one is the rounded one.
        try:
            value = rational(node)
        except (NotRational, TooLarge, ZeroDivisionError):
            continue
        shift = Fraction(0) if node is decimal.node else None
        if shift is None:
            continue  # `33.3333333%` for 1/3 is compared as it is written.
        slack = Fraction(1, 2) / Fraction(10) ** decimal.decimals
        if (
            decimal.decimals >= ROUNDED_DIGITS
            and decimal.digits >= ROUNDED_DIGITS
            and _within(value, slack, exact)
        ):
            return True
        other_is_short = other.decimals is None or other.digits < PRINTED_DIGITS - 1
        if (
            PRINTED_DIGITS <= decimal.digits <= PRINTED_DIGITS + 1
            and decimal.decimals >= PRINTED_DECIMALS
            and other_is_short
            and _within(value, abs(value) * PRINTED_ERROR, exact)
        ):
            return True
    return False


def _within(value: Fraction, slack: Fraction, exact: Node) -> bool:
    try:
        return abs(rational(exact) - value) <= slack
    except (TooLarge, ZeroDivisionError):
        return False
    except NotRational:
        pass
    near = approximate(exact)
    return near is not None and abs(near - value) <= slack


def _same_specials(gold: Reading, given: Reading) -> bool | None:
    if gold.special and given.special:
        same = same_special(gold.special, given.special)
        return bool(same)
    special, other = (gold.special, given) if gold.special else (given.special, gold)
    assert special is not None
    if special.kind == "base":
        digits, base = special.value
        if base == 10 and other.written:
            return same_value(number(int(str(digits))), other.written.node)
        return bool(gold.special) and other.key.lstrip("0") == digits
    if special.kind == "ratio" and other.written and len(special.value) == 2:
        ratio, last = special.value
        assert isinstance(ratio, Fraction)
        return last == 1 and same_value(number(ratio), other.written.node)
    return bool(other.mentioned and other.mentioned.special == special)


def _same_choice(gold: Reading, given: Reading) -> bool | None:
    if gold.letter and given.letter:
        if gold.letter != given.letter:
            return False
        if gold.rest and given.rest:
            return same_answer(gold.rest, given.rest)
        return True
    lettered, other = (gold, given) if gold.letter else (given, gold)
    if lettered.rest is not None:
        return same_answer(lettered.rest, other)
    if lettered.written and other.written:
        return same_number(lettered.written, other.written)
    if other.words or other.parts:
        return False
    return None


def _same_words(gold: Reading, given: Reading) -> bool | None:
    if gold.words and given.words:
        if _without_and(gold.words) == _without_and(given.words):
            return True
        one, other = gold.mentioned, given.mentioned
        named = one and other and one.text == gold.text and other.text == given.text
        if named and one and other and one.written and other.written:
            return same_number(one.written, other.written)  # `twenty-one`, `twenty one`
        return False
    return _same_mentioned(gold, given)


def _spaced_alike(gold: Reading, given: Reading) -> bool:
    """Whether words are apart at the same places, as keys have no spaces: `Par is` is not Paris.

    Spaces beside a digit, a mark or a CJK letter do not count: `Area 51` is `Area51`.
    """
    if not (gold.words or given.words):
        return True
    runs = [_RUN.findall(reading.words or reading.text.lower()) for reading in (gold, given)]
    return runs[0] == runs[1]


def _without_and(words: str) -> str:
    """`3 hours and 20 minutes` as `3 hours 20 minutes`."""
    return words.replace(" and ", " ")


def _same_mentioned(gold: Reading, given: Reading) -> bool | None:
    """Words against a number: the one number in the words, where no other can be meant."""
    if gold.words and given.words:
        return False
    worded, other = (gold, given) if gold.words else (given, gold)
    if worded.mentioned is not None and worded.mentioned.written and other.written:
        if symbols(other.written.node):
            return False
        return same_number(worded.mentioned.written, other.written)
    return False if other.written or other.special or worded.mentioned is None else None


def _same_lists(gold: Reading, given: Reading) -> bool | None:
    if not gold.parts or not given.parts:
        single, listed = (gold, given) if given.parts else (given, gold)
        if listed.words and single.words:
            return _without_and(listed.words) == _without_and(single.words)
        if single.written and LAKHS.fullmatch(listed.text):
            return same_number(single.written, Written(number(int(listed.text.replace(",", "")))))
        if not listed.brackets and single.written and all(map(_plain, listed.parts)):
            return False
        return None
    ordered = [reading.brackets not in ("", r"\{\}") for reading in (gold, given)]
    if all(ordered):
        if gold.brackets != given.brackets:
            return False if len(gold.parts) == len(given.parts) == 2 else None
        if len(gold.parts) != len(given.parts):
            return False
        return _all(same_answer(a, b) for a, b in zip(gold.parts, given.parts, strict=True))
    if any(ordered) and _assigned(given if ordered[0] else gold):
        # `x = 1, y = 2` beside `(1, 2)`: in the order in which it is written.
        if len(gold.parts) != len(given.parts):
            return False
        return _all(same_answer(a, b) for a, b in zip(gold.parts, given.parts, strict=True))
    if any(ordered):
        return False if r"\{\}" in (gold.brackets, given.brackets) else None
    if _assigned(gold) and _assigned(given):
        values = {part.left: part for part in given.parts}
        if set(values) == {part.left for part in gold.parts}:
            return _all(same_answer(part, values[part.left]) for part in gold.parts)
    return _same_sets(gold, given)


def _assigned(listed: Reading) -> bool:
    """Whether every member gives another variable a value: `x = 1, y = 2`."""
    names = {part.left for part in listed.parts}
    return all(names) and len(names) == len(listed.parts)


def _same_sets(gold: Reading, given: Reading) -> bool | None:
    r"""Members in any order; unequal counts are left to math-verify, which knows `\pm`."""
    if len(gold.parts) != len(given.parts):
        return False if all(_plain(part) for part in (*gold.parts, *given.parts)) else None
    left = list(given.parts)
    unknown = False
    for part in gold.parts:
        verdicts = [same_answer(part, other) for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            unknown = True
        else:
            return False
    return None if unknown else True


def _plain(part: Reading) -> bool:
    return bool(part.written or part.letter or part.words)


def _all(verdicts: object) -> bool | None:
    found = list(verdicts)  # type: ignore[call-overload]
    if False in found:
        return False
    return None if None in found else True
