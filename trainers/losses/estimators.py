"""Estimates of KL(policy || other) from the logprobs of sampled tokens alone, elementwise.

With d = log other - log policy at a token that the policy sampled (Schulman, "Approximating KL
divergence", 2020, joschu.net/blog/kl-approx.html):

    k1  -d              unbiased, may be negative
    k2  d^2 / 2         biased, never negative
    k3  e^d - 1 - d     unbiased, never negative, heavy-tailed where other is far above the policy
"""

from __future__ import annotations

from torch import Tensor


def k1(policy: Tensor, other: Tensor) -> Tensor:
    """`log policy - log other`, both float of one shape, in nats."""
    return policy - other


def k2(policy: Tensor, other: Tensor) -> Tensor:
    """Half the squared log ratio."""
    return (other - policy).square() / 2


def k3(policy: Tensor, other: Tensor) -> Tensor:
    """`e^d - 1 - d`; expm1 keeps the digits where the two are close."""
    d = other - policy
    return d.expm1() - d
