"""Pure pieces of sampling and scoring: draws, top-k from logits, alignment, batches by length.

Dimensions: B rollouts of a batch, T response tokens, N response tokens of a batch one after
another, C a chunk of them, K top-k entries, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2d_store.encoding.topk import IntArray, TopK
from s2d_store.engines.base import SamplingParams, ScoreRequest


def rollout_uniforms(seeds_B: Sequence[int], n_tokens: int) -> NDArray[np.float64]:
    """Uniforms in [0, 1) for every token of every rollout.

    The generator is counter-based (Philox4x64-10, Salmon et al. 2011) and keyed by the rollout's
    seed alone: uniform t depends neither on the batch nor on `n_tokens`.

    Args:
        seeds_B: one seed a rollout, 0 <= seed < 2**63.
        n_tokens: T, the number of uniforms a rollout.

    Returns:
        float64 (B, T).
    """
    uniforms_BT = np.empty((len(seeds_B), n_tokens), dtype=np.float64)
    for row_T, seed in zip(uniforms_BT, seeds_B, strict=True):
        np.random.Generator(np.random.Philox(key=seed)).random(out=row_T)
    return uniforms_BT


def draw_tokens(logits_BV: Tensor, params: SamplingParams, uniforms_B: Tensor) -> Tensor:
    """Draw one token a row: temperature, then top-k, then top-p, then the inverse CDF.

    Args:
        logits_BV: float32 (B, V), raw logits.
        params: temperature 0 takes the argmax and reads no uniform.
        uniforms_B: float64 (B,), in [0, 1).

    Returns:
        int64 (B,). A token that a filter removed is never returned.
    """
    if params.temperature == 0:
        return logits_BV.argmax(dim=-1)
    # Subtracting the maximum first keeps a tiny temperature from overflowing to inf - inf.
    scaled_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / params.temperature
    vocab_size = logits_BV.shape[-1]
    kept = min(params.top_k, vocab_size) if params.top_k else vocab_size
    if kept == vocab_size and params.top_p >= 1:
        return inverse_cdf(scaled_BV.softmax(dim=-1), uniforms_B).clamp_(max=vocab_size - 1)
    values_BK, ids_BK = scaled_BV.topk(kept, dim=-1)
    probs_BK = values_BK.softmax(dim=-1)
    if params.top_p < 1:
        mass_before_BK = probs_BK.cumsum(dim=-1, dtype=torch.float64) - probs_BK
        probs_BK = probs_BK.masked_fill(mass_before_BK >= params.top_p, 0.0)
    # Parallel scans round unevenly, so the draw is held inside the kept head explicitly.
    last_kept_B = (probs_BK > 0).sum(dim=-1).sub_(1).clamp_(min=0)
    picks_B = torch.minimum(inverse_cdf(probs_BK, uniforms_B), last_kept_B)
    return ids_BK.gather(-1, picks_B.unsqueeze(-1)).squeeze(-1)


def inverse_cdf(weights_BK: Tensor, uniforms_B: Tensor) -> Tensor:
    """Index of the first entry whose cumulative weight exceeds `uniform * total`.

    Args:
        weights_BK: (B, K), not negative, at least one positive a row; need not sum to 1.
        uniforms_B: float64 (B,), in [0, 1).

    Returns:
        int64 (B,), in [0, K]; K only when a row holds NaN.
    """
    cdf_BK = weights_BK.cumsum(dim=-1, dtype=torch.float64)
    threshold_B1 = uniforms_B.unsqueeze(-1) * cdf_BK[:, -1:]
    return torch.searchsorted(cdf_BK, threshold_B1, right=True).squeeze(-1)


def gather_topk(
    logits_CV: Tensor, tokens_C: Tensor, support: int | Tensor, n_tokens: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logprobs at temperature 1 over the full vocabulary, at the top k or at given ids.

    Args:
        logits_CV: (C, V), any float dtype; log_softmax is taken in float32.
        tokens_C: int64 (C,), the tokens that were sampled.
        support: K for each row's own top k in descending order, or int64 (C, K) ids to gather.
        n_tokens: ids of the tokenizer; outputs from there on are padding and never among the own
            top k, though they count in the distribution. None: there is no padding.

    Returns:
        ids int32 (C, K), logprobs float32 (C, K), logprobs of `tokens_C` float32 (C,).
    """
    logprobs_CV = logits_CV.float().log_softmax(dim=-1)
    sampled_C = logprobs_CV.gather(-1, tokens_C.unsqueeze(-1)).squeeze(-1)
    if isinstance(support, int):
        top_CK, ids_CK = logprobs_CV[:, :n_tokens].topk(support, dim=-1)
    else:
        top_CK, ids_CK = logprobs_CV.gather(-1, support), support
    return ids_CK.to(torch.int32), top_CK, sampled_C


