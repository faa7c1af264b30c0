"""The next-token shift, the only place where it happens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def ranges(starts: Int64, lengths: Int64) -> Int64:
    """Concatenate `arange(start, start + length)` of each pair, int64 (sum of lengths,)."""
    before = np.cumsum(lengths) - lengths
    index: Int64 = np.repeat(starts - before, lengths)
    index += np.arange(len(index), dtype=np.int64)
    return index


def predicting_positions(starts: Int64, prompt_lengths: Int64, response_lengths: Int64) -> Int64:
    """Where each response token is predicted: the hidden state one position before the token.

    Response token t of a sequence stands at `start + prompt_length + t`; the model's output at
    `start + prompt_length + t - 1` is its distribution. The first one is predicted by the last
    prompt token; the output at the last response token predicts nothing that is stored.

    Args:
        starts: int64 (S,), position of each sequence's first token in the flat batch.
        prompt_lengths: int64 (S,), each at least 1.
        response_lengths: int64 (S,).

    Returns:
        int64 (R,), R = all response tokens, in the order of the sequences.
    """
    return ranges(starts + prompt_lengths - 1, response_lengths)
