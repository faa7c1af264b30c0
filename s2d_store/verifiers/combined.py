"""Several verifiers as one, with weights: `reward = 0.9 * math-verify + 0.1 * my_rewards:tidy`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from s2d_store import ids
from s2d_store.errors import InputError
from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.forms import Loaded
from s2d_store.verifiers.settings import PATTERN

_WHOLE = re.compile(r"(?:\s*(?P<name>[^\s=*+()]+)\s*=(?!=))?(?P<sum>.+)", re.DOTALL)
_TERM = re.compile(
    r"\s*(?P<sign>[+-]?)\s*(?:(?P<weight>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*\*\s*)?"
    rf"(?P<verifier>[A-Za-z_][\w.:-]*?(?:{PATTERN})?)\s*(?=$|[+]|\s-\s)"
)
_PARTS = ("correct", "wrong", "unparseable")


@dataclass(frozen=True)
class Term:
    """One verifier of a sum, and its weight."""

    weight: float
    verifier: str


@dataclass(frozen=True)
class Sum:
    """A parsed sum: the name that its rewards are stored under, and its terms."""

    name: str
    terms: tuple[Term, ...]


def is_sum(text: str) -> bool:
    """Whether a verifier is named as a sum: no name of one has a star, a plus or an equals sign."""
    return any(sign in re.sub(PATTERN, "", text) for sign in "*+=")


def parse(text: str) -> Sum:
    """Read `[NAME =] [WEIGHT *] VERIFIER + ...`; without a name it is `sum-` and a hash.

    Raises:
        InputError: it has another form, or names a verifier twice.
    """
    whole = _WHOLE.fullmatch(text)
    terms: list[Term] = []
    left = whole["sum"] if whole else ""
    while left.strip():
        found = _TERM.match(left)
        if found is None or (terms and not found["sign"]):
            terms = []
            break
        sign = -1.0 if found["sign"] == "-" else 1.0
        terms.append(Term(sign * float(found["weight"] or 1), found["verifier"]))
        left = left[found.end() :]
    if not terms:
        raise InputError(
            f"{text!r} is not a sum of verifiers",
            "its form is NAME = WEIGHT * VERIFIER + WEIGHT * VERIFIER",
            'for example "reward = 0.9 * math-verify + 0.1 * my_rewards:tidy"',
        )
    names = [term.verifier for term in terms]
    if len(set(names)) < len(names):
        raise InputError(f"{text!r} names a verifier twice", fix="give it one weight")
    name = whole["name"] if whole and whole["name"] else ""
    if not name:
        name = f"sum-{ids.content_id([[t.weight, t.verifier] for t in terms])[:8]}"
    return Sum(ids.check_name(name, "verifier"), tuple(terms))


def combine(asked: Sum, load: Callable[[str], Loaded]) -> Loaded:
    """The sum as one verifier; its version changes with any weight or any term's version."""
    loaded = [load(term.verifier) for term in asked.terms]
    weights = [term.weight for term in asked.terms]
    facts = [[w, v.name, v.version] for w, v in zip(weights, loaded, strict=True)]
    names = [verifier.name for verifier in loaded]
    if len(set(names)) < len(names):
        raise InputError(f"two verifiers of {asked.name} are named alike", f"{', '.join(names)}")

    def judge(item: Item) -> Verdict:
        return weigh(weights, names, [verifier.grade(item) for verifier in loaded])

    needs = reduce(or_, (verifier.needs for verifier in loaded))
    described = {verifier.name: verifier.description for verifier in loaded if verifier.description}
    return Loaded(asked.name, f"sum-{ids.content_id(facts)[:12]}", needs, judge, described)


def weigh(weights: Sequence[float], names: Sequence[str], verdicts: Sequence[Verdict]) -> Verdict:
    """The weighted sum of verdicts, with each of them in `metrics`.

    Nothing is judged unless all are. The outcome is that of the first verifier which says right or
    wrong, so that a wrong answer in a good format stays wrong; where none does, it is `scored`.
    """
    metrics: dict[str, Any] = {}
    for weight, name, verdict in zip(weights, names, verdicts, strict=True):
        part: dict[str, Any] = {"weight": weight, "reward": verdict.reward}
        part |= {"outcome": verdict.outcome}
        if verdict.metrics:
            part["metrics"] = dict(verdict.metrics)
        metrics[name] = part
    costs = {name: dict(v.cost) for name, v in zip(names, verdicts, strict=True) if v.cost}
    extracted = next((v.extracted for v in verdicts if v.extracted), "")
    for name, verdict in zip(names, verdicts, strict=True):
        if not verdict.judged or verdict.reward is None:
            detail = f"{name}: {verdict.detail or verdict.outcome}"
            outcome = verdict.outcome if not verdict.judged else "error"
            return Verdict(None, outcome, extracted, detail, metrics, costs or None)
    total = sum(w * (v.reward or 0.0) for w, v in zip(weights, verdicts, strict=True))
    judged = [verdict.outcome for verdict in verdicts if verdict.outcome in _PARTS]
    return Verdict(total, judged[0] if judged else "scored", extracted, "", metrics, costs or None)
