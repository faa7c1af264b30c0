"""What a token can be shaded by: one figure per token, and how strong a shade it gets.

Shades are levels from -9 to 9 on a fixed scale per signal, so that two rollouts can be compared by
eye: above 0 warm, below 0 cool, 0 none. They grow with the square root, so that small figures show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Token = Mapping[str, Any]
LEVELS = 9


@dataclass(frozen=True)
class Signal:
    """A figure of a token.

    Attributes:
        name: its key in URLs and JSON.
        title: as a person reads it.
        meaning: one sentence.
        full: the figure, in its unit, that has the strongest shade.
        value: the figure of a token; None where it is not known.
        by_scorer: whether it needs another policy's scores.
    """

    name: str
    title: str
    meaning: str
    full: float
    value: Callable[[Token], float | None]
    by_scorer: bool = False


def _of(name: str, sign: float = 1.0) -> Callable[[Token], float | None]:
    return lambda token: None if token[name] is None else sign * float(token[name])


def _ratio(token: Token) -> float | None:
    return None if token["kl"] is None else math.exp(min(50.0, -token["kl"]))


SIGNALS = (
    Signal(
        "kl",
        "KL to the scorer",
        "log p(policy) - log p(scorer) of the sampled token, nats; the mean estimates the KL",
        3.0,
        _of("kl"),
        True,
    ),
    Signal(
        "surprise",
        "-log p",
        "how unlikely the policy thought the token, nats, at temperature 1",
        5.0,
        _of("logprob", -1.0),
    ),
    Signal(
        "entropy",
        "entropy",
        "of the policy's stored top-k, nats",
        2.5,
        _of("policy_entropy"),
    ),
    Signal(
        "tail",
        "tail mass",
        "the policy's probability outside the stored top-k",
        0.5,
        _of("policy_tail"),
    ),
    Signal(
        "scorer_surprise",
        "-log p of the scorer",
        "how unlikely the scorer thought the token, nats",
        5.0,
        _of("scorer_logprob", -1.0),
        True,
    ),
    Signal(
        "scorer_entropy",
        "entropy of the scorer",
        "of its stored top-k, nats",
        2.5,
        _of("scorer_entropy"),
        True,
    ),
    Signal(
        "scorer_tail",
        "tail mass of the scorer",
        "its probability outside the stored top-k",
        0.5,
        _of("scorer_tail"),
        True,
    ),
    Signal(
        "ratio",
        "importance ratio, scorer : policy",
        "p(scorer) / p(policy) of the sampled token; 1 has no shade, e^2 the strongest",
        2.0,
        _ratio,
        True,
    ),
    Signal(
        "sampler_ratio",
        "importance ratio, policy : sampler",
        "p(policy, temperature 1) / p(as it was drawn); where the sampler's is stored",
        2.0,
        _of("sampler_ratio"),
    ),
    Signal(
        "advantage",
        "advantage",
        "reward minus the group's mean, on the tokens that the policy sampled",
        1.0,
        _of("advantage"),
    ),
    Signal(
        "mask",
        "mask",
        "1 where the policy sampled the token; 0 (shaded) for results of tools, not trained on",
        1.0,
        lambda token: float(token["sampled"]),
    ),
)
_RATIOS = ("ratio", "sampler_ratio")


def known(tokens: Sequence[Token]) -> list[Signal]:
    """The signals that some token has a figure of."""
    return [s for s in SIGNALS if any(s.value(token) is not None for token in tokens)]


def level(signal: Signal, value: float | None) -> int:
    """The shade of a figure, -9 .. 9.

    Example:
        >>> kl, ratio = SIGNALS[0], SIGNALS[7]
        >>> level(kl, 3.0), level(kl, -1.5), level(kl, None), level(ratio, 1.0)
        (9, -6, 0, 0)
    """
    if value is None or not math.isfinite(value):
        return 0
    if signal.name == "mask":
        return 0 if value else -LEVELS
    if signal.name in _RATIOS:
        value = math.log(value) if value > 0 else -signal.full
    strength = math.sqrt(min(1.0, abs(value) / signal.full))
    return int(math.copysign(math.floor(strength * LEVELS + 0.5), value))


def with_rollout(
    tokens: Sequence[dict[str, Any]],
    sampler_logprobs: Sequence[float | None] | None,
    advantage: float | None,
) -> None:
    """Add to each token what is known of its rollout alone: advantage and the sampler's ratio."""
    for token in tokens:
        position, logprob = token["position"], token["logprob"]
        drawn = sampler_logprobs[position] if sampler_logprobs else None
        token["advantage"] = advantage if token["sampled"] else None
        both = drawn is not None and logprob is not None
        token["sampler_ratio"] = math.exp(min(50.0, logprob - drawn)) if both else None


def cumulative(values: Sequence[float | None]) -> list[float]:
    """Running sums; an unknown figure adds nothing."""
    total, sums = 0.0, []
    for value in values:
        total += value or 0.0
        sums.append(total)
    return sums
