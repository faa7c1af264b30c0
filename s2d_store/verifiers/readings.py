r"""What an answer's text says: a number with its unit, a choice, words, a date, a list.

`1.5 \text{ million dollars}` is the number 1500000, `\text{C: the ribosome}` the choice C,
`2516_8` digits to a base, `no` a word and never n times o.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from s2d_store.verifiers.answer_text import SCALES, key, normal_latex, without_set_builder
from s2d_store.verifiers.expressions import MAX_CHARS, Written, read_expression
from s2d_store.verifiers.number_words import number_of_words
from s2d_store.verifiers.rationals import number, symbols
from s2d_store.verifiers.special_forms import Special, special
from s2d_store.verifiers.units import PERCENT, PLAIN_WORDS, THOUSANDS, WORD, is_product, read_number
from s2d_store.verifiers.word_sets import word_set

_BOUND_WORDS = word_set(
    "not most least more less than under below above between or if wrong incorrect false never "
    "cannot isn wasn aren minus negative plus squared cubed factorial doubled tripled halved"
)
_LED_BY = re.compile(r"(?:so|thus|hence|therefore|then|finally|ans)\b[,.:]?\s*(?=\S)", re.I)
_LABEL = re.compile(
    r"^(?:(?:so|thus|hence|therefore|and|then)\b,?\s*)?"
    r"(?=[a-zA-Z' -]{2,60}(?:\s*[:=]|\s+(?:is|are|was|equals)\b))(?![a-zA-Z]\s*[:=])"
    r"((?:[a-zA-Z'-]+\s+)*?[a-zA-Z'-]+)\s*(?:[:=]|\b(?:is|are|was|equals)\b:?)\s*(?!=)"
)
_CHOICE = re.compile(
    r"^(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s+)?"
    r"(?:\(([A-Ja-j])\)\s*[:.]?|([A-J])(?:\)|\.(?!\d)|\s*:|\s+-(?=\s*[A-Za-z]{2})|(?=\s*$)|(?=\s*\([a-zA-Z]{2})"
    r"|,(?=\s+(?!and\b|or\b|[IVX]+\b)[a-zA-Z]{2})))\s*(.*)$",
    re.I | re.DOTALL,
)
_WORDS_ONLY = re.compile(r"[\w\s.,:;!?'\"()/&%$#+-]*")
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?![=<>])")
_SIMPLE_LEFT = re.compile(
    r"(?:\\?[a-zA-Z]+|[a-zA-Z]\s*(?:_\s*(?:\w|\{\w+\}))|(?:\\?[a-zA-Z]+|[a-zA-Z]_\w)\s*\([^()=]{1,40}\)"
    r"|[a-zA-Z](?:\s*\+\s*[a-zA-Z]){1,4}|[a-zA-Z]\s*'+|\|[^|=]{1,40}\|"
    r"|\\(?:angle|triangle|overline|vec|hat|bar|frac)[^=]{1,40})"
)
_OPENERS = {"(": ")", "[": "]", r"\{": r"\}"}
_STEP = re.compile(r"\\[{}]|\\[a-zA-Z]+|\\.|.", re.DOTALL)
_JOINT = re.compile(r"\s*,?\s*(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])\s*|\s*[,;]\s*")
_INFINITY = re.compile(r"([-+]?)\s*(?:positive\s+)?infinity", re.I)
_ASSIGNMENT = re.compile(r"(\\?[a-zA-Z]+(?:_\s*(?:\w|\{\w+\}))?)\s*=\s*[^=<>]+")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")
MAX_PARTS = 60


@dataclass(frozen=True)
class Reading:
    """One answer as it was understood; what does not apply is empty or None.

    Attributes:
        text: normal form of the text.
        key: the text without spaces; equal keys are equal answers.
        written: the expression, its unit left out and its scale word multiplied in.
        words: the text as lower-case words, when it is a name, a phrase or a sentence.
        letter: the choice's letter; `rest` is then the reading of the text behind it.
        special: a date, a time, a ratio or digits to a base.
        left: what stands before the last `=`; the rest of the reading is then of what follows.
        brackets: of a list, e.g. `()`, or empty for a bare one; `parts` are its members.
        mentioned: the one number within words, e.g. 12 of `about 12 apples`.
    """

    text: str
    key: str
    written: Written | None = None
    words: str = ""
    letter: str = ""
    rest: Reading | None = None
    special: Special | None = None
    left: str = ""
    brackets: str = ""
    parts: tuple[Reading, ...] = field(default=())
    mentioned: Reading | None = None

    @property
    def decided(self) -> bool:
        """Whether anything but the bare text was understood."""
        return bool(self.written or self.words or self.letter or self.special or self.parts)


def understood(reading: Reading) -> bool:
    """Whether a reading says more than its text, in all its members."""
    return reading.decided and all(understood(part) for part in reading.parts)


def read(text: str, depth: int = 0) -> Reading:
    """Read an answer.

    Args:
        text: the answer as it was written, up to 1,000 characters.
        depth: how many lists it is in.
    """
    normal = _infinity(without_set_builder(normal_latex(text)))
    led = _LED_BY.match(normal)
    return _read_normal(normal[led.end() :] if led else normal, depth)


def _infinity(text: str) -> str:
    r"""`\infty` of `infinity`; anything else unchanged."""
    infinite = _INFINITY.fullmatch(text)
    return rf"{infinite[1] or ''}\infty" if infinite else text


def _read_normal(text: str, depth: int = 0) -> Reading:
    found = Reading(text, key(text))
    if not text or len(text) > MAX_CHARS or depth > 3:
        return found
    quick = read_expression(text) if text[0] in "-0123456789." and len(text) < 12 else None
    if quick is not None and text.replace(".", "").lstrip("-").isdigit():
        return replace(found, written=quick)
    formed = special(text)
    if formed is not None:
        return replace(found, special=formed, written=read_number(text))
    if _HEXADECIMAL.fullmatch(text):
        return replace(found, words=text.lower())
    choice = _choice(text, depth)
    if choice is not None:
        alone = read_expression(text) if choice[1] is None else None
        return replace(found, letter=choice[0], rest=choice[1], written=alone)
    sides = _EQUALS.split(text)
    if len(sides) > 1:
        return _equation(found, sides, depth)
    written = read_number(text)
    if written is not None:
        return replace(found, written=written)
    label = _LABEL.match(text)
    denied = label is not None and not _BOUND_WORDS.isdisjoint(label[1].lower().split())
    if label and not denied and label.end() < len(text) and not is_product(label[1]):
        inner = _read_normal(text[label.end() :].strip(), depth + 1)
        if inner.decided:
            return replace(inner, text=inner.text, key=inner.key)
    named = _number_in_words(text)
    if named is not None:
        worded = _words(text) or text.lower()
        return replace(found, words=worded, mentioned=Reading(text, key(text), named))
    both = _plus_and_minus(text)
    if both is not None:
        return replace(found, parts=tuple(_read_normal(one, depth + 1) for one in both))
    listed = _members(text)
    if listed is not None:
        brackets, members = listed
        if members == [r"\emptyset"]:
            return found  # The set that holds the empty set is not the empty set.
        parts = tuple(_read_normal(normal_latex(member), depth + 1) for member in members)
        return replace(found, brackets=brackets, parts=parts, words=_words(text))
    words = _words(text)
    if words:
        return replace(found, words=words, mentioned=_mentioned(text, depth))
    return found


def _number_in_words(text: str) -> Written | None:
    """`forty-two`, `two dozen`, `minus 3`, `five dollars`; None for other words."""
    text = text.strip(" .,!")
    signed = re.fullmatch(r"(?:minus|negative)\s+(\d.*)", text, re.I)
    if signed:
        return read_number(f"-{signed[1]}")
    words = text.split()
    for end in range(len(words), max(0, len(words) - 3), -1):
        value = number_of_words(" ".join(words[:end]))
        if value is not None:
            tail = words[end:]
            if not all(map(str.isalpha, tail)) or any(map(number_of_words, tail)):
                return None  # `half past two`, `five fifteen`.
            if tail and value.denominator > 1 and tail[0] not in SCALES:
                return None
            return read_number(f"{value} {' '.join(tail)}") if tail else Written(number(value))
    return None


def _assignments(text: str, depth: int) -> tuple[Reading, ...] | None:
    """`x = 1, y = 2` as two readings; None unless each member gives another variable a value."""
    members = _split(text)
    if members is None or not 2 <= len(members) <= MAX_PARTS:
        return None
    named = [_ASSIGNMENT.fullmatch(member) for member in members]
    names = {key(one[1]) for one in named if one}
    if len(names) != len(members):
        return None
    parts = tuple(_read_normal(member, depth + 1) for member in members)
    return parts if all(part.left and part.written for part in parts) else None


def _plus_and_minus(text: str) -> tuple[str, str] | None:
    r"""Both values of `\pm 3` and `\frac{1\pm\sqrt5}{2}`; None without exactly one such sign."""
    if text.count(r"\pm") != 1 or r"\mp" in text or _JOINT.search(text):
        return None
    first = text.replace(r"\pm", "" if text.startswith(r"\pm") else "+").strip()
    both = first, text.replace(r"\pm", "-")
    return both if all(read_number(one) for one in both) else None


def _equation(found: Reading, sides: list[str], depth: int) -> Reading:
    """`x = 2 + 6 = 8` states 8; lists of equations are left to math-verify."""
    assigned = _assignments(found.text, depth)
    if assigned is not None:
        return replace(found, parts=assigned)
    left, right = sides[0].strip(), sides[-1].strip()
    if not left or not right or "," in "".join(sides[:-1]).replace("(", "").strip():
        return found
    simple = _SIMPLE_LEFT.fullmatch(left) is not None or _word_label(left)
    if not simple:
        values = [read_number(side.strip()) for side in sides]
        if any(value is None for value in values) or not _is_numeric(values[0]):
            return found
        if _false(values):
            return found  # `4 = 5` states nothing.
    inner = _read_normal(right, depth + 1)
    if inner.left or _joined_before(sides):
        return found
    return replace(inner, left="" if _word_label(left) and len(left) > 1 else key(left))


def _false(values: list[Written | None]) -> bool:
    """Whether one bare number is set equal to another. A calculation may be wrong: `2 * 9 = 19`."""
    bare = [value.node[1] for value in values if value and value.node[0] == "num"]
    marked = any(value.mark for value in values if value)
    return len(bare) == len(values) and not marked and max(bare) - min(bare) > abs(max(bare)) / 100


def _joined_before(sides: list[str]) -> bool:
    """Whether a side but the last holds a joint: `x = 1, y = 2`, `x = 1 or x = 2`."""
    return any(_JOINT.search(_without_brackets(side)) for side in sides[:-1])


def _without_brackets(text: str) -> str:
    return re.sub(r"\([^()]*\)", "", text)


def _word_label(left: str) -> bool:
    return re.fullmatch(r"[a-zA-Z][a-zA-Z' _-]*", left) is not None


def _is_numeric(value: Written | None) -> bool:
    return value is not None and not symbols(value.node)


def _choice(text: str, depth: int) -> tuple[str, Reading | None] | None:
    found = _CHOICE.match(text)
    if found is None:
        return None
    letter, rest = found[1] or found[2], found[3].strip()
    if not letter.isupper() and not found[1]:
        return None
    if found[1] and rest and not re.match(r"[a-zA-Z]{2}|[-\d$\\]", rest):
        return None
    if found[1] and not rest and letter.islower() and letter not in "abcd":
        return None
    if rest and re.match(r"[-+*/^=<>_]|\\(?:cdot|times|cup|cap|in|le|ge|neq)\b", rest):
        return None
    if re.match(r",|and\b|or\b|&", rest) or re.search(r"(?:^|[\s,;])\(?[A-J]\)", rest):
        return None  # A list of choices.
    if found[1] and letter.islower() and re.match(r"[\d\\]", rest):
        return None
    return letter.upper(), (_read_normal(rest, depth + 1) if rest else None)


def _words(text: str) -> str:
    """Lower-case words of a text that is no formula; empty for a formula."""
    bare = text.replace("\\$", "$").replace("\\%", "%").replace("\\&", "&").replace("\\ ", " ")
    if "\\" in bare or not _WORDS_ONLY.fullmatch(bare):
        return ""
    runs = [run[0] for run in WORD.finditer(bare)]
    real = [run for run in runs if not is_product(run) or (run in PLAIN_WORDS and run == bare)]
    if not real and not re.search(r"[^\x00-\x7f]", bare):
        return ""
    return " ".join(re.sub(r"[^\w\s/%+-]", " ", bare.lower()).split())


def _mentioned(text: str, depth: int) -> Reading | None:
    words = {word.lower() for word in re.findall(r"[a-zA-Z]+", text)}
    if words & _BOUND_WORDS or depth > 2:
        return None
    numbers = re.findall(
        r"(?<![\w.,])-?\\?\$?(?:\d[\d,]*(?:\.\d+)?(?:/\d+)?|\.\d+)%?(?!\.?\d)", text
    )
    if len(numbers) != 1 or len(re.findall(r"\d[\d,./]*", text)) != 1:
        return None
    scale = re.search(re.escape(numbers[0]) + r"\s+([a-z]+)", text)
    behind = f" {scale[1]}" if scale and (scale[1] in SCALES or scale[1] in PERCENT) else ""
    written = read_number(numbers[0].rstrip(",.") + behind)
    return None if written is None else Reading(numbers[0], key(numbers[0]), written)


def _members(text: str) -> tuple[str, list[str]] | None:
    r"""Brackets and members of a list: `(1, 2)`, `\{a, b\}`, `3 and 4`; None for anything else."""
    brackets = ""
    inner = text
    for opening in _OPENERS:
        if text.startswith(opening):
            closing = next((end for end in (")", "]", r"\}") if text.endswith(end)), "")
            body = text[len(opening) : len(text) - len(closing)] if closing else ""
            if closing and _balanced(body):
                brackets, inner = opening + closing, body
    members = _split(inner)
    if members is None or len(members) > MAX_PARTS or not all(members):
        return None
    if len(members) < 2 and not brackets.startswith(("\\{", "(")):
        return None
    return brackets, members


def _balanced(body: str) -> bool:
    depth = 0
    for step in _STEP.findall(body):
        depth += {"(": 1, "[": 1, r"\{": 1, ")": -1, "]": -1, r"\}": -1}.get(step, 0)
        if depth < 0:
            return False
    return depth == 0


def _split(text: str) -> list[str] | None:
    """Parts between commas, `and` and `or` outside brackets; None when brackets do not fit."""
    depth, part, parts = 0, "", []
    at = 0
    whole = THOUSANDS.sub(lambda found: found[0].replace(",", ""), text) if ", " in text else text
    while at < len(whole):
        joint = _JOINT.match(whole, at) if depth == 0 and whole[at] in " ,;ao" else None
        if joint:
            parts.append(part.strip())
            part, at = "", joint.end()
            if part or not whole[at : at + 1]:
                break
            following = _JOINT.match(whole, at) if whole[at] in "ao" else None
            at = following.end() if following else at
            continue
        step = _STEP.match(whole, at)
        token = step[0] if step else whole[at]
        depth += {"(": 1, "[": 1, "{": 1, r"\{": 1, ")": -1, "]": -1, "}": -1, r"\}": -1}.get(
            token, 0
        )
        part += token
        at += len(token)
    if depth != 0:
        return None
    return [*parts, part.strip()]
