from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from s2d_store.numerics import LogitTransform
from tests.support.dense_objectives import forward_kl_dense
from trainers.losses import Tail
from trainers.losses.tail import teacher_tail

N, V, K = 6, 23, 4
TAILS: tuple[Tail, ...] = get_args(Tail)


def teacher(k: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Top-k of a random distribution: ids int32 [N, k], logprobs [N, k] descending."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(N, V, generator=generator, dtype=torch.float64)
    logprobs, ids = logits.log_softmax(dim=1).topk(k, dim=1)
    return ids.int(), logprobs.to(dtype)


def student_logits(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(N, V, generator=generator, dtype=torch.float64)


def reference(logits: Tensor, ids: Tensor, logprobs: Tensor, tail: Tail) -> float:
    """The formulas of the module's text, one token at a time in Python floats."""
    total = 0.0
    for row in range(len(logits)):
        q_all = logits[row].softmax(dim=0).tolist()
        pairs = [
            (math.exp(lp), q_all[i])
            for i, lp in zip(ids[row].tolist(), logprobs[row].tolist(), strict=True)
            if i >= 0
        ]
        if not any(p > 0 for p, _ in pairs):
            continue
        p_sum, q_sum = sum(p for p, _ in pairs), sum(q for _, q in pairs)
        if tail == "renormalise":
            pairs = [(p / p_sum, q / q_sum) for p, q in pairs]
        total += sum(p * math.log(p / q) for p, q in pairs if p > 0)
        if tail == "bucket" and 1 - p_sum > 1e-6:
            total += (1 - p_sum) * math.log((1 - p_sum) / (1 - q_sum))
    return total


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 4, V - 1])
def test_value_is_the_dense_reference(tail: Tail, k: int) -> None:
    ids, logprobs = teacher(k)
    logits = student_logits()
    loss = forward_kl_dense(logits, ids, logprobs, tail).loss
    assert loss.item() == pytest.approx(reference(logits, ids, logprobs, tail), rel=1e-9)


@pytest.mark.parametrize("tail", TAILS)
def test_whole_vocabulary_is_the_dense_kl(tail: Tail) -> None:
    ids, logprobs = teacher(V)
    logits = student_logits()
    log_p = torch.zeros(N, V, dtype=torch.float64).scatter(1, ids.long(), logprobs)
    dense = (log_p.exp() * (log_p - logits.log_softmax(dim=1))).sum().item()
    for dtype in (torch.float64, torch.float32):
        loss = forward_kl_dense(logits.to(dtype), ids, logprobs.to(dtype), tail).loss
        assert loss.item() / N == pytest.approx(dense / N, abs=1e-6)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 4, V])
