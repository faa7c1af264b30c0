"""A model's output head in blocks of the vocabulary: no [tokens, vocabulary] tensor exists.

Dimensions: N response tokens, C tokens of one chunk of them, V vocabulary, K top-k entries, J ids
that are gathered, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from s2d_store.engines.torch_sampling import gather_topk
from s2d_store.errors import EngineError
from s2d_store.numerics import LogitTransform

# Tokens that are projected together. Each chunk reads the head's weight once, so more of them save
# time until their logits no longer fit the processor's cache.
CHUNK_TOKENS = 1024
# Elements of one [tokens, ids] block of logits: 64 MiB in float32. Smaller blocks cost the own top
# k more merges than they save.
BLOCK_ELEMENTS = 2**24

TopRows = tuple[Tensor, Tensor, Tensor]
"""ids int32 (N, K), logprobs float32 (N, K), logprobs of the sampled tokens float32 (N,)."""


class OutputHead:
    """The map from last hidden states to logits, and to the logprobs of a few ids.

    Where the head is one `torch.nn.Linear`, `topk` goes over the vocabulary in blocks. A head that
    is more than that (quantised, or with an adapter) is called as it is: then the logits of a chunk
    of tokens stand whole in memory, in as many elements as a block has.

    Attributes:
        in_blocks: whether `topk` goes over the vocabulary in blocks.

    Raises:
        EngineError: the model does something to its logits that s2d does not know.
    """

    def __init__(self, model: Any) -> None:
        """Take the head of a causal model of transformers, and compare it with the model's own."""
        self._projection = model.get_output_embeddings()
        self._transform = LogitTransform.from_config(model.config.get_text_config())
        self._vocab_size = int(self._projection.weight.shape[0])
        self.in_blocks = type(self._projection) is torch.nn.Linear
        probe = torch.zeros((1, 2), dtype=torch.int64, device=self._projection.weight.device)
        ours = self(model.base_model(input_ids=probe, use_cache=False).last_hidden_state)
        theirs = model(input_ids=probe, use_cache=False).logits
        if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2):
            raise EngineError(
                f"{type(model).__name__} changes its logits in a way unknown to this engine",
                why="scoring projects hidden states itself and got other logits than the model",
                fix="score with --engine vllm",
            )

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., H), in the model's own dtype."""
        logits: Tensor = self._transform(self._projection(hidden))
        return logits

    def topk(
        self, hidden_NH: Tensor, tokens_N: Tensor, support: int | Tensor, n_tokens: int
    ) -> TopRows:
        """Logprobs at temperature 1 over the full vocabulary, at the top k or at given ids.

        Args:
            hidden_NH: (N, H), in the model's dtype; logits become float32 before they are summed.
            tokens_N: int64 (N,), the tokens that were sampled.
            support: K for each row's own top k in descending order, or int64 (N, K) ids to gather.
            n_tokens: ids of the tokenizer, see `gather_topk`.
        """
        # Without a token there is one chunk of no rows, which has the results' shapes.
        parts = [
            self._chunk(
                hidden_NH[rows],
                tokens_N[rows],
                support if isinstance(support, int) else support[rows],
                n_tokens,
            )
            for rows in self._chunks(len(tokens_N))
        ]
        ids, logprobs, sampled = (torch.cat(column) for column in zip(*parts, strict=True))
        return ids, logprobs, sampled

    def _chunks(self, n_tokens: int) -> list[slice]:
        """Rows to project together; without blocks, of at most `BLOCK_ELEMENTS` logits."""
        size = CHUNK_TOKENS if self.in_blocks else max(1, BLOCK_ELEMENTS // self._vocab_size)
        return [slice(start, start + size) for start in range(0, max(n_tokens, 1), size)]

    def _chunk(
        self, hidden_CH: Tensor, tokens_C: Tensor, support: int | Tensor, n_tokens: int
    ) -> TopRows:
        if not self.in_blocks:
            return gather_topk(self(hidden_CH), tokens_C, support, n_tokens)
        wanted_CJ = tokens_C.unsqueeze(1)
        if not isinstance(support, int):
            wanted_CJ = torch.cat([wanted_CJ, support], dim=1)
        k = support if isinstance(support, int) else 0
        found_CJ = hidden_CH.new_zeros(wanted_CJ.shape, dtype=torch.float32)
        total_C = found_CJ.new_full((len(tokens_C),), float("-inf"))
        top_CK, ids_CK = found_CJ[:, :0], wanted_CJ[:, :0]
        width = max(1, BLOCK_ELEMENTS // max(1, len(tokens_C)))
        for start in range(0, self._vocab_size, width):
            logits_CV = self._block(hidden_CH, slice(start, start + width))
            at_CJ = wanted_CJ - start
            here_CJ = (at_CJ >= 0) & (at_CJ < logits_CV.shape[1])
            at_CJ.clamp_(0, logits_CV.shape[1] - 1)
            found_CJ = torch.where(here_CJ, logits_CV.gather(1, at_CJ), found_CJ)
            if k and start < n_tokens:
                block = logits_CV[:, : n_tokens - start]
                top_CK, ids_CK = _merge_top(top_CK, ids_CK, block, start, k)
            total_C = torch.logaddexp(total_C, _logsumexp_(logits_CV))
        logprobs_CJ = found_CJ - total_C.unsqueeze(1)
        if isinstance(support, int):
            return ids_CK.to(torch.int32), top_CK - total_C.unsqueeze(1), logprobs_CJ[:, 0]
        return support.to(torch.int32), logprobs_CJ[:, 1:], logprobs_CJ[:, 0]

    def _block(self, hidden_CH: Tensor, ids: slice) -> Tensor:
        """Logits of some ids as float32, in memory of their own."""
        bias = self._projection.bias
        logits = linear(
            hidden_CH, self._projection.weight[ids], None if bias is None else bias[ids]
        )
        transformed: Tensor = self._transform(logits)
        return transformed.float()


def _merge_top(
    top_CK: Tensor, ids_CK: Tensor, logits_CV: Tensor, start: int, k: int
) -> tuple[Tensor, Tensor]:
    """The k highest logits so far, descending, and their ids, once a block is seen.

    Args:
        top_CK: float32, of the blocks before; fewer than k columns where these had fewer ids.
        ids_CK: int64, their ids.
        logits_CV: float32, the block; its first column is id `start`.
        start: see there.
        k: how many to keep.
    """
    block_CK, at_CK = logits_CV.topk(min(k, logits_CV.shape[1]), dim=1)
    if not start:
        return block_CK, at_CK
    both_CK = torch.cat([top_CK, block_CK], dim=1)
    top_CK, pick_CK = both_CK.topk(min(k, both_CK.shape[1]), dim=1)
    return top_CK, torch.cat([ids_CK, at_CK + start], dim=1).gather(1, pick_CK)


def _logsumexp_(logits_CV: Tensor) -> Tensor:
    """Logsumexp of each row, float32 (C,); overwrites the logits.

    A row of -inf gives -inf: the largest logit is held finite, so that no inf - inf is taken.
    """
    top_C = logits_CV.amax(dim=1).clamp_(min=torch.finfo(torch.float32).min)
    return logits_CV.sub_(top_C.unsqueeze(1)).exp_().sum(dim=1).log_().add_(top_C)
