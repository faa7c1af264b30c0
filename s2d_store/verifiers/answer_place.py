r"""Where the final answer stands in a response. The rule for readers: docs/verdicts.md.

`auto` takes the first of these that is there: the last `<answer>...</answer>`, the last complete
`\boxed{...}`, the last `#### ...` line, a response that is one short expression, the last stated
answer ("the answer is ..."), the last expression or number. Text up to `</think>` does not count.

Responses choose the input of these patterns: each takes time linear in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from s2d_store.verifiers.answer_text import SCALES, plain_characters

AnswerFrom = Literal["auto", "box", "tag", "hash", "last-number"]
ANSWER_FROM: tuple[AnswerFrom, ...] = get_args(AnswerFrom)
MAX_RESPONSE_CHARS = 20_000
MAX_BARE_CHARS = 200

_FORMULAS = (("$$", "$$"), (r"\(", r"\)"), (r"\[", r"\]"), ("$", "$"))
_SPECIAL = re.compile(r"<\|[a-zA-Z_]{1,30}\|>|</?s>|<eos>|<end_of_turn>|<pad>")
_TURN_END = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|end_of_text|end|eom_id)\|>|</s>|<eos>|<end_of_turn>"
)
_THINK_END = re.compile(r"</(?:think|thinking|thought|reasoning)>|<\|end_of_thought\|>", re.I)
_THINK_START = re.compile(r"<(?:think|thinking|thought|reasoning)>|<\|begin_of_thought\|>", re.I)
_TAG = re.compile(r"<(/?)(?:answer|final_answer)>", re.I)
# An escaped character hides a brace, but a line break `\\` hides no box that follows it.
_BOX_NAME = r"\\(?:boxed|fbox|framebox)"
_BOX_OR_BRACE = re.compile(rf"{_BOX_NAME}\s*+\{{|\\(?!\\(?:boxed|fbox)).|[{{}}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\boxed\s++(-?\d+(?:\.\d+)?+|[A-Za-z])(?![\w{])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
CONNECTIVE = re.compile(
    r"(?:(?<!\s)\s++)?+(?:,\s*+)?+(?:\\text\{\s*+(?:and|or)\s*+\}|\b(?:and|or)\b)\s*+"
)
_BETWEEN_BOXES = re.compile(
    r"[\s$.]*+(?:,(?:\s*+(?:and|or))?+|and|or)[\s$]*+(?:[a-zA-Z]\s*+=\s*+)?+"
)
_WORD = re.compile(r"(?<!\\)(?<![a-zA-Z])[a-zA-Z]{2,}")
_HASH = re.compile(r"^[ \t*]{0,4}#{4}(?!#)[ \t]*+([^\n]*+)", re.MULTILINE)
_HEADING = re.compile(
    r"(?:\d+[.):]\s*+|step\b|part\b|case\b|solution\b|method\b|approach\b|explanation\b)\s*+\D",
    re.I,
)
_ANSWER_LINE = re.compile(r"(?:the |final |my )*answer\b:?\s*\S|[-+$\u20ac\u00a3\\(]*\d", re.I)
_NEXT_QUESTION = re.compile(r"^\s{0,8}(?:question|problem|q|human|user)\s?\d{0,4}:", re.I | re.M)
_STATED = re.compile(
    r"\banswers?\b(?:\s+(?:here|to (?:the|this) (?:question|problem)))?"
    r"[\s*_`]*+(?:is|are|was|be|=|:|equals)[\s*_`:]*+([^\n]{1,200})"
    r"|\b(?:respuesta|r\u00e9ponse|antwort|risposta|resposta)[^\n:]{0,20}?(?:\bes|\best|\bist|\b\u00e8|:)\s*+([^\n]{1,200})"
    r"|\b(?:option|choice)\s+(\(?[A-J]\)?)(?=\s+is\b)"
    r"|(?:\u7b54\u6848|\u7b54|\u3053\u305f\u3048|\u7b54\u3048|\uc815\ub2f5|\ub2f5)\s*+"
    r"(?:\u662f|\u4e3a|\u70ba|\u306f|\uc740|\ub294|:)*+\s*+([^\n]{1,200})",
    re.I,
)
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|[\u3002\uff01\uff1f]")
_CLAUSE = re.compile(
    r"[,;]?\s(?:not|which|because|since|as|so|but|where|giving|instead|rather|after|given)\b"
    r"|\s\((?=[a-zA-Z]{2})|\s?\|"
)
_LAST_NUMBER = re.compile(
    r"(?<![\w.,\\])(?:-(?=[\d.]))?+(?:\d{1,3}(?:,\d{3})++(?!\d)(?:\.\d++)?+|\d++(?:\.\d++)?+|\.\d++)"
    r"(?!\.\d)(?:[eE][-+]?\d++)?+(?:\s\d++/\d++|\s?/\s?\d++(?![\d/]))?+(?:\s?\\?%)?+"
    rf"(?:\s(?:{'|'.join(SCALES)}|percent|pct)\b)?+"
)

_NEGATED = re.compile(
    r"\b(?:not|never|isn't|wasn't|aren't|can't be|cannot be)\s+(?:be\s+|equal\s+to\s+)?+"
    r"(?:-?\d[\d,]*+(?:\.\d++)?+|\$[^$\n]{1,100}+\$|\\\([^()\n]{1,100}+\\\))"
)
_REJECTED = re.compile(
    r"(?<![\w.,])-?\d[\d,]*+(?:\.\d++)?+\s(?:is|was)\s"
    r"(?:wrong|incorrect|not\s(?:right|correct|the answer))\b"
)
_BOUND = re.compile(
    r"(?:it(?:'s| is)\s|they are\s|about\s)?(?:at least|at most|more than|less than|fewer than|"
    r"greater than)\s[^\n]*+|[^\n]*?\d\sor\s(?:more|less|fewer|greater)\b[^\n]*+"
    r"|\$?(?:[<>\u2264\u2265]=?|\\[lg](?:eq?|t)(?![a-zA-Z]))\s*+\d[^\n>]*+",
    re.I,
)
_NUMBER_AFTER = re.compile(r"\d")
_STRUCK = re.compile(r"~~[^~\n]{1,200}+~~")
_OPENED = re.compile(r"(?:(?<=[\s(\[:>\"|])|^)(?:\*{1,3}|_{1,3}|={2}|~)(?=[^\s*_=~])", re.MULTILINE)
_CLOSED = re.compile(
    r"(?<=[^\s*_=~\\])(?:\*{1,3}|_{1,3}|={2}|~)(?=[\s.,;:!?)\]\"|]|$)", re.MULTILINE
)
_BULLET = re.compile(
    r"^[ \t]*+(?:(?:[*\u2022+>]|-(?![ \t]*+[\d.,]++[ \t]*+$)|#{1,6})[ \t]++)++", re.MULTILINE
)
_TABLE = re.compile(r"^[ \t]*+\|[^\n]*+$", re.MULTILINE)
_QUOTES = str.maketrans(
    dict.fromkeys('`"\u300c\u300d\u300e\u300f\u3010\u3011\u300a\u300b\u2192', " ")
)
_BRACKETED = re.compile(
    r"(?<![\\\w}^_\])])(?:\[\s?([-+]?\d[\d.,/]*+%?)\s?\](?!\()|<\s?([-+]?\d[\d.,/]*+%?)\s?>"
    r"|\{\s?([-+]?\d[\d.,/]*+%?)\s?\}|'([-+]?\d[\d.,/]*+%?)')"
)
_GLUED = re.compile(
    r"(?<=[a-zA-Z]:)(?=[-\d.$])|(?<=[^\x00-\u024f\u0370-\u03ff])(?=-?\d)|(?<=\d)(?=[\u2e80-\uffef])"
)
_CURRENCY = re.compile(
    r"(?<![a-zA-Z])(?:Rs\.?|INR|USD|EUR|GBP|US\$|\u20ac|\u00a3|\u00a5|\u20b9)\s?(?=\d)"
)


@dataclass(frozen=True)
class Place:
    """A piece of a response that is taken for its answer.

    Attributes:
        text: the answer as it was written.
        how: `box`, `tag`, `hash`, `whole`, `stated` or `number`; `bound` for what is no value,
            as "more than 5"; `prose` where the answer is still to be found in the text.
    """

    text: str
    how: str


def places(response: str, rule: AnswerFrom = "auto") -> list[Place]:
    """Where the answer may stand, the first that can be read counts; empty when it is nowhere."""
    text, thought = _after_thinking(_first_turn(response))
    text = _SPECIAL.sub(" ", text[-MAX_RESPONSE_CHARS:])
    if rule == "tag":
        return _listed(_tagged(text), "tag")
    if rule == "box":
        return _listed(final_boxed(text), "box")
    if rule == "hash":
        return _listed(_hashed(text), "hash")
    if rule == "last-number":
        return [] if thought else _listed(last_number(text), "number")
    tagged = _tagged(text)
    if tagged is not None:
        boxed = final_boxed(tagged)
        if boxed is not None:
            return [Place(boxed, "box")]
        inside = _in_prose(re.sub(r"^\s*#{1,6}\s", "", tagged))
        stated = [place for place in inside if place.how in ("whole", "stated", "formula")]
        return [Place(tagged.strip(), "tag"), *stated]
    boxed = final_boxed(text)
    if boxed is not None:
        return [Place(boxed, "box")]
    hashed = _hashed(text)
    if hashed is not None:
        return [Place(hashed, "hash"), *_in_prose(hashed)]
    return [] if thought else _in_prose(text)


def _listed(text: str | None, how: str) -> list[Place]:
    return [] if text is None else [Place(text.strip(), how)]


def _first_turn(response: str) -> str:
    """The response up to the token that ends a turn: what follows it is no answer."""
    begun = len(response) - len(response.lstrip())
    end = _TURN_END.search(response, begun + 1)
    return response[: end.start()] if end else response


def _after_thinking(response: str) -> tuple[str, bool]:
    """What follows the thinking, and whether it is the thinking because nothing follows it."""
    ends = list(_THINK_END.finditer(response))
    if ends:
        after = response[ends[-1].end() :]
        reopened = _THINK_START.search(after)
        if reopened:
            after = after[: reopened.start()]
        if _SPECIAL.sub("", after).strip():
            return after, False
        return response[: ends[-1].start()], True
    started = _THINK_START.search(response)
    return (response[: started.start()], False) if started else (response, False)


def _tagged(text: str) -> str | None:
    """What the last `<answer>` holds; one that is not closed, as before a stop string, counts."""
    opened: int | None = None
    found: str | None = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opened = tag.end()
        elif opened is not None:
            found, opened = text[opened : tag.start()], None
    if opened is not None and found is None and text[opened:].strip():
        return text[opened:]
    return found


def _hashed(text: str) -> str | None:
    """What follows `####` in the last such line that is no heading."""
    lines = [line for line in _HASH.finditer(text) if line[1].strip(" *")]
    answers = [line for line in lines if not _HEADING.match(line[1].strip(" *"))]
    if not answers:
        return None
    # What a model goes on with after its answer: the next question, and an answer to it.
    asked = _NEXT_QUESTION.search(text, answers[0].end())
    own = [line for line in answers if asked is None or line.start() < asked.start()]
    last = own[-1]
    content = without_marks(last[1]).strip()
    goes_on = bool(text[last.end() :].strip())
    if goes_on and not is_bare_expression(content) and not _ANSWER_LINE.match(content):
        return None  # A heading such as `#### Result`.
    return content


def _in_prose(text: str) -> list[Place]:
    cleaned = _REJECTED.sub(" ", _NEGATED.sub(" ", without_marks(text).strip())).strip()
    if len(cleaned) <= MAX_BARE_CHARS and _BOUND.fullmatch(cleaned):
        return [Place(cleaned.rstrip(".!?"), "bound")]
    found = []
    if is_bare_expression(cleaned):
        found.append(Place(cleaned, "whole"))
    stated = _stated(cleaned)
    if stated is not None:
        bound = _BOUND.fullmatch(stated) and cleaned.rstrip(".!?").endswith(stated)
        found.append(Place(stated, "bound" if bound else "stated"))
    if len(cleaned) <= MAX_BARE_CHARS and "\n" not in cleaned and not found:
        clause = _CLAUSE.search(cleaned)
        line = cleaned[: clause.start()] if clause else cleaned
        turned = clause is not None and re.search(r"but|so|giving", clause[0])
        if clause is None or not turned or not _NUMBER_AFTER.search(cleaned, clause.end()):
            found.append(Place(line.rstrip(".!?"), "line"))
    number = last_number(cleaned)
    if number is not None and number[-1].isalpha():
        found.append(Place(number, "number"))  # `$5 million`: what a formula would leave out.
    if "\\" in cleaned or cleaned.count("$") > 1:
        formula = _last_formula(cleaned)
        if formula is not None:
            found.append(Place(formula, "formula"))
        found.append(Place(cleaned, "prose"))
    if number is not None:
        found.append(Place(number, "number"))
    return found


def _stated(text: str) -> str | None:
    """What the last "answer is" or "Answer:" is followed by, up to the end of the sentence."""
    last = _last(_STATED, text)
    if last is None:
        return None
    stated = next(group for group in last.groups() if group)
    nested = _stated(stated)
    if nested is not None:
        return nested
    for ending in (_SENTENCE_END, _CLAUSE):
        end = ending.search(stated)
        stated = stated[: end.start()] if end else stated
    return stated.strip() or None


def _last_formula(text: str) -> str | None:
    r"""What the last pair of `$`, `\(` or `\[` holds, when no number comes after it."""
    ends = [(text.rfind(closing), opening, closing) for opening, closing in _FORMULAS]
    end, opening, closing = max(ends)
    if end <= 0 or any(mark.isdigit() for mark in text[end:]):
        return None
    start = text.rfind(opening, 0, end)
    inner = text[start + len(opening) : end]
    if start < 0 or not inner.strip() or len(inner) > MAX_BARE_CHARS:
        return None
    if closing == "$" and ("\n" in inner or (inner[-1] == " " and inner[0] != " ")):
        return None  # Two prices and what stands between them.
    if re.search(r"[$)\]]\s*(?:,|and|or|,\s*and)\s*$", text[max(0, start - 20) : start]):
        return None  # One of several.
    return inner


def last_number(text: str) -> str | None:
    """The last number in a text, a fraction such as 3/4 with it."""
    last = _last(_LAST_NUMBER, without_marks(text))
    return None if last is None else last[0]


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def without_marks(text: str) -> str:
    """Prose without the marks of Markdown, quotes and brackets around what they hold."""
    if not text.isascii():
        text = plain_characters(text, latex=False)
    text = _STRUCK.sub(" ", text.translate(_QUOTES))
    text = _TABLE.sub(lambda row: row[0].replace("|", " "), text)
    text = _BULLET.sub("", text)
    text = _CLOSED.sub("", _OPENED.sub("", text))
    text = _BRACKETED.sub(lambda found: f" {found[1] or found[2] or found[3] or found[4]} ", text)
    return _GLUED.sub(" ", _CURRENCY.sub(" ", text))


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
    for found in _BARE_BOX.finditer(text, boxes[-1][1] if boxes else 0):
        boxes.append((*found.span(), found[1]))
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
    if not text or len(text) > MAX_BARE_CHARS or "\n" in text:
        return False
    if closing_brace(text + "}", 0) != len(text):
        return False  # A response cut off inside braces: what is left is another number.
    return _WORD.search(CONNECTIVE.sub(",", text)) is None