class StepBuffers:
    """What decoding writes step by step, on the device: B rollouts by up to T tokens."""

    def __init__(
        self, n_rollouts: int, max_tokens: int, k: int, n_tokens: int, device: torch.device
    ) -> None:
        shape = (n_rollouts, max_tokens)
        self._n_tokens = n_tokens
        self.tokens_BT = torch.zeros(shape, dtype=torch.int32, device=device)
        self.sampled_BT = torch.zeros(shape, dtype=torch.float32, device=device)
        self.ids_BTK = torch.zeros((*shape, k), dtype=torch.int32, device=device)
        self.logprobs_BTK = torch.zeros((*shape, k), dtype=torch.float32, device=device)

    def record(self, rows_B: Tensor, t: int, tokens_B: Tensor, logits_BV: Tensor) -> None:
        """Keep token t, its raw logprob and the raw top k of the rollouts `rows_B`."""
        ids, logprobs, sampled = gather_topk(
            logits_BV, tokens_B, self.ids_BTK.shape[-1], self._n_tokens
        )
        self.tokens_BT[rows_B, t] = tokens_B.to(torch.int32)
        self.sampled_BT[rows_B, t] = sampled
        self.ids_BTK[rows_B, t], self.logprobs_BTK[rows_B, t] = ids, logprobs

    def to_host(self, lengths_B: NDArray[np.int64]) -> tuple[IntArray, TopK]:
        """Response tokens int32 (N,) and their top k, of all rollouts one after another.

        Args:
            lengths_B: tokens of each rollout, summing to N; what stands after them is dropped.
        """
        device = self.tokens_BT.device
        steps_T = torch.arange(self.tokens_BT.shape[1], device=device)
        real_BT = steps_T < torch.from_numpy(lengths_B).to(device).unsqueeze(1)
        topk = TopK(
            self.ids_BTK[real_BT].cpu().numpy(),
            self.logprobs_BTK[real_BT].cpu().numpy(),
            self.sampled_BT[real_BT].cpu().numpy(),
        )
        return self.tokens_BT[real_BT].cpu().numpy(), topk


def split_topk(topk: TopK, counts: Sequence[int]) -> Iterator[tuple[slice, TopK]]:
    """Cut flat top-k arrays into one `(slice, TopK)` a rollout, given tokens of each."""
    start = 0
    for count in counts:
        rows = slice(start, start + count)
        yield (
            rows,
            TopK(topk.token_ids[rows], topk.logprobs[rows], topk.sampled_logprobs[rows]),
        )
        start += count


def length_batches(
    requests: Sequence[ScoreRequest], max_batch_tokens: int
) -> Iterator[list[ScoreRequest]]:
    """Batches of similar length and equal support K, longest first.

    A batch's padded size (rows x longest) stays within `max_batch_tokens`, except for a single
    sequence that alone is longer. Longest first lets memory run out at once or not at all.
    """

    def key(request: ScoreRequest) -> tuple[int, int]:
        length = len(request.prompt_token_ids) + len(request.response_token_ids)
        return (-1 if request.support is None else request.support.shape[1], -length)

    batch: list[ScoreRequest] = []
    for request in sorted(requests, key=key):
        width, longest = (key(batch[0])[0], -key(batch[0])[1]) if batch else (0, 0)
        full = longest * (len(batch) + 1) > max_batch_tokens
        if batch and (full or key(request)[0] != width):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch
