"""A student's distribution on a given top-k support: k logits and the logsumexp of all the rest.

Dimensions: N tokens, K support entries, V vocabulary.
The rest is summed over the other V - K logits, never as 1 - (sum over the k): the difference
would lose every digit where a model is sure of itself, which is where distillation trains most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Support(NamedTuple):
    """What a loss on a support needs from the student.

    Attributes:
        logits_NK: float, logits at the support's ids; where the id is padding (-1) they are another
            entry's, for the loss to mask.
        rest_N: float, logsumexp of the logits outside the support; -inf if nothing is outside.
        entropy_N: float, entropy of the full distribution in nats; carries no gradient.
    """

    logits_NK: Tensor
    rest_N: Tensor
    entropy_N: Tensor


@dataclass(frozen=True)
class KLSums:
    """Sums over tokens, 0-d tensors; the caller divides by its own count. Only `loss` has gradient.

    Attributes:
        loss: the objective.
        kl: the bucket form, whatever the objective's tail, in nats.
        entropy: the student's full entropy, in nats.
        teacher_mass: the teacher's probability on the support.
        student_mass: the student's probability on the support.
    """

    loss: Tensor
    kl: Tensor
    entropy: Tensor
    teacher_mass: Tensor
    student_mass: Tensor


def sampled_logprobs(support: Support) -> Tensor:
    """Logprob of each row's one entry, float [N], from a support of K = 1.

    The log of the sigmoid of its odds: near probability 1 no digit is lost, where a log-softmax
    subtracts two equal numbers.
    """
    return torch.nn.functional.logsigmoid(support.logits_NK[:, 0] - support.rest_N)


def safe_ids(ids_NK: Tensor) -> Tensor:
    """Replace padding ids (-1) by an id of the same row, int64 [N, K], so that they can index.

    A repeated id leaves the set of a row's ids as it was. A row of padding alone gets 0.
    """
    first = ids_NK.amax(dim=1, keepdim=True)
    return torch.where(ids_NK >= 0, ids_NK, first).clamp_min(0).long()


def support_mask(ids_NK: Tensor, vocab_size: int) -> Tensor:
    """True at each row's support, bool [N, V]; rows of padding alone have no True."""
    mask_NV = torch.zeros(len(ids_NK), vocab_size, dtype=torch.bool, device=ids_NK.device)
    any_N1 = (ids_NK >= 0).any(dim=1, keepdim=True)
    return mask_NV.scatter_(1, safe_ids(ids_NK), any_N1.expand_as(ids_NK))


def gather_support(logits_NV: Tensor, ids_NK: Tensor) -> Support:
    """Reduce dense logits to a support; differentiable by autograd.

    Args:
        logits_NV: float [N, V]; -inf is allowed.
        ids_NK: int [N, K], distinct ids of a row's support; -1 pads.

    Returns:
        Support, in float32 (float64 for float64 logits).
    """
    logits_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    with torch.no_grad():
        entropy_N = entropy(logits_NV)
    inside_NV = support_mask(ids_NK, logits_NV.shape[1])
    return Support(
        logits_NK=logits_NV.gather(1, safe_ids(ids_NK)),
        rest_N=rest_logsumexp(logits_NV.masked_fill(inside_NV, float("-inf"))),
        entropy_N=entropy_N,
    )


def rest_logsumexp(masked_NV: Tensor) -> Tensor:
    """Logsumexp over a row, with a gradient of zero (not NaN) for rows that are all -inf."""
    empty_N1 = torch.isneginf(masked_NV).all(dim=1, keepdim=True)
    summed = torch.where(empty_N1, 0.0, masked_NV).logsumexp(dim=1)
    return torch.where(empty_N1.squeeze(1), float("-inf"), summed)


def entropy(logits_NV: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats, [N]; logits of -inf count as probability zero."""
    logsumexp_N = logits_NV.logsumexp(dim=1)
    probs_NV = (logits_NV - logsumexp_N[:, None]).exp_()
    finite_NV = logits_NV.clamp_min(torch.finfo(logits_NV.dtype).min)
    expected_N: Tensor = torch.linalg.vecdot(probs_NV, finite_NV)
    return logsumexp_N - expected_N
