"""On-policy distillation on sampled tokens: a policy gradient, the teacher's logprob its reward.

The gradient of KL(student || teacher) over the student's own samples is the policy gradient with
advantage A = log teacher - log student at each sampled token, held constant. Where the rollout's
policy lags behind the student, tokens weigh min(ratio, cap) with ratio = student / sampling policy
(truncated importance sampling), also held constant.

    loss = - w A exp(log q - stop(log q)),  w = min(ratio, cap)

so the loss's value is the weighted k1 estimate of the KL, and its gradient - w A grad log q.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.estimators import k1, ratio


@dataclass(frozen=True)
class SampledKLSums:
    """Sums over tokens, 0-d tensors; the caller divides by its own count. Only `loss` has gradient.

    Attributes:
        loss: the objective, the weighted k1 estimate of KL(student || teacher).
        kl: the same estimate without weights, in nats; a mean of few tokens may be negative.
        clipped: tokens whose ratio was above the cap.
    """

    loss: Tensor
    kl: Tensor
    clipped: Tensor


def sampled_kl(
    student_N: Tensor,
    policy_N: Tensor,
    teacher_N: Tensor,
    ratio_cap: float,
    mask_N: Tensor | None = None,
) -> SampledKLSums:
    """Sum the surrogate over N sampled tokens.

    Args:
        student_N: float [N], the student's logprobs of the sampled tokens; gradient flows here.
        policy_N: float [N], the sampling policy's, as stored.
        teacher_N: float [N], the teacher's, as stored; finite.
        ratio_cap: largest importance weight.
        mask_N: bool [N], False leaves a token out of every sum.
    """
    keep_N = torch.ones_like(student_N, dtype=torch.bool) if mask_N is None else mask_N
    student_N = torch.where(keep_N, student_N, 0.0)
    policy_N, teacher_N = (
        torch.where(keep_N, stored.to(student_N.dtype), 0.0) for stored in (policy_N, teacher_N)
    )
    fixed_N = student_N.detach()
    ratio_N = ratio(fixed_N - policy_N)
    estimate_N = k1(fixed_N, teacher_N)
    weighted_N = ratio_N.clamp_max(ratio_cap) * estimate_N
    loss_N = weighted_N * (student_N - fixed_N).exp()
    return SampledKLSums(loss_N.sum(), estimate_N.sum(), (ratio_N > ratio_cap).sum())
