"""Losses on sampled tokens: GRPO, the sampled form of OPD, cross-entropy, and KL estimates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainers.losses import KLEstimator, estimators
from trainers.losses.grpo import denominator, grpo, token_weights, truncated_weights
from trainers.losses.policy_gradient import sampled_kl
from trainers.losses.reference_kl import reference_kl
from trainers.losses.sft import cross_entropy
from trainers.losses.support import gather_support, sampled_logprobs

N, V = 7, 11


def logits(seed: int, rows: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(rows, V, generator=generator, dtype=torch.float64)


TARGETS = torch.tensor([3, 0, 10, 5, 5, 1, 7])


def logprobs_of(logits_NV: Tensor, targets: Tensor = TARGETS) -> Tensor:
    return logits_NV.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]


def ours(logits_NV: Tensor) -> Tensor:
    return sampled_logprobs(gather_support(logits_NV, TARGETS[:, None]))


def test_sampled_logprobs_and_their_gradient() -> None:
    a, b = logits(0).requires_grad_(), logits(0).requires_grad_()
    weights = torch.arange(1.0, N + 1)
    (ours(a) * weights).sum().backward()
    (logprobs_of(b) * weights).sum().backward()
    assert torch.allclose(ours(a), logprobs_of(b), atol=1e-12)
    assert torch.allclose(a.grad, b.grad, atol=1e-12)


def test_a_sure_token_keeps_its_digits() -> None:
    sure = torch.zeros(1, V, dtype=torch.float32)
    sure[0, 3] = 20.0
    found = sampled_logprobs(gather_support(sure, torch.tensor([[3]])))
    exact = -math.log1p((V - 1) * math.exp(-20.0))
    assert found.item() == pytest.approx(exact, rel=1e-5)


def test_cross_entropy_is_torchs() -> None:
    values = logprobs_of(logits(0))
    expected = torch.nn.functional.cross_entropy(logits(0), TARGETS, reduction="sum")
    assert cross_entropy(ours(logits(0))).item() == pytest.approx(expected.item())
    mask = torch.tensor([True, False] * 3 + [True])
    assert cross_entropy(values, mask).item() == pytest.approx(-values[mask].sum().item())


def by_hand(
    now: list[float], then: list[float], gains: list[float], low: float, high: float
) -> tuple[list[float], list[float], int]:
    """GRPO's loss a token, the slope of each in the logprob, and how many are cut."""
    losses, slopes, clipped = [], [], 0
    for a, b, gain in zip(now, then, gains, strict=True):
        ratio = math.exp(a - b)
        cut = (gain > 0 and ratio > 1 + high) or (gain < 0 and ratio < 1 - low)
        bound = (1 + high if gain > 0 else 1 - low) if cut else ratio
        losses.append(-bound * gain)
        slopes.append(0.0 if cut else -ratio * gain)
        clipped += cut
    return losses, slopes, clipped


def test_grpo_cuts_on_the_right_side_only() -> None:
    now = torch.log(torch.tensor([0.9, 0.9, 0.3, 0.3, 0.5, 0.6], dtype=torch.float64))
    then = torch.log(torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], dtype=torch.float64))
    gains = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0, 0.0], dtype=torch.float64)
    now.requires_grad_()
    found = grpo(now, then, gains, torch.ones(6))
    losses, slopes, clipped = by_hand(now.tolist(), then.tolist(), gains.tolist(), 0.2, 0.28)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(sum(losses))
    assert now.grad.tolist() == pytest.approx(slopes)
    assert found.clipped.item() == clipped == 2
    expected = sum(math.exp(d) - 1 - d for d in (now - then).tolist())
    assert found.kl.item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grpo_far_beyond_what_float32_can_exponentiate(dtype: torch.dtype) -> None:
    """Log ratios of +-100: what the clip cuts, or has no advantage, has no gradient, not NaN."""
    now = torch.tensor([-1.0, -1.0, -101.0, -101.0, -1.0, -torch.inf], dtype=dtype)
    then = torch.tensor([-101.0, -101.0, -1.0, -1.0, -101.0, -1.0], dtype=dtype)
    gains = torch.tensor([1.0, 0.0, 1.0, -1.0, -1.0, 1.0], dtype=dtype)
    now.requires_grad_()
    found = grpo(now, then, gains, torch.ones(6))
    found.loss.backward()
    assert now.grad[:4].tolist() == pytest.approx([0.0] * 4, abs=1e-30) and now.grad[5] == 0
    # Not cut: the push down is there, as large as can be squared in a norm.
    assert now.grad[4].item() == pytest.approx(math.exp(20.0), rel=1e-5)
    assert found.loss.item() == pytest.approx(-1.28 + 0.8 + math.exp(20.0), rel=1e-6)
    assert found.clipped.item() == 2
    alone = grpo(now[:5].detach(), then[:5], gains[:5], torch.ones(5))
    assert alone.kl.isfinite() and alone.kl > 3 * math.exp(20.0) * 0.99