def test_gradient(tail: Tail, k: int) -> None:
    ids, logprobs = teacher(k)
    ids[2, k // 2 :] = -1
    logprobs[2, k // 2 :] = -torch.inf
    logits = student_logits().requires_grad_()
    if tail == "renormalise" and k == 1:
        forward_kl_dense(logits, ids, logprobs, tail).loss.backward()
        assert logits.grad is not None and logits.grad.abs().max() < 1e-12
    else:
        assert torch.autograd.gradcheck(
            lambda x: forward_kl_dense(x, ids, logprobs, tail).loss, (logits,)
        )


def test_gradient_of_the_bucket_is_student_minus_teacher_within_the_top_k() -> None:
    ids, logprobs = teacher(K)
    logits = student_logits().requires_grad_()
    forward_kl_dense(logits, ids, logprobs).loss.backward()
    assert logits.grad is not None
    expected = logits.detach().softmax(dim=1).gather(1, ids.long()) - logprobs.exp()
    torch.testing.assert_close(logits.grad.gather(1, ids.long()), expected)
    torch.testing.assert_close(logits.grad.sum(dim=1), torch.zeros(N, dtype=torch.float64))


@pytest.mark.parametrize("tail", TAILS)
def test_zero_and_stationary_at_equality(tail: Tail) -> None:
    logits = student_logits(seed=3).requires_grad_()
    logprobs, ids = logits.detach().log_softmax(dim=1).topk(K, dim=1)
    result = forward_kl_dense(logits, ids.int(), logprobs, tail)
    assert abs(result.loss.item()) < 1e-9
    result.loss.backward()
    assert logits.grad is not None
    # `drop` is not stationary there: it pulls the top k's mass towards 1.
    assert (logits.grad.abs().max() < 1e-9) == (tail != "drop")


@pytest.mark.parametrize("tail", TAILS)
def test_masked_tokens_change_neither_value_nor_gradient(tail: Tail) -> None:
    ids, logprobs = teacher(K)
    mask = torch.tensor([True, False, True, True, False, True])
    logits = student_logits().requires_grad_()
    result = forward_kl_dense(logits, ids, logprobs, tail, mask)
    result.loss.backward()
    kept = forward_kl_dense(logits.detach()[mask], ids[mask], logprobs[mask], tail)
    for name in ("loss", "kl", "entropy", "teacher_mass", "student_mass"):
        torch.testing.assert_close(getattr(result, name), getattr(kept, name))
    assert logits.grad is not None and (logits.grad[~mask] == 0).all()
    spoiled = logits.detach().clone()
    spoiled[~mask] = torch.nan
    again = forward_kl_dense(spoiled, ids, logprobs, tail, mask)
    torch.testing.assert_close(again.loss, kept.loss)


@pytest.mark.parametrize("tail", TAILS)
def test_padding_is_as_if_k_were_smaller(tail: Tail) -> None:
    ids, logprobs = teacher(3)
    pad = torch.full((N, 2), -1, dtype=torch.int32)
    logits = student_logits()
    # Whatever logprob stands beside a padding id, it counts for nothing.
    for filler in (-torch.inf, 0.0):
        padded = torch.cat([logprobs, torch.full((N, 2), filler, dtype=torch.float64)], dim=1)
        result = forward_kl_dense(logits, torch.cat([ids, pad], dim=1), padded, tail)
        plain = forward_kl_dense(logits, ids, logprobs, tail)
        for name in ("loss", "kl", "teacher_mass", "student_mass"):
            torch.testing.assert_close(getattr(result, name), getattr(plain, name))


@pytest.mark.parametrize("tail", TAILS)
def test_an_entry_of_probability_zero_keeps_its_id_in_the_support(tail: Tail) -> None:
    ids, logprobs = teacher(K)
    logprobs[:, -1] = -torch.inf
    logits = student_logits().requires_grad_()
    loss = forward_kl_dense(logits, ids, logprobs, tail).loss
    assert loss.item() == pytest.approx(reference(logits, ids, logprobs, tail), rel=1e-9)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("tail", TAILS)
def test_a_token_without_entries_counts_for_nothing(tail: Tail) -> None:
    ids, logprobs = teacher(K)
    ids[1], logprobs[1] = -1, -torch.inf
    logits = student_logits().requires_grad_()
    result = forward_kl_dense(logits, ids, logprobs, tail)
    others = torch.arange(N) != 1
    kept = forward_kl_dense(logits.detach()[others], ids[others], logprobs[others], tail)
    torch.testing.assert_close(result.loss, kept.loss)
    result.loss.backward()
    assert logits.grad is not None and (logits.grad[1] == 0).all()


@pytest.mark.parametrize("tail", TAILS)
def test_student_logits_of_minus_infinity_outside_the_support(tail: Tail) -> None:
    """The teacher gives something where the student gives nothing: infinite, never negative."""
    ids, logprobs = teacher(K)
    logits = student_logits()
    outside = torch.ones(N, V, dtype=torch.bool).scatter(1, ids.long(), False)
    logits[outside] = -torch.inf
    logits.requires_grad_()
    result = forward_kl_dense(logits, ids, logprobs, tail)
    result.loss.backward()
    assert result.kl.item() == math.inf and result.entropy.isfinite()
    assert result.loss.isfinite() == (tail != "bucket") and result.loss > -math.inf
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_nothing_outside_a_support_that_is_the_vocabulary() -> None:
    """What rounding leaves of the teacher's distribution is no mass that the student lacks."""
    for dtype in (torch.float64, torch.float32):
        ids, logprobs = teacher(V, dtype=dtype)
        result = forward_kl_dense(student_logits().to(dtype), ids, logprobs - 3e-6)
        assert result.kl.isfinite() and result.loss.isfinite()


def test_the_teachers_tail_keeps_its_digits_in_float32() -> None:
    """A tail of 1e-5 outside of 16 entries: summed in float32, its log is off by about 1e-3."""
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(200, 16, generator=generator, dtype=torch.float64)
    inside = (1 - 1e-5) * inside / inside.sum(dim=1, keepdim=True)
    logprobs, present = inside.log().float(), torch.ones(200, 16, dtype=torch.bool)
    exact = torch.tensor([1 - math.fsum(map(math.exp, row)) for row in logprobs.tolist()])
    found = teacher_tail(logprobs, present)
    assert (found.log() - exact.log()).abs().max() < 1e-6
    single = 1.0 - logprobs.exp().sum(dim=1)
    assert (single.log() - exact.log()).abs().max() > 1e-3


def test_a_sure_student_still_has_a_tail_in_float32() -> None:
    """1 - Q would be 0 here; the tail's term is r log(r / s) with s = exp(-30)."""
    logits = torch.full((1, V), -30.0 - math.log(V - 1))
    logits[0, 0] = 0.0
    logits.requires_grad_()
    ids, logprobs = torch.tensor([[0]]), torch.tensor([[math.log(0.9)]])
    loss = forward_kl_dense(logits, ids, logprobs).loss
    assert loss.item() == pytest.approx(0.9 * math.log(0.9) + 0.1 * (math.log(0.1) + 30), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(0.1, rel=1e-4)


def test_sums_report_masses_and_entropy() -> None:
    ids, logprobs = teacher(K)
    logits = student_logits()
    result = forward_kl_dense(logits, ids, logprobs, "drop")
    probs = logits.softmax(dim=1)
    torch.testing.assert_close(result.teacher_mass, logprobs.exp().sum())
    torch.testing.assert_close(result.student_mass, probs.gather(1, ids.long()).sum())
    torch.testing.assert_close(result.entropy, -(probs * probs.log()).sum())
    torch.testing.assert_close(result.kl, forward_kl_dense(logits, ids, logprobs, "bucket").loss)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    ids, logprobs = teacher(K, dtype=torch.float32)
    logits = student_logits().bfloat16()
    loss = forward_kl_dense(logits, ids, logprobs).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        reference(logits.double(), ids, logprobs, "bucket"), rel=1e-5
    )


def test_transform_reads_the_names_models_use() -> None:
    class Config:
        final_logit_softcapping = 30.0
        logits_scaling = 4.0
        logit_scale = 2.0

    assert LogitTransform.from_config(Config()) == LogitTransform(0.5, 30.0)
    assert LogitTransform.from_config(object()) == LogitTransform()
