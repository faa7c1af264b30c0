"""Cross-entropy of sampled tokens, what supervised fine-tuning minimises."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logprobs_N: Tensor, mask_N: Tensor | None = None) -> Tensor:
    """Sum of -log q over N tokens, 0-d, in nats; the caller divides by its own count.

    Args:
        logprobs_N: float [N], the student's logprobs of the tokens; gradient flows here.
        mask_N: bool [N], False leaves a token out.
    """
    kept_N = logprobs_N if mask_N is None else torch.where(mask_N, logprobs_N, 0.0)
    return -kept_N.sum()