def test_ratios_below_the_limit_are_exact_with_their_gradient() -> None:
    x = torch.linspace(-19.0, 19.0, 9, dtype=torch.float64, requires_grad=True)
    assert torch.equal(estimators.ratio(x), x.exp())
    assert torch.autograd.gradcheck(estimators.ratio, x)
    other = torch.zeros(9, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda y: estimators.k3(y, other), x)
    assert torch.equal(estimators.k3(x, other), (-x).expm1() + x)


def expected_reference_gradient(
    estimator: KLEstimator, policy: Tensor, behaviour: Tensor, reference: Tensor
) -> tuple[float, Tensor]:
    """Over every token of the vocabulary, weighed by who sampled it: no sampling noise."""
    leaf = policy.clone().requires_grad_()
    now = leaf.log_softmax(dim=1)[0]
    then, other = behaviour.log_softmax(dim=1)[0], reference.log_softmax(dim=1)[0]
    found = reference_kl(now, then, other, then.exp(), estimator)
    found.loss.backward()
    assert leaf.grad is not None
    return found.loss.item(), leaf.grad


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("lagging", [False, True])
def test_reference_kl_has_the_exact_gradient_in_expectation(
    estimator: KLEstimator, lagging: bool
) -> None:
    policy, reference = logits(0, 1), logits(1, 1)
    behaviour = logits(2, 1) if lagging else policy
    value, gradient = expected_reference_gradient(estimator, policy, behaviour, reference)
    leaf = policy.clone().requires_grad_()
    log_p, log_r = leaf.log_softmax(dim=1), reference.log_softmax(dim=1)
    exact = (log_p.exp() * (log_p - log_r)).sum()
    exact.backward()
    assert torch.allclose(gradient, leaf.grad, atol=1e-9)
    if estimator != "k2":
        assert value == pytest.approx(exact.item())


def test_k3_direct_is_trls_and_verls_and_points_the_other_way() -> None:
    policy, reference = logits(0, 1), logits(1, 1)
    value, gradient = expected_reference_gradient("k3_direct", policy, policy, reference)
    leaf = policy.clone().requires_grad_()
    log_p, log_r = leaf.log_softmax(dim=1), reference.log_softmax(dim=1)
    other_way = (log_r.exp() * (log_r - log_p)).sum()
    other_way.backward()
    assert torch.allclose(gradient, leaf.grad, atol=1e-9)
    assert value == pytest.approx((log_p.exp() * (log_p - log_r)).sum().item())


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_direct"])
def test_reference_kl_of_one_token_by_hand(estimator: KLEstimator) -> None:
    now = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64, requires_grad=True)
    then = torch.tensor([-1.2, -2.0, torch.nan], dtype=torch.float64)
    other = torch.tensor([-1.5, -1.4, torch.nan], dtype=torch.float64)
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    mask = torch.tensor([True, True, False])
    found = reference_kl(now, then, other, weights, estimator, mask_N=mask)
    found.loss.backward()
    values, slopes = [], []
    for a, b, c in ((-1.0, -1.2, -1.5), (-2.0, -2.0, -1.4)):
        d, importance = c - a, math.exp(a - b)
        kind = {"k1": -d, "k2": d * d / 2}.get(estimator, math.exp(d) - 1 - d)
        direct = estimator == "k3_direct"
        values.append(kind if direct else importance * kind)
        slopes.append(1 - math.exp(d) if direct else importance * -d)
    assert found.kl.item() == pytest.approx(sum(values))
    assert found.loss.item() == pytest.approx(0.5 * values[0] + 2.0 * values[1])
    assert now.grad.tolist() == pytest.approx([0.5 * slopes[0], 2.0 * slopes[1], 0.0])


def test_truncated_weights() -> None:
    recomputed = torch.tensor([-1.0, -1.0, -1.0, -90.0])
    sampled = torch.tensor([-1.0, -0.5, -3.0, -1.0])
    found = truncated_weights(recomputed, sampled, 2.0)
    assert found.tolist() == pytest.approx([1.0, math.exp(-0.5), 2.0, 0.0], abs=1e-7)


