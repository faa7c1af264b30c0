"""Reverse KL on a support, against the formulas in Python floats and autograd on dense logits."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from tests.support.dense_objectives import reverse_kl_dense
from trainers.losses import Tail
from trainers.losses.reverse_kl import TEACHER_FLOOR

N, V, K = 6, 23, 4
TAILS: tuple[Tail, ...] = get_args(Tail)


def logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(N, V, generator=generator, dtype=torch.float64)


def stored(k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """k random distinct ids per token, int32 [N, k], and the teacher's logprobs there."""
    generator = torch.Generator().manual_seed(100 + seed)
    ids = torch.rand(N, V, generator=generator).argsort(dim=1)[:, :k]
    return ids.int(), logits(seed).log_softmax(dim=1).gather(1, ids)


def reference(student: Tensor, ids: Tensor, logprobs: Tensor, tail: Tail) -> float:
    """The formulas of the module's text, one token at a time."""
    total = 0.0
    for row in range(len(student)):
        q_all = student[row].softmax(dim=0).tolist()
        pairs = [
            (q_all[i], math.exp(max(lp, TEACHER_FLOOR)))
            for i, lp in zip(ids[row].tolist(), logprobs[row].tolist(), strict=True)
            if i >= 0
        ]
        if not pairs:
            continue
        q_sum, p_sum = sum(q for q, _ in pairs), sum(p for _, p in pairs)
        if tail == "renormalise":
            pairs = [(q / q_sum, p / p_sum) for q, p in pairs]
        total += sum(q * math.log(q / p) for q, p in pairs)
        if tail == "bucket" and 1 - q_sum > 1e-12:
            total += (1 - q_sum) * math.log((1 - q_sum) / max(1 - p_sum, 1e-6))
    return total


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, K, V - 1, V])
def test_value_is_the_reference(tail: Tail, k: int) -> None:
    ids, logprobs = stored(k)
    found = reverse_kl_dense(logits(1), ids, logprobs, tail)
    assert found.loss.item() == pytest.approx(reference(logits(1), ids, logprobs, tail), abs=1e-9)
    assert found.kl.item() == pytest.approx(reference(logits(1), ids, logprobs, "bucket"), abs=1e-9)
    assert found.teacher_mass.item() == pytest.approx(logprobs.exp().sum().item())
    expected = logits(1).softmax(dim=1).gather(1, ids.long()).sum().item()
    assert found.student_mass.item() == pytest.approx(expected)


@pytest.mark.parametrize("tail", TAILS)
def test_whole_vocabulary_is_the_dense_kl_and_its_gradient(tail: Tail) -> None:
    ids, logprobs = stored(V)
    ours, theirs = logits(1).requires_grad_(), logits(1).requires_grad_()
    loss = reverse_kl_dense(ours, ids, logprobs, tail).loss
    log_q = theirs.log_softmax(dim=1)
    dense = (log_q.exp() * (log_q - logits(0).log_softmax(dim=1))).sum()
    assert loss.item() / N == pytest.approx(dense.item() / N, abs=1e-6)
    loss.backward()
    dense.backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-9)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [2, K, V])
def test_gradient_is_that_of_finite_differences(tail: Tail, k: int) -> None:
    ids, logprobs = stored(k)
    ids[2, 1:] = -1
    logprobs[1, 0] = -torch.inf
    assert torch.autograd.gradcheck(
        lambda x: reverse_kl_dense(x, ids, logprobs, tail).loss, logits(1).requires_grad_()
    )


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [K, V])
def test_equal_distributions_cost_nothing(tail: Tail, k: int) -> None:
    ids, logprobs = stored(k)
    student = logits(0).requires_grad_()
    found = reverse_kl_dense(student, ids, logprobs, tail)
    found.loss.backward()
    assert found.kl.item() == pytest.approx(0, abs=1e-9)
    if tail != "drop" or k == V:
        assert found.loss.item() == pytest.approx(0, abs=1e-9)
        assert student.grad.abs().max().item() < 1e-9
    else:
        # What makes it unfit: even at equality it pulls the student.
        assert student.grad.abs().max().item() > 1e-3


