"""The teacher's mass outside a stored support."""

from __future__ import annotations

import torch
from torch import Tensor

# What is stored is rounded at about this size, however it is summed: a smaller tail is noise.
RESIDUAL_FLOOR = 1e-6


def teacher_tail(logprobs_NK: Tensor, present_NK: Tensor) -> Tensor:
    """1 - (sum of the probabilities), float [N]; rounding may make it slightly negative.

    Summed in float64: in float32 a tail of 1e-5 would keep two digits, of which the loss takes the
    logarithm.

    Args:
        logprobs_NK: float [N, K], in nats; -inf is probability zero.
        present_NK: bool [N, K], False leaves an entry out.

    Returns:
        float64, or the logprobs' own type on a device without float64.
    """
    exact = logprobs_NK.dtype if logprobs_NK.device.type == "mps" else torch.float64
    return 1.0 - torch.where(present_NK, logprobs_NK.to(exact).exp(), 0.0).sum(dim=1)
