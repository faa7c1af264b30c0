"""Forward KL(teacher || student) on the teacher's top-k logprobs.

With p_i the teacher's probabilities on its top k, q_i the student's, P and Q their sums:

    bucket       sum_i p_i log(p_i / q_i) + (1 - P) log((1 - P) / (1 - Q))
    renormalise  sum_i (p_i / P) log((p_i / P) / (q_i / Q))
    drop         sum_i p_i log(p_i / q_i)

`bucket` is the exact KL after all tokens outside the top k are merged into one outcome, a lower
bound of the full KL (data-processing inequality) and equal to it when k is the vocabulary.
`renormalise` says nothing of the mass outside. `drop` is no divergence (it can be negative) and
pulls the student's sum on the top k towards 1; both are kept to reproduce others' runs.

A student that gives nothing where the teacher gives something is infinitely far: the loss is +inf.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.losses import Tail
from trainers.losses.support import KLSums, Support
from trainers.losses.tail import RESIDUAL_FLOOR, teacher_tail

# Where the student has nothing outside the support, most often because k is the vocabulary, the
# teacher's tail must be above what rounding of its whole distribution explains.
_EMPTY_TAIL_FLOOR = 1e-5


def forward_kl(
    student: Support,
    teacher_ids_NK: Tensor,
    teacher_logprobs_NK: Tensor,
    tail: Tail = "bucket",
    mask_N: Tensor | None = None,
) -> KLSums:
    """Sum the forward KL over N tokens, each already aligned with its prediction.

    Args:
        student: the student on the teacher's ids; gradient flows to its logits and rest.
        teacher_ids_NK: int [N, K]; -1 pads rows with fewer than K entries.
        teacher_logprobs_NK: float [N, K], at temperature 1 over the full vocabulary; -inf is
            probability zero.
        tail: what to do with the mass outside the top k, see the module's text.
        mask_N: bool [N], False leaves a token out of every sum.
    """
    dtype = student.logits_NK.dtype
    teacher_NK = teacher_logprobs_NK.to(dtype)
    valid_NK = (teacher_ids_NK >= 0) & ~torch.isneginf(teacher_NK)
    if mask_N is not None:
        valid_NK = valid_NK & mask_N[:, None]
    teacher_NK = torch.where(valid_NK, teacher_NK, float("-inf"))
    probs_NK = teacher_NK.exp()
    # A token without entries says nothing of the student: it must not become one big bucket.
    known_N = valid_NK.any(dim=1)

    # The student over K + 1 outcomes. Entries with an id are outcomes even where the teacher
    # gives them nothing; padding is none.
    present_NK = teacher_ids_NK >= 0
    logits_NK = torch.where(present_NK, student.logits_NK, float("-inf"))
    outcomes = torch.cat([logits_NK, student.rest_N[:, None]], dim=1)
    student_all = torch.where(known_N[:, None], outcomes, 0.0).log_softmax(dim=1)
    student_NK, student_rest_N = student_all[:, :-1], student_all[:, -1]

    if tail == "renormalise":
        total = torch.where(known_N[:, None], teacher_NK, 0.0).logsumexp(dim=1, keepdim=True)
        renormalised_NK = torch.where(known_N[:, None], logits_NK, 0.0).log_softmax(dim=1)
        loss_N = _divergence(teacher_NK - total, renormalised_NK, valid_NK)
    else:
        loss_N = _divergence(teacher_NK, student_NK, valid_NK)

    residual_N = teacher_tail(teacher_logprobs_NK, valid_NK)
    rest_N = _rest_divergence(residual_N, student_rest_N, known_N)
    with torch.no_grad():
        kl_N = _divergence(teacher_NK, student_NK, valid_NK) + rest_N
        student_mass_N = torch.where(present_NK, student_NK.exp(), 0.0).sum(dim=1)
        zero = torch.zeros((), dtype=dtype, device=probs_NK.device)
        student_mass = torch.where(known_N, student_mass_N, zero).sum()
        entropy = torch.where(known_N, student.entropy_N, zero).sum()
    if tail == "bucket":
        loss_N = loss_N + rest_N
    return KLSums(loss_N.sum(), kl_N.sum(), entropy, probs_NK.sum(), student_mass)


def _divergence(teacher_NK: Tensor, student_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """Return sum over valid entries of p (log p - log q), [N]."""
    # Both logs are replaced before the product: 0 * inf is NaN, in the gradient too.
    log_p = torch.where(valid_NK, teacher_NK, 0.0)
    log_q = torch.where(valid_NK, student_NK, 0.0)
    return (torch.where(valid_NK, log_p.exp(), 0.0) * (log_p - log_q)).sum(dim=1)


def _rest_divergence(residual_N: Tensor, student_rest_N: Tensor, known_N: Tensor) -> Tensor:
    """Return r (log r - log s) for the residuals r of the teacher and s of the student, [N]."""
    empty_N = torch.isneginf(student_rest_N)
    counts_N = known_N & (residual_N > torch.where(empty_N, _EMPTY_TAIL_FLOOR, RESIDUAL_FLOOR))
    safe_N = torch.where(counts_N, residual_N, 1.0)
    log_r_N, r_N = safe_N.log().to(student_rest_N.dtype), safe_N.to(student_rest_N.dtype)
    term_N = r_N * (log_r_N - torch.where(counts_N, student_rest_N, 0.0))
    return torch.where(counts_N, term_N, 0.0)