def test_without_the_tail_the_student_leaves_the_support() -> None:
    ids, logprobs = stored(K)
    mass = {}
    for tail in ("bucket", "drop"):
        student = logits(0).requires_grad_()
        for _ in range(200):
            (gradient,) = torch.autograd.grad(
                reverse_kl_dense(student, ids, logprobs, tail).loss, student
            )
            student = (student - gradient).detach().requires_grad_()
        mass[tail] = reverse_kl_dense(student, ids, logprobs).student_mass.item()
    assert mass["bucket"] == pytest.approx(logprobs.exp().sum().item(), rel=1e-6)
    assert mass["drop"] < 0.7 * mass["bucket"]


@pytest.mark.parametrize("tail", TAILS)
def test_a_masked_or_empty_token_says_nothing(tail: Tail) -> None:
    ids, logprobs = stored(K)
    alone = reverse_kl_dense(logits(1)[:4], ids[:4], logprobs[:4], tail)
    mask = torch.tensor([True] * 4 + [False] * 2)
    broken = logprobs.clone()
    broken[4:] = torch.nan
    ids_without = ids.clone()
    ids_without[4:] = -1
    student = logits(1)
    student[4:] = torch.inf
    for found, leaf in (
        (reverse_kl_dense(x := student.clone().requires_grad_(), ids, broken, tail, mask), x),
        (reverse_kl_dense(y := logits(1).requires_grad_(), ids_without, logprobs, tail), y),
    ):
        for name in ("loss", "kl", "teacher_mass", "student_mass", "entropy"):
            assert getattr(found, name).item() == pytest.approx(getattr(alone, name).item())
        found.loss.backward()
        assert leaf.grad[4:].nan_to_num(9.0).abs().max() in (0.0, 9.0)
        assert leaf.grad[:4].isfinite().all()


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(tail: Tail, dtype: torch.dtype) -> None:
    ids = torch.tensor([[3, 1, -1], [0, 2, 4], [5, 6, 7]], dtype=torch.int32)
    logprobs = torch.tensor([[0.0, -torch.inf, -torch.inf], [-90.0, -1e-8, -40.0], [-9.0] * 3])
    student = torch.zeros(3, 8, dtype=dtype)
    student[0, 1] = 200.0  # sure of what the teacher excludes
    student[1, 3] = -torch.inf
    student[2, 0] = 200.0  # nothing left on the support
    student.requires_grad_()
    found = reverse_kl_dense(student, ids, logprobs.to(dtype), tail)
    found.loss.backward()
    assert found.loss.isfinite() and student.grad.isfinite().all()
    if tail != "renormalise":
        assert found.loss.item() > -TEACHER_FLOOR - 2, "being sure of an excluded token costs much"


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_support_that_the_student_gives_nothing(tail: Tail, dtype: torch.dtype) -> None:
    ids, logprobs = stored(K)
    student = logits(1).to(dtype)
    student[2] = student[2].scatter(0, ids[2].long(), -torch.inf)
    student.requires_grad_()
    found = reverse_kl_dense(student, ids, logprobs.to(dtype), tail)
    found.loss.backward()
    others = torch.arange(N) != 2
    rest = reverse_kl_dense(student.detach()[others], ids[others], logprobs[others].to(dtype), tail)
    tail_cost = -math.log(1 - logprobs[2].exp().sum().item())
    assert found.loss.item() == pytest.approx(
        rest.loss.item() + (tail_cost if tail == "bucket" else 0.0), rel=1e-5
    )
    assert found.kl.item() == pytest.approx(rest.kl.item() + tail_cost, rel=1e-5)
    assert student.grad.isfinite().all() and (student.grad[2] == 0).all()


def test_the_teachers_tail_keeps_its_digits_in_float32() -> None:
    """All teacher mass but 1e-5 on the support; float64 of the same float32 logprobs decides."""
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(N, 16, generator=generator, dtype=torch.float64)
    inside = (1 - 1e-5) * inside / inside.sum(dim=1, keepdim=True)
    ids = torch.arange(16).repeat(N, 1)
    logprobs = inside.log().float()
    student = logits(1)
    found, exact = (
        reverse_kl_dense(student.to(dtype), ids, logprobs.to(dtype))
        for dtype in (torch.float32, torch.float64)
    )
    assert found.loss.item() == pytest.approx(exact.loss.item(), rel=2e-7)
