"""The fused form of the losses against dense logits and autograd, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from s2d_store.numerics import LogitTransform
from trainers import fused
from trainers.fused import fused_sums
from trainers.losses import Tail
from trainers.losses.forward_kl import forward_kl
from trainers.losses.reverse_kl import reverse_kl
from trainers.losses.sft import cross_entropy
from trainers.losses.support import KLSums, Support, gather_support, sampled_logprobs

N, V, H, K = 6, 23, 5, 4
TAILS: tuple[Tail, ...] = get_args(Tail)
TRANSFORMS = [LogitTransform(), LogitTransform(0.7, 0.0), LogitTransform(1.3, 2.0)]
SIZES = [(1, 1), (4, 3), (N, 2), (100, 100)]


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and bias of a head, each requiring a gradient."""
    generator = torch.Generator().manual_seed(5)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((N, H), (V, H), (V,))
    )
    return hidden, weight, bias


def teacher(k: int = K) -> tuple[Tensor, Tensor]:
    """A teacher's top k, int32 and float64 [N, k]; with k < V, row 1 has two and row 3 none."""
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(N, V, generator=generator, dtype=torch.float64)
    logprobs, ids = logits.log_softmax(dim=1).topk(k, dim=1)
    if k < V:
        ids[1, 2:], logprobs[1, 2:] = -1, -torch.inf
        ids[3], logprobs[3] = -1, -torch.inf
    return ids.int(), logprobs


def dense_logits(hidden: Tensor, weight: Tensor, bias: Tensor, transform: LogitTransform) -> Tensor:
    logits = (hidden @ weight.T + bias) * transform.scale
    if transform.softcap:
        logits = transform.softcap * torch.tanh(logits / transform.softcap)
    return logits


def any_loss(ids: Tensor) -> fused.LossOf:
    """A loss that reads every part of a support, and where in the whole it stands."""

    def sums(support: Support, rows: slice) -> Mapping[str, Tensor]:
        assert not support.entropy_N.requires_grad
        weights_N1 = torch.arange(1.0, len(ids) + 1, dtype=torch.float64)[rows, None]
        gathered = support.logits_NK.masked_fill(ids[rows] < 0, 0.0)
        loss = (gathered * torch.arange(1, K + 1) * weights_N1).sum()
        entropy = support.entropy_N.sum()
        return {"loss": loss + (support.rest_N**2).sum(), "entropy": entropy}

    return sums


def kl_loss(divergence: Callable[..., KLSums], teacher: tuple[Tensor, Tensor], tail: Tail) -> Any:
    """A divergence from stored top-k, as the trainers call it."""
    ids, logprobs = teacher

    def sums(support: Support, rows: slice) -> Mapping[str, Tensor]:
        found = divergence(support, ids[rows], logprobs[rows], tail)
        names = ("loss", "kl", "entropy", "teacher_mass", "student_mass")
        return {name: getattr(found, name) for name in names}

    return sums


def assert_same(
    loss_of: fused.LossOf, ids: Tensor, transform: LogitTransform, sizes: tuple[int, int]
) -> None:
    """Sums and all three gradients by the fused form are those of dense logits under autograd."""
    tensors = inputs()
    dense = loss_of(gather_support(dense_logits(*tensors, transform), ids), slice(0, N))
    hidden, weight, bias = tensors
    found = fused_sums(hidden, weight, ids, loss_of, bias, transform, None, *sizes)
    assert set(found) == set(dense)
    for name in found:
        torch.testing.assert_close(found[name], dense[name])
        assert found[name].requires_grad == (name == "loss")
    expected = torch.autograd.grad(3.0 * dense["loss"], tensors)
    torch.testing.assert_close(torch.autograd.grad(3.0 * found["loss"], tensors), expected)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("sizes", SIZES)
def test_any_loss_on_a_support(transform: LogitTransform, sizes: tuple[int, int]) -> None:
    ids, _ = teacher()
    assert_same(any_loss(ids), ids, transform, sizes)


@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, K, V])
def test_divergences(divergence: Callable[..., KLSums], tail: Tail, k: int) -> None:
    stored = teacher(k)
    assert_same(kl_loss(divergence, stored, tail), stored[0], TRANSFORMS[2], (4, 3))


def test_sampled_tokens() -> None:
    targets = torch.tensor([3, 0, 22, 5, 5, 1])

    def sums(support: Support, _: slice) -> Mapping[str, Tensor]:
        return {"loss": cross_entropy(sampled_logprobs(support))}

    assert_same(sums, targets[:, None], TRANSFORMS[1], (4, 3))
    hidden, weight, _ = inputs()
    loss = fused_sums(hidden, weight, targets[:, None], sums)["loss"]
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_temperature_divides_what_the_model_outputs(
    transform: LogitTransform, temperature: float
) -> None:
    """After the soft cap, as a sampler does: sums and gradients of logits / T under autograd."""
    ids, _ = teacher()
    tensors = inputs()
    loss_of = any_loss(ids)
    logits = dense_logits(*tensors, transform) / temperature
    dense = loss_of(gather_support(logits, ids), slice(0, N))
    hidden, weight, bias = tensors
    cooled = transform.at_temperature(temperature)
    found = fused_sums(hidden, weight, ids, loss_of, bias, cooled, None, 4, 3)
    for name in found:
        torch.testing.assert_close(found[name], dense[name])
    expected = torch.autograd.grad(dense["loss"], tensors)
    torch.testing.assert_close(torch.autograd.grad(found["loss"], tensors), expected)


