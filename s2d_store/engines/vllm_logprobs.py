"""vLLM's flat logprobs as (T, K) arrays. Needs NumPy alone.

With `flat_logprobs` every position holds k + 1 entries one after another: the actual token, then
the k likeliest in order; the actual token stands twice when it is among them. A request's first
prompt position holds none.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2d_store.encoding.topk import IntArray, TopK
from s2d_store.errors import EngineError

_PIECE = 1 << 17
# Asked for above k where the vocabulary is padded, to stand in for padding among the likeliest.
SPARE_ENTRIES = 4


class FlatLogprobs(Protocol):
    """The lists of `vllm.logprobs.FlatLogprobs` that are read here."""

    start_indices: list[int]
    end_indices: list[int]
    token_ids: list[int]
    logprobs: list[float]


def last_positions(
    rollout_id: str, flat: FlatLogprobs, tokens: Sequence[int] | IntArray, k: int
) -> TopK:
    """The top k at the last T positions, T being the number of `tokens`.

    Args:
        rollout_id: named in errors.
        flat: positions of a response, or of a prompt and the response behind it.
        tokens: T token ids that stand at those positions.
        k: entries besides the actual token.

    Returns:
        ids int32 (T, k), logprobs float32 (T, k), logprobs of `tokens` float32 (T,).

    Raises:
        EngineError: a position without its k + 1 entries, or with another token.
    """
    n_tokens, width = len(tokens), k + 1
    starts, ends = (
        np.array(indices[max(0, len(indices) - n_tokens) :], dtype=np.int64)
        for indices in (flat.start_indices, flat.end_indices)
    )
    if len(starts) != n_tokens or np.any(ends - starts != width):
        counts = sorted(set((ends - starts).tolist()))
        raise _wrong(
            rollout_id,
            f"{len(starts)} positions of {counts} entries came back",
            f"{n_tokens} positions of {width} were asked for",
        )
    first, last = (int(starts[0]), int(ends[-1])) if n_tokens else (0, 0)
    ids_TW = _array(flat.token_ids, first, last, "i", n_tokens, width)
    logprobs_TW = _array(flat.logprobs, first, last, "f", n_tokens, width)
    other = ids_TW[:, 0] != np.asarray(tokens, dtype=np.int32)
    if other.any():
        at = int(other.argmax())
        raise _wrong(
            rollout_id,
            f"position {at} is of token {ids_TW[at, 0]}, not {tokens[at]}",
            "logprobs and tokens are out of step",
        )
    return TopK(ids_TW[:, 1:], logprobs_TW[:, 1:], logprobs_TW[:, 0])


def without_padding(rollout_id: str, topk: TopK, n_tokens: int, k: int) -> TopK:
    """The k likeliest entries at each position whose ids the tokenizer has.

    Args:
        rollout_id: named in errors.
        topk: (T, k + SPARE_ENTRIES) or fewer, in descending order; of k where nothing is padded.
        n_tokens: ids of the tokenizer; those from there on pad the model's output matrix.
        k: entries to keep.

    Raises:
        EngineError: a sampled position whose row holds more padding than was allowed for.
    """
    if topk.token_ids.shape[1] == k:
        return topk
    real_TW = topk.token_ids < n_tokens
    short_T = real_TW.sum(axis=1) < k
    if short_T.any():
        raise _wrong(
            rollout_id,
            f"position {int(short_T.argmax())} has fewer than {k} entries that the tokenizer knows",
            f"the model pads its vocabulary above {n_tokens}, and likes the padding",
        )
    kept_TK = np.argsort(~real_TW, axis=1, kind="stable")[:, :k]
    return TopK(
        np.take_along_axis(topk.token_ids, kept_TK, axis=1),
        np.take_along_axis(topk.logprobs, kept_TK, axis=1),
        topk.sampled_logprobs,
    )


def joined(first: TopK, second: TopK) -> TopK:
    """The positions of `first`, then those of `second`; both of the same K."""
    return TopK(
        np.concatenate([first.token_ids, second.token_ids]),
        np.concatenate([first.logprobs, second.logprobs]),
        np.concatenate([first.sampled_logprobs, second.sampled_logprobs]),
    )


def _array(
    values: list[Any], first: int, last: int, code: str, n_tokens: int, width: int
) -> NDArray[Any]:
    """`values[first:last]` as int32 (code i) or float32 (code f), of shape (n_tokens, width)."""
    # Packing a list takes half the time that NumPy does; a copy of a part of it takes some more.
    packed = np.empty(last - first, f"{code}4")
    for start in range(first, last, _PIECE):
        end = min(start + _PIECE, last)
        piece = values if end - start == len(values) else values[start:end]
        struct.pack_into(f"{len(piece)}{code}", packed.data, 4 * (start - first), *piece)
    return packed.reshape(n_tokens, width)


def _wrong(rollout_id: str, what: str, why: str) -> EngineError:
    return EngineError(
        f"vLLM's logprobs of rollout {rollout_id} are not whole: {what}",
        f"{why}; nothing of it was stored",
        "use another version of vLLM, or --engine transformers",
    )