def test_grpo_on_policy_is_the_policy_gradient() -> None:
    student, reference = logits(0).requires_grad_(), logits(0).requires_grad_()
    gains = torch.linspace(-1, 1, N, dtype=torch.float64)
    found = grpo(ours(student), logprobs_of(logits(0)), gains, torch.ones(N))
    found.loss.backward()
    (-gains * logprobs_of(reference)).sum().backward()
    assert torch.allclose(student.grad, reference.grad, atol=1e-12)
    assert found.clipped.item() == 0 and found.kl.item() == pytest.approx(0, abs=1e-12)


def test_masked_tokens_say_nothing() -> None:
    mask = torch.tensor([True] * 5 + [False] * 2)
    then = logprobs_of(logits(1))
    then[5:] = torch.nan
    now = logprobs_of(logits(0)).requires_grad_()
    gains = torch.ones(N, dtype=torch.float64)
    found = grpo(now, then, gains, torch.ones(N), mask_N=mask)
    alone = grpo(now.detach()[:5], then[:5], gains[:5], torch.ones(5))
    assert found.loss.item() == pytest.approx(alone.loss.item())
    assert found.kl.item() == pytest.approx(alone.kl.item())
    found.loss.backward()
    assert (now.grad[5:] == 0).all() and now.grad.isfinite().all()
    again = logprobs_of(logits(0)).requires_grad_()
    sampled = sampled_kl(again, then, then, 2.0, mask)
    sampled.loss.backward()
    assert again.grad.isfinite().all() and sampled.kl.isfinite()


@pytest.mark.parametrize("form", ["grpo", "dapo", "dr_grpo"])
def test_normalisations_are_what_they_say_in_any_micro_batches(form: str) -> None:
    lengths = [1, 4, 2]
    losses = torch.arange(1.0, 8.0)
    per_response = losses.split(lengths)
    wanted = {
        "grpo": sum(x.mean().item() for x in per_response) / 3,
        "dapo": losses.mean().item(),
        "dr_grpo": losses.sum().item() / (3 * 16),
    }[form]
    over = denominator(form, 3, 7, 16)
    for groups in ([[0, 1, 2]], [[0], [1, 2]], [[2], [0], [1]]):
        total = 0.0
        for group in groups:
            ids = torch.tensor([s for s, g in enumerate(group) for _ in range(lengths[g])])
            values = torch.cat([per_response[g] for g in group])
            total += (values * token_weights(form, ids)).sum().item()
        assert total / over == pytest.approx(wanted)


def test_sampled_kl_is_the_exact_gradient_in_expectation() -> None:
    """Over every token of the vocabulary, weighed by its probability: no sampling noise."""
    student, reference = logits(0, 1).requires_grad_(), logits(0, 1).requires_grad_()
    teacher = logits(1, 1).log_softmax(dim=1)[0]
    every = torch.arange(V)
    now = student.log_softmax(dim=1)[0]
    probabilities = now.exp().detach()
    losses = [
        sampled_kl(now[i : i + 1], now[i : i + 1].detach(), teacher[i : i + 1], 2.0).loss
        for i in every.tolist()
    ]
    total = probabilities @ torch.stack(losses)
    total.backward()
    log_q = reference.log_softmax(dim=1)[0]
    exact = (log_q.exp() * (log_q - teacher)).sum()
    exact.backward()
    assert total.item() == pytest.approx(exact.item())
    assert torch.allclose(student.grad, reference.grad, atol=1e-12)


def test_sampled_kl_weighs_lagging_tokens_up_to_the_cap() -> None:
    now = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    then = torch.tensor([-1.5, -4.0], dtype=torch.float64)
    teacher = torch.tensor([-0.5, -3.0], dtype=torch.float64)
    found = sampled_kl(now, then, teacher, 2.0)
    found.loss.backward()
    weights = [math.exp(0.5), 2.0]
    assert now.grad.tolist() == pytest.approx([weights[0] * -0.5, weights[1] * 2.0])
    assert found.loss.item() == pytest.approx(weights[0] * -0.5 + weights[1] * 2.0)
    assert found.kl.item() == pytest.approx(1.5) and found.clipped.item() == 1


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_estimates_are_unbiased(name: str) -> None:
    log_q, log_p = (logits(seed, 1).log_softmax(dim=1)[0] for seed in (0, 1))
    expected = (log_q.exp() * getattr(estimators, name)(log_q, log_p)).sum().item()
    assert expected == pytest.approx((log_q.exp() * (log_q - log_p)).sum().item())


def test_k2_and_k3_are_never_negative() -> None:
    log_q, log_p = (logits(seed).log_softmax(dim=1) for seed in (0, 1))
    assert (estimators.k2(log_q, log_p) >= 0).all() and (estimators.k3(log_q, log_p) >= 0).all()
    assert (estimators.k1(log_q, log_p) < 0).any()
