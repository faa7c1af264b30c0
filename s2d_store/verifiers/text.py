"""Whether a response's answer is a gold answer as text: exactly, or after normalisation."""

from __future__ import annotations

import re
import string
import unicodedata

from s2d_store.verifiers.base import Item, Verdict

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_THINKING = "</think>"
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans(
    dict.fromkeys(string.punctuation + "\u2018\u2019\u201c\u201d\u2026\u2013\u2014", " ")
)


def final_text(response: str) -> str:
    """What a response offers as its answer: what follows its thinking, or the last <answer> tag."""
    _, _, text = response.rpartition(_THINKING)
    tags = _TAG.findall(text)
    return (tags[-1] if tags else text).strip()


def normalise(text: str) -> str:
    """Lower case, compatible Unicode forms as one, no punctuation, no articles, single spaces.

    The normalisation of SQuAD's evaluation, with Unicode's NFKC before it.
    """
    lowered = unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", lowered).split())


class ExactMatch:
    """Correct where the answer is a gold answer character for character, outer space aside.

    The answer is the response after `</think>`, or what its last <answer> tag holds.
    """

    name, version = "exact-match", "1"
    needs_context = False

    def grade(self, item: Item) -> Verdict:
        """See the class."""
        answer = final_text(item.response)
        same = answer in [gold.strip() for gold in item.accepted]
        return Verdict(float(same), "correct" if same else "wrong", answer)


class NormalisedMatch:
    """Correct where the answer equals a gold answer after `normalise`; read as in ExactMatch."""

    name, version = "normalised-match", "1"
    needs_context = False

    def grade(self, item: Item) -> Verdict:
        """See the class."""
        answer = final_text(item.response)
        wanted = [normalise(gold) for gold in item.accepted]
        if not any(wanted):
            return Verdict(None, "error", answer, "nothing is left of the gold answer")
        same = normalise(answer) in wanted
        return Verdict(float(same), "correct" if same else "wrong", answer)
