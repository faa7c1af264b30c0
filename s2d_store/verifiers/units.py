r"""Numbers beside currency, units and scale words: `\$1.5 \text{ million}`, `12 cm^2`, `25%`."""

from __future__ import annotations

import re
from dataclasses import replace

from s2d_store.verifiers.answer_text import SCALES
from s2d_store.verifiers.expressions import Written, read_expression
from s2d_store.verifiers.rationals import Node, number
from s2d_store.verifiers.word_sets import word_set

_MONEY_SCALES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
PERCENT = frozenset(("percent", "percentage", "pct"))
_SHORT_UNITS = word_set(
    "mm cm dm km in ft yd mi nm mg kg lb lbs oz ml mL cl dl dL kl ms hr hrs min sec am pm th "
    "st nd rd mph kph kmh fps ha cc pt qt gal kW kJ kN kV mV mA Hz kHz MHz GHz GB MB KB TB eV "
    "Pa kPa mol rad deg sq cu pts USD EUR GBP amu bps rpm kcal cal au ly cents men pens dm "
    "pcs yrs yr wk wks mo hour days day week year cups cup cup cans ants eggs cows cats dogs "
    "toys"
)
_LONE_UNITS = word_set("m g s h L l J N W V A K C F T")
_NOT_UNITS = word_set(
    "and or if when where for mod to than not no is are was times plus minus over divided by "
    "but with remainder then else either neither nor any such that choose at base sin cos tan "
    "cot sec csc log ln exp sqrt pi arcsin arccos arctan lim max min gcd lcm det dim ker"
)
_OPERATIONS = word_set("squared cubed factorial doubled tripled halved")
_FUNCTION_WORDS = word_set(
    "sin cos tan cot sec csc log ln exp sqrt pi arcsin arccos arctan asin acos atan sinh cosh "
    "tanh lim max min gcd lcm det mod frac binom"
)
PLAIN_WORDS = _FUNCTION_WORDS - {"pi", "frac", "binom", "sqrt"}
_SHORT_WORDS = word_set("am an as at by my us up ax ad cd pm tv mr ms")
WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]+")
_UNIT_TAIL = re.compile(
    r"[a-zA-Z](?:[a-zA-Z\s./()'*%\"$:-]|\^\s?\{?-?[123]\}?|\\cdot|(?<=[a-zA-Z])\{?[23]\}?(?!\d))*+"
)
_CURRENCY = re.compile(
    r"^([-+]?)\s*(?:(?:US|A|C|HK|NZ)?\s*\\?\$|[\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd]"
    r"|\\(?:pounds|euro|yen)\b|(?:Rs\.?|INR|USD|EUR|GBP|CAD|AUD|JPY|CNY|RMB)(?![a-zA-Z]))\s*(?=[-\d.\\(])"
)
_TEMPERATURE = re.compile(r"(?<=\S)\s*\^\s*\{?\s*\\circ\s*\}?\s*[CFK]$")
_LONE_UNIT = re.compile(
    r"(.*[\d)}])\s+[mgshLlJNWVAKCFT](?:\s*\^\s*\{?-?[123]\}?)?"
    r"(?:\s*(?:/|\\cdot)\s*[a-zA-Z](?:\s*\^\s*\{?-?[123]\}?)?)*"
)
_CURRENCY_END = re.compile(r"\s*(?:\\?\$|[\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd])$")
LAKHS = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SPACED_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:[ ']\d{3})+(?:\.\d+)?")


def read_number(text: str) -> Written | None:
    """The expression that is all of a text, but for currency, unit and scale."""
    sign_and_currency = _CURRENCY.match(text)
    if sign_and_currency:
        text = sign_and_currency[1] + text[sign_and_currency.end() :]
        if LAKHS.fullmatch(text):
            text = text.replace(",", "")
        scaled = re.fullmatch(r"(.*\d)\s?([kKMB])", text)
        if scaled and (inner := _plain_number(scaled[1])):
            return _scaled(inner, _MONEY_SCALES[scaled[2]])
    text = _TEMPERATURE.sub("", _CURRENCY_END.sub("", text)).strip()
    plain = _plain_number(text)
    if plain is not None:
        lone = _LONE_UNIT.fullmatch(text)
        without = _plain_number(lone[1]) if lone else None
        return replace(plain, without_unit=without)
    for word in WORD.finditer(text):
        before, tail = text[: word.start()].strip().rstrip("-").strip(), text[word.start() :]
        if not before or not _starts_unit(word[0], text[word.start() - 1], tail):
            continue
        opened = before.rstrip("({[ ")
        before = opened if _UNIT_TAIL.fullmatch(tail) else before
        return _with_unit(before, tail)
    return None


def _plain_number(text: str) -> Written | None:
    if _SPACED_THOUSANDS.fullmatch(text):
        text = text.replace(" ", "").replace("'", "")
    if "," in text:
        if any(opened in text for opened in ("(", "[", r"\{")):
            return None
        text = THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
        if "," in text:
            return None
    if any(not is_product(run[0]) for run in WORD.finditer(text)):
        return None
    return read_expression(text)


def is_product(run: str) -> bool:
    """Whether a run of letters may stand for variables side by side, as `xy` and `abc`."""
    if len(run) == 1 or run in _FUNCTION_WORDS:
        return True
    if run in _SHORT_UNITS or run != run.lower() or len(run) > 5 or run in _SHORT_WORDS:
        return False
    if set(run) <= set("xyzw"):
        return True
    if len(run) == 2:
        return not set(run) & set("eiou")
    return (
        list(run) == sorted(set(run))
        and not set(run) & set("eiou")
        and run not in ("any", "act", "ant")
    )


def _starts_unit(word: str, before: str, tail: str) -> bool:
    if word.lower() in _NOT_UNITS:
        return False
    if word in ("a", "an") and before == " " and re.match(r"an? [a-z]{2,}", tail):
        return True
    if len(word) == 1:
        alone = re.fullmatch(
            r"[a-zA-Z](?:\s*\^?\s*\{?[23]\}?)?(?:\s*/\s*[a-zA-Z].*)?", tail.strip()
        )
        return word in _LONE_UNITS and before in " }" and alone is not None
    return word in _SHORT_UNITS or not is_product(word)


def _with_unit(before: str, tail: str) -> Written | None:
    if not _UNIT_TAIL.fullmatch(tail) or not re.search(r"\d|\\", before):
        return None
    words = [word.lower() for word in re.findall(r"[a-zA-Z]+", tail)]
    if words[0] in _OPERATIONS:
        return None
    if any(word in _NOT_UNITS - {"by", "at", "with", "to", "for", "all"} for word in words):
        return None
    if re.search(r"\bof\b.*\d", tail):
        return None  # `12 percent of 2` is no 12 %.
    if before.endswith("^\\circ") or before.endswith("^{\\circ}"):
        before = before[: before.rindex("^")]
    inner = _plain_number(before.rstrip("*").removesuffix(r"\cdot").strip())
    if inner is None:
        return None
    if words[0] in PERCENT:
        return replace(inner, mark="%")
    for word in words:
        if word not in SCALES:
            break
        inner = _scaled(inner, SCALES[word])
    return inner


def _scaled(inner: Written, times: int) -> Written:
    node: Node = ("mul", inner.node, number(times))
    if inner.node[0] == "num":
        node = number(inner.node[1] * times)
    return Written(node, None, 0, inner.mark)
