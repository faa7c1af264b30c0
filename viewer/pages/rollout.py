"""One rollout: what was asked and answered, and what policy and teachers thought of each token."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from s2d_store.errors import NotFoundError
from s2d_store.messages import from_stored, text_of
from viewer import signals
from viewer.page import Page
from viewer.pages import topk
from viewer.params import Params
from viewer.snapshots import Record, View

QUERIES = (
    "rollout",
    "rollout_tokens",
    "rollout_verdicts",
    "rollout_siblings",
    "rollout_uses",
    "rollout_prompt_tokens",
    "topk_at",
)
# What the fields of a token are called in the JSON; a list each, position by position.
_FIGURES = (
    "logprob",
    "policy_entropy",
    "policy_tail",
    "scorer_logprob",
    "scorer_entropy",
    "scorer_tail",
    "kl",
)


def load(view: View, params: Params) -> dict[str, Any]:
    """One rollout with its tokens under one scorer.

    Raises:
        NotFoundError: there is no such rollout.
    """
    rollout_id = params.text("rollout_id")
    found = view.asked("rollout", rollout=rollout_id)
    if not found:
        raise NotFoundError(
            f"no rollout {rollout_id!r} in this store", fix="choose one from the page Rollouts"
        )
    rollout = dict(found[0])
    siblings = view.asked(
        "rollout_siblings",
        rollout=rollout_id,
        of_group=rollout["group_id"],
        run=rollout["run_id"],
    )
    by_scorer = _by_scorer(view.asked("rollout_tokens", rollout=rollout_id))
    scorers = [name for name in by_scorer if name]
    scorer = params.choice("scorer", scorers, scorers[0] if scorers else "")
    tokens = [dict(token) for token in by_scorer.get(scorer, [])]
    advantage = advantage_of(siblings, rollout_id)
    signals.with_rollout(tokens, rollout.pop("sampler_logprobs"), advantage)
    usable = signals.known(tokens)
    default = "kl" if scorer else "surprise"
    names = [signal.name for signal in usable]
    chosen = params.choice("signal", names, default if default in names else "".join(names[:1]))
    at = params.integer("at", _worth_a_look(tokens), max(0, len(tokens) - 1))
    prompt, turns = _messages(view, rollout), _turns(rollout.pop("turns"))
    return {
        "rollout": rollout | {"advantage": advantage},
        "prompt": prompt,
        "turns": turns,
        "scorers": scorers,
        "scorer": scorer,
        "signals": [
            {"name": s.name, "title": s.title, "meaning": s.meaning, "full": s.full} for s in usable
        ],
        "signal": chosen,
        "tokens": _columns(tokens, chosen),
        "cumulative_kl": {
            name: signals.cumulative([token["kl"] for token in by_scorer[name]]) for name in scorers
        },
        "at": at,
        "topk": topk.at(view, rollout_id, at) if tokens else None,
        "verdicts": [_verdict(row) for row in view.asked("rollout_verdicts", rollout=rollout_id)],
        "siblings": siblings,
        "uses": view.asked("rollout_uses", rollout=rollout_id),
    }


def advantage_of(siblings: Sequence[Record], rollout_id: str) -> float | None:
    """Reward minus the mean of the group's known rewards; None where it or they are not known."""
    rewards = {row["rollout_id"]: row["reward"] for row in siblings if row["reward"] is not None}
    if rollout_id not in rewards or len(rewards) < 2:
        return None
    return float(rewards[rollout_id] - sum(rewards.values()) / len(rewards))


def _by_scorer(rows: Sequence[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(row["scorer"] or "", []).append(row)
    return groups


def _worth_a_look(tokens: Sequence[Record]) -> int:
    """The position where policy and scorer differ most, or that the policy found least likely."""
    figures = [abs(t["kl"]) if t["kl"] is not None else -(t["logprob"] or 0.0) for t in tokens]
    figures = [f if math.isfinite(f) else 0.0 for f in figures]
    return max(range(len(figures)), key=figures.__getitem__) if figures else 0


def _columns(tokens: Sequence[Record], chosen: str) -> dict[str, list[Any]]:
    """Figures of the tokens as one list each, the shown signal and its shades among them."""
    if not tokens:
        return {"texts": [], "ids": [], "sampled": [], "values": [], "levels": []}
    signal = next(s for s in signals.SIGNALS if s.name == chosen)
    values = [signal.value(token) for token in tokens]
    return {
        "texts": [token["token"] for token in tokens],
        "ids": [token["token_id"] for token in tokens],
        "sampled": [token["sampled"] for token in tokens],
        "values": values,
        "levels": [signals.level(signal, value) for value in values],
        **{name: [token[name] for token in tokens] for name in _FIGURES},
    }


def _messages(view: View, rollout: Record) -> list[dict[str, str]]:
    """The prompt's messages as role and text; of a prompt known by its ids alone, their text."""
    stored = rollout.pop("messages")
    if stored:
        messages = [from_stored(message) for message in stored]
        return [{"role": m["role"], "content": text_of(m)} for m in messages]
    tokens = view.asked("rollout_prompt_tokens", rollout=rollout["rollout_id"])
    return [{"role": "prompt", "content": "".join(t["token"] or "\ufffd" for t in tokens)}]


def _turns(stored: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Where the messages of a response begin: start (a token), length, role."""
    return [
        {"start": turn["start"], "length": turn["length"], "role": turn["role"]}
        for turn in stored or ()
        if turn["start"] is not None
    ]


def _verdict(row: Record) -> Record:
    return row | {"metrics": json.loads(row["metrics"]) if row["metrics"] else None}


PAGE = Page("rollout", "/rollout/{rollout_id}", "", QUERIES, load)
