"""GRPO's clipped objective at tokens, with the advantages that the dataset holds.

    ratio = exp(log policy now - log policy at sampling)
    loss  = - min(ratio A, clip(ratio, 1 - low, 1 + high) A)

(PPO, arXiv 1707.06347; GRPO, arXiv 2402.03300; separate bounds: DAPO, arXiv 2503.14476.) How the
tokens' losses become one number is the `normalisation`:

    grpo     mean over a response's tokens, then over responses
    dapo     mean over all tokens of the update
    dr_grpo  sum over (responses x a constant), so that length is not rewarded (arXiv 2503.20783)

The stored logprobs are the sampler's: the ratio holds the policy's lag and whatever the sampling
engine computes differently from the trainer. With logprobs recomputed by the trainer, from the
weights before the first update, the two part: the ratio is then to the recomputed ones and clipped,
and each token's loss weighs min(recomputed / sampler's, cap), held constant (truncated importance
sampling; verl's rollout correction, TRL's `vllm_importance_sampling_cap`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.estimators import k3, ratio


@dataclass(frozen=True)
class GRPOSums:
    """Sums over tokens, 0-d tensors; the caller divides by its own count. Only `loss` has gradient.

    Attributes:
        loss: the objective, tokens weighted.
        kl: k3 estimate of KL(sampling policy || policy now), in nats.
        clipped: tokens whose gradient the clip cuts.
    """

    loss: Tensor
    kl: Tensor
    clipped: Tensor


def grpo(
    current_N: Tensor,
    sampled_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    mask_N: Tensor | None = None,
) -> GRPOSums:
    """Sum the clipped objective over N sampled tokens.

    Args:
        current_N: float [N], logprobs of the sampled tokens now; gradient flows here.
        sampled_N: float [N], what the ratio is to: logprobs at sampling, as stored, or recomputed.
        advantages_N: float [N], the response's advantage at each of its tokens.
        weights_N: float [N], see `token_weights`.
        clip_low: the ratio's lower bound is 1 - clip_low.
        clip_high: its upper bound is 1 + clip_high.
        mask_N: bool [N], False leaves a token out of every sum.
    """
    keep_N = torch.ones_like(current_N, dtype=torch.bool) if mask_N is None else mask_N
    current_N = torch.where(keep_N, current_N, 0.0)
    sampled_N = torch.where(keep_N, sampled_N.to(current_N.dtype), 0.0)
    advantages_N = torch.where(keep_N, advantages_N.to(current_N.dtype), 0.0)
    ratio_N = ratio(current_N - sampled_N)
    free_N = ratio_N * advantages_N
    bound_N = ratio_N.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages_N
    loss_N = -torch.minimum(free_N, bound_N) * weights_N
    with torch.no_grad():
        kl = k3(sampled_N, current_N).sum()
        clipped = (bound_N < free_N).sum()
    return GRPOSums(loss_N.sum(), kl, clipped)


def truncated_weights(recomputed_N: Tensor, sampled_N: Tensor, cap: float) -> Tensor:
    """min(recomputed / sampler's, cap) of each token, float [N], to multiply `token_weights` by.

    Args:
        recomputed_N: float [N], logprobs by the trainer with the weights before the first update.
        sampled_N: float [N], the sampler's, as stored.
        cap: largest weight.
    """
    return ratio(recomputed_N - sampled_N).clamp_max(cap)


def token_weights(normalisation: str, sequence_ids_N: Tensor) -> Tensor:
    """Weight of each token's loss before the division by `denominator`, float32 [N].

    Args:
        normalisation: grpo, dapo or dr_grpo.
        sequence_ids_N: int64 [N], which whole response each token belongs to.
    """
    if normalisation != "grpo":
        return torch.ones_like(sequence_ids_N, dtype=torch.float32)
    lengths_S = torch.bincount(sequence_ids_N)
    return 1.0 / lengths_S[sequence_ids_N].float()


def denominator(normalisation: str, responses: int, tokens: int, constant: int) -> float:
    """What an update's summed loss is divided by.

    Args:
        normalisation: grpo, dapo or dr_grpo.
        responses: of the update.
        tokens: response tokens of the update.
        constant: dr_grpo's, in tokens.
    """
    sizes = {"grpo": responses, "dapo": tokens, "dr_grpo": responses * constant}
    return float(sizes[normalisation])
