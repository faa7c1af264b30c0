"""How many requests are worked on together: bounded by their tokens times top k, not by rows alone.

256 rollouts of 16,384 tokens at k = 128 are 4 GiB of ids and logprobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from s2d_store.engines.base import ScoreRequest

# Bytes of top k that one block of rollouts may have: 16 rollouts of 16,384 tokens at k = 128.
BLOCK_BYTES = 2**28
# Bytes of top k in one answer of a worker, which comes in one piece: 32 such rollouts. Fewer would
# starve an engine of continuous batching.
ANSWER_BYTES = 2**29
# An id and a logprob: int32 and float32.
_ENTRY_BYTES = 8


def row_bytes(n_tokens: int, k: int) -> int:
    """Bytes of one rollout's ids and logprobs, at least one entry's."""
    return max(n_tokens, 1) * max(k, 1) * _ENTRY_BYTES


def block_rows(batch_size: int, max_tokens: int, k: int) -> int:
    """Rollouts decoded together: the batch size, or as many as `BLOCK_BYTES` hold the top k of."""
    return max(1, min(batch_size, BLOCK_BYTES // row_bytes(max_tokens, k)))


def answer_rows(wanted: int, block: int, max_tokens: int, k: int) -> int:
    """Rollouts of a worker's chunk: whole blocks, about as many as wanted or as an answer holds.

    Args:
        wanted: 0 or more; rounded up to whole blocks.
        block: rollouts that are decoded together, see `block_rows`.
        max_tokens: of the longest rollout there may be.
        k: entries at each token.
    """
    fits = ANSWER_BYTES // row_bytes(max_tokens, k) // block
    return max(1, min(-(-wanted // block), fits)) * block


def score_windows(
    requests: Iterable[ScoreRequest], most_rows: int, k: int
) -> Iterator[list[ScoreRequest]]:
    """Consecutive requests: at most `most_rows`, and of results `BLOCK_BYTES` or one request.

    Args:
        requests: a stream; it is read one request ahead.
        most_rows: 1 or more.
        k: K of the scorer's own support, for requests that give none.
    """
    window: list[ScoreRequest] = []
    held = 0
    for request in requests:
        given = k if request.support is None else request.support.shape[-1]
        size = row_bytes(len(request.response_token_ids), given)
        if window and (len(window) == most_rows or held + size > BLOCK_BYTES):
            yield window
            window, held = [], 0
        window.append(request)
        held += size
    if window:
        yield window
