"""Estimates of KL(policy || other) from the logprobs of sampled tokens alone, elementwise.

With d = log other - log policy at a token that the policy sampled (Schulman, "Approximating KL
divergence", 2020, joschu.net/blog/kl-approx.html):

    k1  -d              unbiased, may be negative
    k2  d^2 / 2         biased, never negative
    k3  e^d - 1 - d     unbiased, never negative, heavy-tailed where other is far above the policy

Ratios of probabilities are computed as `ratio` says: never infinite.
"""

from __future__ import annotations

from torch import Tensor

# float32 overflows at 88.7. A ratio of e^20 is far beyond every clip, and its square is finite.
LOG_RATIO_LIMIT = 20.0
# Stands for the log of a probability that is 0: finite, and its exponential is 0.
_LOG_ZERO = -1e4


def ratio(log_ratio: Tensor) -> Tensor:
    """e^x, at most e^20; its slope is its value there too, so that the gradient keeps its sign."""
    finite = log_ratio.clamp(_LOG_ZERO, -_LOG_ZERO)
    value = finite.detach().clamp_max(LOG_RATIO_LIMIT).exp()
    return value * (1.0 + (finite - finite.detach()))


def k1(policy: Tensor, other: Tensor) -> Tensor:
    """`log policy - log other`, both float of one shape, in nats."""
    return policy - other


def k2(policy: Tensor, other: Tensor) -> Tensor:
    """Half the squared log ratio."""
    return (other - policy).square() / 2


def k3(policy: Tensor, other: Tensor) -> Tensor:
    """`e^d - 1 - d`; expm1 keeps the digits where the two are close."""
    d = (other - policy).clamp_max(-_LOG_ZERO)
    finite = d.clamp_min(_LOG_ZERO)
    value = finite.detach().clamp_max(LOG_RATIO_LIMIT).expm1()
    return value + (value + 1.0) * (finite - finite.detach()) - d
