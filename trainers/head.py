"""What an output head's logits mean to a loss on a support, and the way back to their gradient.

Dimensions: C tokens of a chunk or of a block of one, V vocabulary, K support entries.
Everything here is elementwise or a sum over a row, and works within the logits' own memory but for
one array beside it. The matrix products are in `trainers.fused`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainers.losses.support import Support, rest_logsumexp, safe_ids

# Stands for -inf among logits: as impossible, but 0 * FLOOR is 0 where 0 * -inf is NaN.
FLOOR = -1e30


class Reduced(NamedTuple):
    """A block of logits after `reduce_logits`.

    Attributes:
        support: what the loss reads; no gradient.
        probs_CV: float, softmax over the tokens outside the support; 0 on it.
        slope_CV: float, derivative of the soft cap; None without one.
    """

    support: Support
    probs_CV: Tensor
    slope_CV: Tensor | None


def reduce_logits(logits_CV: Tensor, ids_CK: Tensor, softcap: float) -> Reduced:
    """Gather the support's logits; reduce the others to a softmax, a logsumexp and an entropy.

    Args:
        logits_CV: float32 or float64 [C, V], scaled, before the soft cap; -inf stands as FLOOR. Its
            memory is overwritten.
        ids_CK: int [C, K], distinct ids of a row; -1 pads.
        softcap: see `s2d_store.numerics.LogitTransform`.
    """
    slope_CV = None
    if softcap:
        tanh_CV = logits_CV.div_(softcap).tanh_()
        slope_CV = 1.0 - tanh_CV.square()
        logits_CV = tanh_CV.mul_(softcap)
    index_CK, present_CK = safe_ids(ids_CK), ids_CK >= 0
    some_C1 = present_CK.any(dim=1, keepdim=True)
    gathered_CK = logits_CV.gather(1, index_CK)
    logits_CV.scatter_(1, index_CK, torch.where(some_C1, FLOOR, gathered_CK))
    top_C = logits_CV.amax(dim=1)
    probs_CV = logits_CV.softmax(dim=1)
    # The softmax's largest entry is exp(0) over its sum: the logsumexp without another pass of exp.
    empty_C = top_C <= FLOOR / 2
    rest_C = (top_C - probs_CV.amax(dim=1).log()).masked_fill_(empty_C, float("-inf"))
    rest_entropy_C = rest_C - logits_CV.mul_(probs_CV).sum(dim=1)
    rest_entropy_C.masked_fill_(empty_C, 0.0)

    gathered_CK.masked_fill_(gathered_CK <= FLOOR / 2, float("-inf"))
    inside_CK = gathered_CK.masked_fill(~present_CK, float("-inf"))
    total_C = torch.logaddexp(rest_logsumexp(inside_CK), rest_C)
    share_C = (rest_C - total_C).exp_()
    entropy_C = torch.special.entr((inside_CK - total_C[:, None]).exp_()).sum(dim=1)
    entropy_C += torch.special.entr(share_C) + share_C * rest_entropy_C
    return Reduced(Support(gathered_CK, rest_C, entropy_C), probs_CV, slope_CV)


def logits_gradient(
    reduced: Reduced, ids_CK: Tensor, grad_CK: Tensor, grad_rest_C: Tensor, out_CV: Tensor
) -> None:
    """Write the gradient of a block's scaled logits.

    Args:
        reduced: of the block; overwritten.
        ids_CK: int [C, K], as given to `reduce_logits`.
        grad_CK: float [C, K], gradient of the support's logits; 0 at padding.
        grad_rest_C: float [C], gradient of the rest's logsumexp.
        out_CV: float [C, V], of any precision.
    """
    index_CK, probs_CV, slope_CV = safe_ids(ids_CK), reduced.probs_CV, reduced.slope_CV
    if slope_CV is not None:
        probs_CV, grad_CK = probs_CV.mul_(slope_CV), grad_CK * slope_CV.gather(1, index_CK)
    empty_C = torch.isneginf(reduced.support.rest_N)
    torch.mul(probs_CV, grad_rest_C.masked_fill(empty_C, 0.0)[:, None], out=out_CV)
    out_CV.scatter_add_(1, index_CK, grad_CK.to(out_CV.dtype))
