"""Reverse KL(student || teacher) on a stored support, for on-policy distillation.

The support is k ids per token: the student's own top k when it sampled (support = policy, with the
teacher's logprobs there), or the teacher's top k (support = own). With q_i the student's
probabilities on it, p_i the teacher's, Q and P their sums:

    bucket       sum_i q_i log(q_i / p_i) + (1 - Q) log((1 - Q) / (1 - P))
    renormalise  sum_i (q_i / Q) log((q_i / Q) / (p_i / P))
    drop         sum_i q_i log(q_i / p_i)

`bucket` is the exact KL after all tokens outside the support are merged into one outcome: a lower
bound of the full KL, equal to it when k is the vocabulary. `drop` rewards a student that moves its
mass off the support (verl issue 5041); it and `renormalise` are kept to reproduce others' runs.

Nothing is clamped on the student's side: a clamp of the loss at zero has no gradient (verl issue
7856). On the teacher's side, log p and log(1 - P) have floors, so that a token which the teacher
gives nothing costs much instead of infinitely much; a floor is a constant, and the gradient through
q stays. Where the student gives the whole support nothing, `renormalise` has nothing to compare:
the token adds 0, as with `drop`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.losses import Tail
from trainers.losses.support import KLSums, Support
from trainers.losses.tail import RESIDUAL_FLOOR, teacher_tail

# Below it a float32 probability says nothing more; -inf would make the loss infinite.
TEACHER_FLOOR = -50.0


def reverse_kl(
    student: Support,
    ids_NK: Tensor,
    teacher_logprobs_NK: Tensor,
    tail: Tail = "bucket",
    mask_N: Tensor | None = None,
) -> KLSums:
    """Sum the reverse KL over N tokens, each already aligned with its prediction.

    Args:
        student: the current student on the support's ids; gradient flows to its logits and rest.
        ids_NK: int [N, K], the support; -1 pads rows with fewer than K entries.
        teacher_logprobs_NK: float [N, K], the teacher's logprobs of those ids, at temperature 1
            over the full vocabulary; -inf counts as TEACHER_FLOOR.
        tail: what to do with the mass outside the support, see the module's text.
        mask_N: bool [N], False leaves a token out of every sum.
    """
    present_NK = ids_NK >= 0
    known_N = present_NK.any(dim=1)
    if mask_N is not None:
        known_N = known_N & mask_N
    present_NK = present_NK & known_N[:, None]
    logits_NK = torch.where(present_NK, student.logits_NK, float("-inf"))
    # A token that does not count gets finite zeros in place of its logits: no NaN in the gradient.
    outcomes = torch.cat([logits_NK, student.rest_N[:, None]], dim=1)
    student_all = torch.where(known_N[:, None], outcomes, 0.0).log_softmax(dim=1)
    student_NK, student_rest_N = student_all[:, :-1], student_all[:, -1]

    teacher_NK = teacher_logprobs_NK.to(student_NK.dtype).clamp_min(TEACHER_FLOOR)
    probs_NK = torch.where(present_NK, teacher_NK.exp(), 0.0)
    residual_N = teacher_tail(teacher_logprobs_NK, present_NK).clamp_min(RESIDUAL_FLOOR)
    rest_N = _expected_log_ratio(student_rest_N, residual_N.log().to(student_NK.dtype), known_N)
    inside_N = _expected_log_ratio(student_NK, teacher_NK, present_NK).sum(dim=1)

    if tail == "bucket":
        loss_N = inside_N + rest_N
    elif tail == "drop":
        loss_N = inside_N
    else:
        given_N1 = (known_N & ~torch.isneginf(logits_NK).all(dim=1))[:, None]
        safe_NK = torch.where(given_N1, logits_NK, 0.0)
        inside_NK = torch.where(present_NK, teacher_NK, float("-inf"))
        total_N1 = torch.where(given_N1, inside_NK, 0.0).logsumexp(dim=1, keepdim=True)
        loss_N = _expected_log_ratio(
            safe_NK.log_softmax(dim=1), teacher_NK - total_N1, present_NK & given_N1
        ).sum(dim=1)
    with torch.no_grad():
        zero = torch.zeros((), dtype=student_NK.dtype, device=student_NK.device)
        student_mass = torch.where(present_NK, student_NK.exp(), zero).sum()
        entropy = torch.where(known_N, student.entropy_N, zero).sum()
        kl = (inside_N + rest_N).sum()
    return KLSums(loss_N.sum(), kl, entropy, probs_NK.sum(), student_mass)


def _expected_log_ratio(log_q: Tensor, log_p: Tensor, valid: Tensor) -> Tensor:
    """Elementwise q (log q - log p) where valid and q > 0, else 0, without NaN in the gradient."""
    valid = valid & ~torch.isneginf(log_q)
    log_q = torch.where(valid, log_q, 0.0)
    ratio = log_q - torch.where(valid, log_p, 0.0)
    return torch.where(valid, log_q.exp() * ratio, 0.0)