def test_what_a_loss_sees_is_the_dense_support() -> None:
    hidden, weight, bias = inputs()
    ids, _ = teacher()
    dense = gather_support(dense_logits(hidden, weight, bias, TRANSFORMS[2]), ids)

    def compare(support: Support, rows: slice) -> Mapping[str, Tensor]:
        for whole, seen in zip(dense, support, strict=True):
            torch.testing.assert_close(seen.detach(), whole[rows].detach())
        return {"loss": support.rest_N.sum(), "rows": torch.tensor(len(support.rest_N))}

    for sizes in SIZES:
        found = fused_sums(hidden, weight, ids, compare, bias, TRANSFORMS[2], None, *sizes)
        assert found["rows"] == N


def test_rest_of_a_row_of_padding_is_the_whole_vocabulary() -> None:
    hidden, weight, bias = inputs()
    ids, _ = teacher()
    logits = hidden @ weight.T + bias
    seen: list[Tensor] = []

    def keep(support: Support, _: slice) -> Mapping[str, Tensor]:
        seen.append(support.rest_N.detach())
        return {"loss": support.rest_N.sum()}

    fused_sums(hidden, weight, ids, keep, bias)
    for rest in (seen[0], gather_support(logits, ids).rest_N):
        torch.testing.assert_close(rest[3], logits[3].logsumexp(dim=0))
        assert rest[0] < logits[0].logsumexp(dim=0)


@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_masked_tokens_of_the_vocabulary(softcap: float) -> None:
    """A bias of -inf leaves a token out of the softmax; under a soft cap it is its lower end."""
    hidden, weight, bias = inputs()
    ids = torch.arange(K).repeat(N, 1)
    # Three tokens outside the support and one in it.
    with torch.no_grad():
        bias[K : K + 3] = -torch.inf
        bias[1] = -torch.inf
    tensors, transform = (hidden, weight, bias), LogitTransform(1.3, softcap)
    loss_of = kl_loss(forward_kl, (ids, torch.full((N, K), math.log(0.2))), "bucket")
    if not softcap:
        ids[:, 1] = V - 1
    found = fused_sums(hidden, weight, ids, loss_of, bias, transform, chunk_tokens=4)
    dense = loss_of(gather_support(dense_logits(*tensors, transform), ids), slice(0, N))
    gradients = torch.autograd.grad(found["loss"], tensors)
    for name in found:
        torch.testing.assert_close(found[name], dense[name])
    for gradient, expected in zip(
        gradients, torch.autograd.grad(dense["loss"], tensors), strict=True
    ):
        torch.testing.assert_close(gradient, expected)


def test_nothing_outside_the_support_but_masked_tokens() -> None:
    """The teacher has a fifth there: infinitely far, with gradients that are numbers."""
    hidden, weight, bias = inputs()
    ids = torch.arange(K).repeat(N, 1)
    with torch.no_grad():
        bias[K:] = -torch.inf

    def sums(support: Support, rows: slice) -> Mapping[str, Tensor]:
        assert support.rest_N.isneginf().all() and support.entropy_N.isfinite().all()
        loss = forward_kl(support, ids[rows], torch.full((N, K), math.log(0.2))[rows]).loss
        return {"loss": loss}

    loss = fused_sums(hidden, weight, ids, sums, bias)["loss"]
    assert loss.item() == math.inf
    loss.backward()
    for tensor in (hidden, weight, bias):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


def test_a_sure_student_still_has_a_tail_in_float32() -> None:
    """1 - Q would be 0 here; the tail's term is r log(r / s) with s = exp(-90)."""
    hidden = torch.ones(1, 1, requires_grad=True)
    weight = torch.full((V, 1), -90.0 - math.log(V - 1))
    weight[0] = 0.0
    weight.requires_grad_()
    stored = torch.tensor([[0]]), torch.tensor([[math.log(0.9)]])
    loss = fused_sums(hidden, weight, stored[0], kl_loss(forward_kl, stored, "bucket"))["loss"]
    assert loss.item() == pytest.approx(0.9 * math.log(0.9) + 0.1 * (math.log(0.1) + 90), rel=1e-6)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad[0].item() == pytest.approx(0.1, rel=1e-5)
    assert weight.grad[1:].sum().item() == pytest.approx(-0.1, rel=1e-5)


