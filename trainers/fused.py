"""The fused form of the losses: hidden states in, sums and gradients out, no [tokens, vocabulary].

Dimensions: N tokens, H hidden, V vocabulary, K support entries, C tokens of a chunk or a block.
A chunk of tokens is projected at once, for the speed of a large matrix product. Its logits are
reduced block by block, for the memory of a small one: the loss is taken of each block's support,
its gradient goes back to the block's logits, and replaces them. Two more products then give the
gradients of the chunk's hidden states and of the weight. So all gradients are known when the loss
is, and nothing is computed again in the backward pass, as in Liger Kernel's fused linear
cross-entropy (arXiv 2410.10989).

Held beside the gradients is one chunk's logits and one block's. Where the weight has a .grad from
an earlier micro-batch, autograd adds to it: then another array of the weight's size is held until
the backward pass, as it is there with dense logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2d_store.numerics import LogitTransform
from trainers.head import FLOOR, logits_gradient, reduce_logits
from trainers.losses.support import Support

# From a block's support and its place among the N tokens to sums over it, 0-d tensors by name;
# `loss` has a gradient, whatever else is named is reported.
LossOf = Callable[[Support, slice], Mapping[str, Tensor]]

# Logits of a chunk, in elements: 690 tokens of a vocabulary of 151,936, 400 MiB in float32. With
# half of it the products take a tenth longer (on a CPU, H = 2,048), with more no less.
CHUNK_LOGITS = 100 << 20
# Of a block, 64 MiB in float32. Smaller ones would fit a CPU's cache, but each costs some hundred
# operations on its few support entries.
BLOCK_LOGITS = 1 << 24
# Entries of the weight's gradient that a lower precision's product is added to at once.
_SLAB_WEIGHTS = 1 << 25


def fused_sums(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    ids_NK: Tensor,
    loss_of: LossOf,
    bias_V: Tensor | None = None,
    transform: LogitTransform | None = None,
    dtype: torch.dtype | None = None,
    chunk_tokens: int = 0,
    block_tokens: int = 0,
) -> dict[str, Tensor]:
    """Sum a loss on a support over N tokens, with its gradients.

    Args:
        hidden_NH: float [N, H], the hidden state that predicts each token.
        weight_VH: float [V, H], the output head's weight, tied or not, whole: under FSDP2 call this
            within the module's forward pass, where parameters are gathered.
        ids_NK: int [N, K], distinct ids of a row's support; -1 pads.
        loss_of: called once a block; must be a sum over tokens, each of which it treats alone.
        bias_V: float [V], the head's bias; -inf is allowed.
        transform: scale and soft cap of the logits.
        dtype: type of the matrix products; None takes the weight's. Logits are reduced, losses
            taken and gradients summed in float32 (float64 for a float64 weight).
        chunk_tokens: C of a matrix product; 0 chooses by vocabulary size.
        block_tokens: C of a reduction; 0 chooses by vocabulary size.

    Returns:
        The sums of what `loss_of` gives. `loss` carries gradient to those of hidden states, weight
        and bias that require one, and can be propagated once; the others carry none.
    """
    head = _Head(hidden_NH, weight_VH, bias_V, transform or LogitTransform(), dtype)
    vocab_size = weight_VH.shape[0]
    chunk_tokens = chunk_tokens or max(1, CHUNK_LOGITS // vocab_size)
    block_tokens = block_tokens or max(1, BLOCK_LOGITS // vocab_size)
    sums: dict[str, Tensor] = {}
    with torch.no_grad(), torch.autocast(hidden_NH.device.type, enabled=False):
        for chunk in _slices(0, len(hidden_NH), chunk_tokens):
            logits_CV = head.project(chunk)
            for rows in _slices(chunk.start, chunk.stop, block_tokens):
                block_CV = logits_CV[rows.start - chunk.start : rows.stop - chunk.start]
                parts = _block(block_CV, ids_NK[rows], rows, loss_of, head)
                for name, value in parts.items():
                    sums[name] = sums[name] + value if name in sums else value
            head.propagate(chunk, logits_CV)
        gradients = head.gradients()
    if head.differentiable:
        sums["loss"] = _WithGradients.apply(  # type: ignore[no-untyped-call]
            sums["loss"], gradients, hidden_NH, weight_VH, bias_V
        )
    return sums


class _Head:
    """The matrix products of one call, chunk by chunk, and the gradients that they sum up."""

    def __init__(
        self,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        transform: LogitTransform,
        dtype: torch.dtype | None,
    ) -> None:
        self._inputs = (hidden_NH, weight_VH, bias_V)
        self._dtype = dtype or weight_VH.dtype
        self._sum_dtype = torch.float64 if self._dtype == torch.float64 else torch.float32
        self._scale, self.softcap = transform.scale, transform.softcap
        self._wanted = [
            torch.is_grad_enabled() and tensor is not None and tensor.requires_grad
            for tensor in self._inputs
        ]
        self.differentiable = any(self._wanted)
        with torch.no_grad():
            # The scale goes to the small factor: no pass over the logits.
            scaled_NH = hidden_NH if self._scale == 1.0 else hidden_NH * self._scale
            self._hidden_NH, self._weight_VH = scaled_NH.to(self._dtype), weight_VH.to(self._dtype)
            self._bias_V = None
            if bias_V is not None:
                self._bias_V = (bias_V * self._scale).clamp_min(FLOOR).to(self._dtype)
            wants_hidden, wants_weight, wants_bias = self._wanted
            self._grad_hidden = torch.empty_like(hidden_NH) if wants_hidden else None
            # In bfloat16 a sum over many chunks would stop growing.
            self._grad_weight, self._grad_bias = (
                weight_VH.new_zeros(shape, dtype=self._sum_dtype) if wanted else None
                for shape, wanted in (
                    (weight_VH.shape, wants_weight),
                    (weight_VH.shape[:1], wants_bias),
                )
            )
        self._buffer = hidden_NH.new_empty(0)

    def project(self, chunk: slice) -> Tensor:
        """Scaled logits of a chunk, [C, V], before the soft cap; valid until the next call."""
        hidden_CH, weight_HV = self._hidden_NH[chunk], self._weight_VH.T
        shape = (len(hidden_CH), weight_HV.shape[1])
        if len(self._buffer) < shape[0]:
            self._buffer = hidden_CH.new_empty(shape)
        logits_CV = self._buffer[: shape[0]]
        if self._bias_V is None:
            return torch.mm(hidden_CH, weight_HV, out=logits_CV)
        return torch.addmm(self._bias_V, hidden_CH, weight_HV, out=logits_CV)

    def propagate(self, chunk: slice, grad_CV: Tensor) -> None:
        """Take the gradient of a chunk's scaled logits, [C, V], on to what needs one."""
        if self._grad_hidden is not None:
            self._grad_hidden[chunk] = grad_CV @ self._weight_VH
        if self._grad_bias is not None:
            self._grad_bias += grad_CV.sum(dim=0, dtype=self._sum_dtype)
        if self._grad_weight is None:
            return
        hidden_CH = self._hidden_NH[chunk]
        if self._dtype == self._sum_dtype:
            self._grad_weight.addmm_(grad_CV.T, hidden_CH)
            return
        for slab in _slices(0, len(self._grad_weight), max(1, _SLAB_WEIGHTS // hidden_CH.shape[1])):
            self._grad_weight[slab] += grad_CV[:, slab].T @ hidden_CH

    def gradients(self) -> list[Tensor | None]:
        """Of the hidden states, the weight and the bias, in their own types."""
        if self._scale != 1.0:
            for small in (self._grad_hidden, self._grad_bias):
                if small is not None:
                    small.mul_(self._scale)
        found = (self._grad_hidden, self._grad_weight, self._grad_bias)
        return [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(found, self._inputs, strict=True)
        ]


def _block(
    block_CV: Tensor, ids_CK: Tensor, rows: slice, loss_of: LossOf, head: _Head
) -> dict[str, Tensor]:
    """A block's sums; its logits are replaced by their gradient, if one is wanted."""
    logits_CV = block_CV if block_CV.dtype == torch.float64 else block_CV.float()
    reduced = reduce_logits(logits_CV, ids_CK, head.softcap)
    logits_CK, rest_C, entropy_C = reduced.support
    if not head.differentiable:
        return dict(loss_of(reduced.support, rows))
    leaves = (logits_CK.detach().requires_grad_(), rest_C.detach().requires_grad_())
    with torch.enable_grad():
        parts = loss_of(Support(*leaves, entropy_C), rows)
    grad_CK, grad_rest_C = torch.autograd.grad(parts["loss"], leaves, materialize_grads=True)
    logits_gradient(reduced, ids_CK, grad_CK, grad_rest_C, out_CV=block_CV)
    return {name: value.detach() for name, value in parts.items()}


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Cut a range; an empty one gives one empty slice, for the shapes' sake."""
    for first in range(start, max(stop, start + 1), size):
        yield slice(first, min(first + size, stop))


class _WithGradients(torch.autograd.Function):
    """A number whose gradients are known before the backward pass, which only scales them."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *_: Any) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_value: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled in place and handed over: autograd makes the weight's its .grad without a copy.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradients of a fused loss were propagated already; run it anew")
        return None, None, *(g if g is None else g.mul_(grad_value) for g in gradients)
