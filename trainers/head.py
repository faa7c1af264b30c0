"""The output head by chunks of tokens: a support's logits without ever holding [N, V].

Dimensions: N tokens, H hidden, V vocabulary, K support entries, C tokens of one chunk.
The backward pass computes each chunk's logits again (one more matrix product) instead of keeping
them: peak memory is O(C V + V H), where a dense head with autograd holds several [N, V].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.losses.support import Support, entropy, safe_ids, support_mask

# Logits alive at once, in elements: 64 MiB in float32, large enough for full matrix products.
CHUNK_LOGITS = 1 << 24


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to the head's output: logits = cap(scale * (h W^T + b)).

    Attributes:
        scale: factor on the logits.
        softcap: c of c * tanh(logits / c); 0 for none.
    """

    scale: float = 1.0
    softcap: float = 0.0

    @classmethod
    def from_config(cls, config: Any) -> LogitTransform:
        """Read a transformers configuration: `logit_scale` multiplies, `logits_scaling` divides."""
        scale = getattr(config, "logit_scale", None) or 1.0
        scale = scale / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(float(scale), float(getattr(config, "final_logit_softcapping", None) or 0.0))

    def apply(self, logits: Tensor) -> Tensor:
        """Transform raw logits (any shape); may change them in place."""
        if self.scale != 1.0:
            logits = logits.mul_(self.scale)
        return logits.div_(self.softcap).tanh_().mul_(self.softcap) if self.softcap else logits

    def backward(self, grad: Tensor, transformed: Tensor) -> Tensor:
        """Gradient of the raw logits from the gradient of the transformed; in place on `grad`."""
        if self.softcap:
            grad = grad.mul_(1.0 - (transformed / self.softcap).square_())
        return grad.mul_(self.scale) if self.scale != 1.0 else grad


def project_support(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    ids_NK: Tensor,
    bias_V: Tensor | None = None,
    transform: LogitTransform | None = None,
    dtype: torch.dtype | None = None,
    chunk_tokens: int = 0,
) -> Support:
    """Logits at the support's ids, the rest's logsumexp and the entropy, one chunk at a time.

    Args:
        hidden_NH: float [N, H], the hidden state that predicts each token.
        weight_VH: float [V, H], the output head's weight, tied or not.
        ids_NK: int [N, K], distinct ids of a row; -1 pads.
        bias_V: float [V], the head's bias.
        transform: scale and soft cap of the logits.
        dtype: type of the matrix products; None takes the weight's. Sums are float32 (float64 for
            a float64 weight).
        chunk_tokens: C; 0 chooses by vocabulary size.

    Returns:
        Support with gradient to hidden states, weight and bias; the entropy carries none.
    """
    vocab_size = weight_VH.shape[0]
    head: tuple[Tensor, Tensor, Tensor] = _ChunkedHead.apply(  # type: ignore[no-untyped-call]
        hidden_NH,
        weight_VH,
        bias_V,
        ids_NK,
        transform or LogitTransform(),
        dtype or weight_VH.dtype,
        chunk_tokens or max(1, CHUNK_LOGITS // vocab_size),
    )
    return Support(*head)


def _chunk_logits(
    hidden_CH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, transform: LogitTransform
) -> Tensor:
    logits_CV = torch.nn.functional.linear(hidden_CH, weight_VH, bias_V)
    if logits_CV.dtype != torch.float64:
        logits_CV = logits_CV.float()
    return transform.apply(logits_CV)


class _ChunkedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        ids_NK: Tensor,
        transform: LogitTransform,
        dtype: torch.dtype,
        chunk_tokens: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias = weight_VH.to(dtype), None if bias_V is None else bias_V.to(dtype)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        with torch.autocast(hidden_NH.device.type, enabled=False):
            # An empty batch still makes one (empty) chunk, for the shapes' sake.
            for start in range(0, max(1, len(hidden_NH)), chunk_tokens):
                rows = slice(start, start + chunk_tokens)
                logits_CV = _chunk_logits(hidden_NH[rows].to(dtype), weight, bias, transform)
                entropy_C = entropy(logits_CV)
                gathered_CK = logits_CV.gather(1, safe_ids(ids_NK[rows]))
                inside_CV = support_mask(ids_NK[rows], logits_CV.shape[1])
                rest_C = logits_CV.masked_fill_(inside_CV, float("-inf")).logsumexp(dim=1)
                parts.append((gathered_CK, rest_C, entropy_C))
        gathered_NK, rest_N, entropy_N = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, ids_NK, rest_N)
        ctx.transform, ctx.dtype, ctx.chunk_tokens = transform, dtype, chunk_tokens
        ctx.mark_non_differentiable(entropy_N)
        return gathered_NK, rest_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_gathered_NK, grad_rest_N, _ = grads
        hidden_NH, weight_VH, bias_V, ids_NK, rest_N = ctx.saved_tensors
        dtype, size = ctx.dtype, ctx.chunk_tokens
        weight, bias = weight_VH.to(dtype), None if bias_V is None else bias_V.to(dtype)
        grad_hidden = torch.zeros_like(hidden_NH)
        # The weight's gradient sums over all chunks: in bfloat16 it would stop growing.
        sum_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        grad_weight = torch.zeros_like(weight_VH, dtype=sum_dtype)
        grad_bias = None if bias_V is None else torch.zeros_like(bias_V, dtype=sum_dtype)
        with torch.autocast(hidden_NH.device.type, enabled=False):
            for start in range(0, len(hidden_NH), size):
                rows = slice(start, start + size)
                hidden_CH = hidden_NH[rows].to(dtype)
                logits_CV = _chunk_logits(hidden_CH, weight, bias, ctx.transform)
                grad_CV = _chunk_gradient(
                    logits_CV, ids_NK[rows], rest_N[rows], grad_gathered_NK[rows], grad_rest_N[rows]
                )
                grad_CV = ctx.transform.backward(grad_CV, logits_CV)
                if grad_bias is not None:
                    grad_bias += grad_CV.sum(dim=0)
                grad_CV = grad_CV.to(dtype)
                grad_hidden[rows] = (grad_CV @ weight).to(grad_hidden.dtype)
                if dtype == sum_dtype:
                    grad_weight.addmm_(grad_CV.T, hidden_CH)
                else:
                    grad_weight += grad_CV.T @ hidden_CH
        grad_weight = grad_weight.to(weight_VH.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias_V.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _chunk_gradient(
    logits_CV: Tensor, ids_CK: Tensor, rest_C: Tensor, grad_CK: Tensor, grad_rest_C: Tensor
) -> Tensor:
    """Gradient of a chunk's logits: softmax over the rest outside the support, `grad_CK` inside."""
    empty_C1 = torch.isneginf(rest_C)[:, None]
    shift_C1 = rest_C[:, None].masked_fill(empty_C1, float("inf"))
    grad_CV = (logits_CV - shift_C1).exp_()
    grad_CV.masked_fill_(support_mask(ids_CK, logits_CV.shape[1]), 0.0)
    grad_CV.mul_(grad_rest_C[:, None])
    return grad_CV.scatter_add_(1, safe_ids(ids_CK), grad_CK)