def test_tied_head() -> None:
    """The embedding's and the head's gradients add up in the one weight."""
    ids, _ = teacher()
    tokens = torch.tensor([3, 1, 3, 0, 22, 7])
    gradients = []
    for dense in (True, False):
        _, weight, bias = inputs()
        hidden = torch.nn.functional.embedding(tokens, weight).tanh()
        if dense:
            logits = hidden @ weight.T + bias
            loss = any_loss(ids)(gather_support(logits, ids), slice(0, N))["loss"]
        else:
            loss = fused_sums(hidden, weight, ids, any_loss(ids), bias, chunk_tokens=4)["loss"]
        loss.backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient_and_changes_nothing(trained: int) -> None:
    ids, _ = teacher()
    tensors = inputs()
    whole = fused_sums(tensors[0], tensors[1], ids, any_loss(ids), tensors[2])["loss"]
    expected = torch.autograd.grad(whole, tensors)[trained]
    for number, tensor in enumerate(tensors):
        tensor.requires_grad_(number == trained)
    products = Products()
    with products:
        loss = fused_sums(tensors[0], tensors[1], ids, any_loss(ids), tensors[2])["loss"]
    assert products.count == (1 if trained == 2 else 2), "no product for a gradient nobody wants"
    loss.backward()
    torch.testing.assert_close(tensors[trained].grad, expected)
    assert all(t.grad is None for number, t in enumerate(tensors) if number != trained)


def test_without_a_gradient_only_the_logits_are_computed() -> None:
    ids, _ = teacher()
    hidden, weight, bias = inputs()
    loss = fused_sums(hidden, weight, ids, any_loss(ids), bias)["loss"]
    with torch.no_grad(), Products() as products:
        again = fused_sums(hidden, weight, ids, any_loss(ids), bias)["loss"]
    assert products.count == 1 and not again.requires_grad
    torch.testing.assert_close(again, loss.detach())


def test_no_tokens() -> None:
    _, weight, bias = inputs()
    hidden = torch.zeros(0, H, dtype=torch.float64, requires_grad=True)
    ids = torch.zeros(0, K, dtype=torch.int32)
    found = fused_sums(hidden, weight, ids, any_loss(ids), bias)
    assert {name: value.item() for name, value in found.items()} == {"loss": 0.0, "entropy": 0.0}
    found["loss"].backward()
    assert hidden.grad is not None and hidden.grad.shape == (0, H)
    assert weight.grad is not None and (weight.grad == 0).all()


def test_bfloat16_products_give_float32_sums_and_gradients() -> None:
    hidden, weight, bias = inputs(torch.float32)
    ids, _ = teacher()

    def sums(support: Support, _: slice) -> Mapping[str, Tensor]:
        assert support.rest_N.dtype == torch.float32
        return {"loss": support.rest_N.sum()}

    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        loss = fused_sums(hidden, weight, ids, sums, bias, TRANSFORMS[1], dtype, 2)["loss"]
        assert loss.dtype == torch.float32
        gradients.append(torch.autograd.grad(loss, (hidden, weight, bias)))
    for exact, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.1)
    # A model in bfloat16 gets its gradients in its own type.
    halves = [t.detach().bfloat16().requires_grad_() for t in (hidden, weight, bias)]
    fused_sums(halves[0], halves[1], ids, sums, halves[2])["loss"].backward()
    for half, exact in zip(
        halves,
        torch.autograd.grad(
            fused_sums(hidden, weight, ids, sums, bias)["loss"], (hidden, weight, bias)
        ),
        strict=True,
    ):
        assert half.grad is not None and half.grad.dtype == torch.bfloat16
        torch.testing.assert_close(half.grad.float(), exact, atol=0.1, rtol=0.1)


def test_nothing_of_tokens_by_vocabulary_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Largest: a chunk's logits, and of the weight's size the gradient alone, which stays."""
    monkeypatch.setattr(fused, "_SLAB_WEIGHTS", 7 * H)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(64, H, generator=generator, requires_grad=True)
    weight = torch.randn(499, H, generator=generator, requires_grad=True)
    ids = torch.arange(64)[:, None] + torch.arange(K)
    for dtype, copies in ((torch.float32, 0), (torch.bfloat16, 1)):
        weight.grad = None
        with Sizes() as sizes:
            fused_sums(hidden, weight, ids, any_loss(ids), None, None, dtype, 3, 2)[
                "loss"
            ].backward()
        storages = {pointer for pointer, numel in sizes.seen if numel == weight.numel()}
        storages -= {weight.data_ptr()}
        assert max(n for _, n in sizes.seen) == weight.numel() and weight.numel() > 3 * 499
        assert weight.grad is not None and weight.grad.data_ptr() in storages
        assert len(storages) == 1 + copies


def test_gradients_are_propagated_once() -> None:
    hidden, weight, bias = inputs()
    ids, _ = teacher()
    loss = fused_sums(hidden, weight, ids, any_loss(ids), bias)["loss"]
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="propagated already"):
        loss.backward()


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func.__name__.split(".")[0] in ("mm", "addmm", "addmm_")
        return func(*args, **(kwargs or {}))


class Sizes(TorchDispatchMode):
    """Keeps the address and the entries of whatever memory an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, int]] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                entries = storage.nbytes() // tensor.element_size()
                self.seen.add((storage.data_ptr(), entries))
        return found
