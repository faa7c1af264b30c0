"""A KL penalty to a reference policy on sampled tokens, beside a policy gradient.

With p the policy now, r the reference, and w = p / (the policy that sampled), the gradient of
KL(p || r) over samples of any policy is that of sum w log(p / r):

    grad KL(p || r) = E[w (log p - log r) grad log p]

`k1`, `k2` and `k3` differ in the value that is reported (see `trainers.losses.estimators`), each
weighted by w; the gradient of all three is this one, without bias. (For k3 it is what
differentiating w k3 gives, as in DeepSeek-V3.2, arXiv 2512.02556; for k1 the same without a term of
mean 0; for k2 what k2 itself gives, weighted.)

`k3_direct` is k3 without w, differentiated as it stands: what GRPO (arXiv 2402.03300), TRL and verl
(`low_var_kl`) do by default. On the policy's own samples its gradient is in expectation that of
KL(r || p), the other direction; kept to reproduce others' runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses import KLEstimator
from trainers.losses.estimators import k1, k2, k3, ratio


@dataclass(frozen=True)
class ReferenceKLSums:
    """Sums over tokens, 0-d tensors; the caller divides by its own count. Only `loss` has gradient.

    Attributes:
        loss: the penalty before its coefficient, tokens weighted.
        kl: the estimate of KL(policy || reference), in nats.
    """

    loss: Tensor
    kl: Tensor


def reference_kl(
    current_N: Tensor,
    sampled_N: Tensor,
    reference_N: Tensor,
    weights_N: Tensor,
    estimator: KLEstimator = "k3",
    corrections_N: Tensor | None = None,
    mask_N: Tensor | None = None,
) -> ReferenceKLSums:
    """Sum the penalty over N sampled tokens.

    Args:
        current_N: float [N], logprobs of the sampled tokens now; gradient flows here.
        sampled_N: float [N], the sampling policy's.
        reference_N: float [N], the reference's.
        weights_N: float [N], what each token's loss counts, see `trainers.losses.grpo`.
        estimator: see the module's text.
        corrections_N: float [N], factors on w, as `trainers.losses.grpo.truncated_weights` where
            `sampled_N` was recomputed; None for 1.
        mask_N: bool [N], False leaves a token out of every sum.
    """
    keep_N = torch.ones_like(current_N, dtype=torch.bool) if mask_N is None else mask_N
    current_N = torch.where(keep_N, current_N, 0.0)
    sampled_N, reference_N = (
        torch.where(keep_N, stored.to(current_N.dtype), 0.0) for stored in (sampled_N, reference_N)
    )
    if estimator == "k3_direct":
        kl_N = k3(current_N, reference_N)
    else:
        fixed_N = current_N.detach()
        importance_N = ratio(fixed_N - sampled_N)
        if corrections_N is not None:
            importance_N = importance_N * torch.where(keep_N, corrections_N, 0.0)
        value_N = _VALUES[estimator](fixed_N, reference_N) * importance_N
        slope_N = k1(fixed_N, reference_N) * importance_N
        kl_N = value_N + slope_N * (current_N - fixed_N)
    return ReferenceKLSums((kl_N * weights_N).sum(), kl_N.detach().sum())


_VALUES = {"k1": k1, "k2": k2, "k3": k3}
