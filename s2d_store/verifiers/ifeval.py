"""Instruction following: the verifiable instructions of IFEval (arXiv 2311.07911), strict form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from s2d_store.verifiers.base import Item, Verdict

Check = Callable[[str, Mapping[str, Any]], bool]
_WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[A-Z0-9])")
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL | re.IGNORECASE)


class InstructionFollowing:
    """Correct where a response follows every instruction of its prompt.

    The prompt's task or meta holds `instruction_id_list` and `kwargs`, as in IFEval's data; what is
    read is the response after `</think>`. `metrics` say which instructions were followed and their
    share. An instruction that is not known here (response_language needs a language model) leaves
    the item unjudged.
    """

    name, version = "ifeval", "1"
    needs_answer = False

    def grade(self, item: Item) -> Verdict:
        """See the class."""
        fields = item.fields()
        asked, given = fields.get("instruction_id_list"), fields.get("kwargs")
        if not isinstance(asked, list) or not asked:
            return Verdict(None, "error", detail="the prompt's task and meta hold no instructions")
        if isinstance(given, str):
            given = json.loads(given)
        arguments = given if isinstance(given, list) else []
        if len(arguments) != len(asked):
            return Verdict(None, "error", detail="`kwargs` is not one mapping per instruction")
        unknown = [name for name in asked if name not in CHECKS]
        if unknown:
            return Verdict(None, "error", detail=f"no check for {', '.join(unknown)}")
        text = item.response.rpartition("</think>")[2].strip()
        followed = [
            bool(text) and CHECKS[name](text, one or {})
            for name, one in zip(asked, arguments, strict=True)
        ]
        metrics = {
            "followed": followed,
            "share": sum(followed) / len(followed),
        }
        missed = [name for name, good in zip(asked, followed, strict=True) if not good]
        good = not missed
        detail = f"not followed: {', '.join(missed)}" if missed else ""
        return Verdict(float(good), "correct" if good else "wrong", "", detail, metrics)


def compare(count: int, relation: str | None, wanted: int) -> bool:
    """Whether a count is `less than` or `at least` what was asked for.

    Raises:
        ValueError: another relation.
    """
    if relation in (None, "at least"):
        return count >= wanted
    if relation == "less than":
        return count < wanted
    if relation == "at most":
        return count <= wanted
    raise ValueError(f"the relation {relation!r} is not known")


def words(text: str) -> list[str]:
    """The words of a text; `well-known` and `it's` are one each."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """The sentences of a text: parts that end in a full stop, an exclamation or question mark."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part.strip()]


def paragraphs(text: str, mark: str = r"\s?\*\*\*\s?") -> list[str]:
    """Parts of a text between marks, empty ones at either end left out."""
    parts = [part.strip() for part in re.split(mark, text)]
    while parts and not parts[0]:
        parts.pop(0)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def _occurrences(text: str, phrase: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE))


def _nth_paragraph(text: str, of: Mapping[str, Any]) -> bool:
    found = [part for part in re.split(r"\n\n", text) if part.strip()]
    place = int(of["nth_paragraph"])
    if len(found) != int(of["num_paragraphs"]) or not 0 < place <= len(found):
        return False
    first = re.split(r"\s", found[place - 1].strip(), maxsplit=1)[0]
    return first.strip("\"'.,?!").lower() == str(of["first_word"]).lower()


def _two_responses(text: str, _: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in text.split("******")]
    if parts and not parts[0]:
        parts = parts[1:]
    if parts and not parts[-1]:
        parts = parts[:-1]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _is_json(text: str, _: Mapping[str, Any]) -> bool:
    fenced = _FENCED.match(text)
    try:
        json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


def _highlighted(text: str, of: Mapping[str, Any]) -> bool:
    found = re.findall(r"\*\*[^\n*]+\*\*|\*[^\n*]+\*", text)
    return sum(bool(part.strip("* ")) for part in found) >= int(of["num_highlights"])


def _sections(text: str, of: Mapping[str, Any]) -> bool:
    mark = rf"\s?{re.escape(str(of['section_spliter']))}\s?\d+\s?"
    return len(re.split(mark, text)) - 1 >= int(of["num_sections"])


def _postscript(text: str, of: Mapping[str, Any]) -> bool:
    mark = str(of["postscript_marker"]).strip()
    letters = re.sub(r"[^A-Za-z]", "", mark)
    if mark in ("P.S.", "P.P.S", "P.P.S."):
        pattern = r"\s*" + r"\.\s?".join(letters) + r"\.?"
    else:
        pattern = rf"\s*{re.escape(mark)}"
    return re.search(pattern, text, re.IGNORECASE) is not None


def _capitals(text: str, of: Mapping[str, Any]) -> bool:
    count = sum(word.isupper() for word in words(text))
    return compare(count, of.get("capital_relation"), int(of["capital_frequency"]))


def _letters(text: str, of: Mapping[str, Any]) -> bool:
    count = text.lower().count(str(of["letter"]).lower())
    return compare(count, of.get("let_relation"), int(of["let_frequency"]))


def _frequency(text: str, of: Mapping[str, Any]) -> bool:
    count = _occurrences(text, str(of["keyword"]))
    return compare(count, of.get("relation"), int(of["frequency"]))


def _ends_with(text: str, of: Mapping[str, Any]) -> bool:
    wanted = str(of["end_phrase"]).strip().lower()
    return text.strip().strip('"').lower().endswith(wanted)


def _repeats(text: str, of: Mapping[str, Any]) -> bool:
    return text.lower().startswith(str(of["prompt_to_repeat"]).strip().lower())


CHECKS: dict[str, Check] = {
    "keywords:existence": lambda text, of: all(_occurrences(text, word) for word in of["keywords"]),
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": lambda text, of: (
        not any(_occurrences(text, word) for word in of["forbidden_words"])
    ),
    "keywords:letter_frequency": _letters,
    "length_constraints:number_words": lambda text, of: compare(
        len(words(text)), of.get("relation"), int(of["num_words"])
    ),
    "length_constraints:number_sentences": lambda text, of: compare(
        len(sentences(text)), of.get("relation"), int(of["num_sentences"])
    ),
    "length_constraints:number_paragraphs": lambda text, of: (
        all(paragraphs(text)) and len(paragraphs(text)) == int(of["num_paragraphs"])
    ),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": lambda text, of: (
        len(re.findall(r"\[.*?\]", text)) >= int(of["num_placeholders"])
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda text, of: (
        len(re.findall(r"^\s*(?:\*[^*\n]|-)[^\n]*$", text, re.MULTILINE)) == int(of["num_bullets"])
    ),
    "detectable_format:constrained_response": lambda text, of: any(
        option in text for option in _CONSTRAINED
    ),
    "detectable_format:number_highlighted_sections": _highlighted,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": lambda text, of: (
        re.search(r"<<[^\n]*[^\s<>][^\n]*>>", text) is not None
    ),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends_with,
    "startend:quotation": lambda text, of: len(text) > 1 and text[0] == '"' and text[-1] == '"',
    "change_case:capital_word_frequency": _capitals,
    "change_case:english_capital": lambda text, of: text.isupper(),
    "change_case:english_lowercase": lambda text, of: text.islower(),
    "punctuation:no_comma": lambda text, of: "," not in text,
}
