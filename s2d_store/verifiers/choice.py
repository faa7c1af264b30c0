r"""Multiple choice: the letter that a response settles on."""

from __future__ import annotations

import re

from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.text import final_text, normalise

_BOX = re.compile(r"\\boxed\s*\{\s*(?:\\(?:text|mathrm|textbf|mathbf)\s*\{)?\s*([^{}]*)\}")
_STATED = re.compile(
    r"(?i:answer|choice|option)\b[^A-Za-z0-9]{0,6}"
    r"(?:(?i:is|would be|should be)\b[^A-Za-z0-9]{0,6})?"
    r"(?:(?i:option|choice)\b\s*)?[(\[*_ ]*([A-Z])(?![A-Za-z'\u2019])"
)
_LETTER = re.compile(r"\W*([A-Za-z])(?:\W.*)?", re.DOTALL)
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LONE = re.compile(r"(?<![A-Za-z'\u2019])\(?([A-Z])[).:]?(?![A-Za-z'\u2019])")
_TAIL_CHARS = 2_000


class Choice:
    r"""Correct where the response chooses the gold letter.

    Read in this order, after `</think>`: the last `\boxed{...}`; an <answer> tag; the last "the
    answer is (C)" or "Option C"; a response that begins with a letter on its own, as "C" or
    "(C) the ribosome"; the only lone capital letter in the last line ("A" and "I" are words there,
    unless they stand in brackets). Where the item's meta or task
    lists `choices` (texts, or `{"label": [...], "text": [...]}`), a choice given by its text counts
    as its letter, and so does a gold answer that is a text or a number (0 is the first).
    """

    name, version = "choice", "1"

    def grade(self, item: Item) -> Verdict:
        """See the class."""
        choices = _choices(item.fields().get("choices"))
        wanted = {_gold_letter(gold, choices, item.answer_type) for gold in item.accepted}
        if None in wanted:
            return Verdict(None, "error", detail=f"the gold answer {item.accepted} is no choice")
        found = chosen_letter(item.response, choices)
        if found is None:
            return Verdict(0.0, "unparseable")
        same = found in wanted
        return Verdict(float(same), "correct" if same else "wrong", found)


def chosen_letter(response: str, choices: dict[str, str]) -> str | None:
    """The letter that a response settles on, or None; `choices` are texts by letter."""
    text = response.rpartition("</think>")[2]
    boxes = _BOX.findall(text)
    if boxes:
        return _letter(boxes[-1], choices)
    final = final_text(response)
    if final != text.strip():
        return _letter(final, choices)
    tail = final[-_TAIL_CHARS:]
    stated = _STATED.findall(tail)
    if stated:
        return str(stated[-1]).upper()
    whole = _letter(final, choices) if len(final) <= 200 else None
    if whole is not None:
        return whole
    last_line = tail.rstrip().rpartition("\n")[2]
    lone = set(_BRACKETED.findall(last_line)) or set(_LONE.findall(last_line)) - {"I", "A"}
    return lone.pop() if len(lone) == 1 else None


def _letter(text: str, choices: dict[str, str]) -> str | None:
    """The letter that a short text stands for: by itself, or by the text of a choice."""
    by_text = {normalise(choice): letter for letter, choice in choices.items()}
    if normalise(text) in by_text:
        return by_text[normalise(text)]
    found = _LETTER.fullmatch(text.strip())
    if not found:
        return None
    follows = text.strip()[found.end(1) :]
    # "I think..." and "A cell..." begin with words, "A) ..." and "A" with a letter.
    return found[1].upper() if not follows or not follows[0].isspace() else None


def _gold_letter(gold: str, choices: dict[str, str], answer_type: str) -> str | None:
    text = gold.strip().strip("()[].").strip()
    if answer_type == "number" or (text.isdigit() and text not in choices.values()):
        letters = list(choices) or [chr(ord("A") + place) for place in range(26)]
        return letters[int(text)] if text.isdigit() and int(text) < len(letters) else None
    if len(text) == 1 and text.isalpha():
        return text.upper()
    return _letter(gold, choices)


def _choices(stated: object) -> dict[str, str]:
    """Texts by letter, of a list of texts or of ARC's form with labels."""
    if isinstance(stated, dict):
        labels, texts = stated.get("label"), stated.get("text")
        if isinstance(labels, list) and isinstance(texts, list):
            return {str(a).upper(): str(b) for a, b in zip(labels, texts, strict=False)}
        return {str(a).upper(): str(b) for a, b in stated.items()}
    if isinstance(stated, list):
        return {chr(ord("A") + place): str(text) for place, text in enumerate(stated[:26])}
    return {}
