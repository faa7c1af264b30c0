"""What a token is shaded by: a number from 0 to 1 for each of a rollout's tokens.

A signal's scale is the value that is shaded in full; it is the same for every rollout, so that two
of them can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from s2d_store.errors import InputError, did_you_mean


class Signal(NamedTuple):
    """A column of view `tokens`, the value that is shaded in full, and what it is."""

    column: str
    full: float
    doc: str


SIGNALS: Mapping[str, Signal] = {
    "kl": Signal("kl", 2.0, "logprob - scorer's logprob, nats; either sign"),
    "logprob": Signal("logprob", -5.0, "the policy's logprob, nats"),
    "scorer": Signal("scorer_logprob", -5.0, "the scorer's logprob, nats"),
    "entropy": Signal("policy_entropy", 2.0, "of the policy's stored top-k, nats"),
    "tail": Signal("policy_tail", 0.5, "the policy's probability that is not stored"),
}


def find(name: str) -> Signal:
    """A signal by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in SIGNALS:
        raise InputError(
            f"signal {name!r} is unknown{did_you_mean(name, SIGNALS)}",
            "signals: " + ", ".join(SIGNALS),
        )
    return SIGNALS[name]


def default(tokens: Sequence[Mapping[str, Any]]) -> str:
    """What tells most of these tokens: KL where a scorer saw them, else the logprob."""
    return "kl" if any(row["kl"] is not None for row in tokens) else "logprob"


def strength(signal: Signal, row: Mapping[str, Any]) -> float:
    """How strongly a token is shaded, 0 to 1; 0 where its value is not known."""
    value = row[signal.column]
    return 0.0 if value is None else min(1.0, abs(value / signal.full))
