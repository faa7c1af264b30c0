"""What stored top-k says of each token: the likeliest id, entropy, and the mass that is left out.

Sizes: `R` rollouts, `T` tokens, `k` entries per token.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Summary(NamedTuple):
    """Of each token: the likeliest stored id (T,), entropy in nats and tail mass (T,) float64.

    Entropy is the sum of -p ln p over the stored entries; tail mass is 1 less their sum.
    """

    top: NDArray[np.int32]
    entropy: NDArray[np.float64]
    tail: NDArray[np.float64]


def summarize(token_ids_Tk: NDArray[np.int32], logprobs_Tk: NDArray[np.float32]) -> Summary:
    """Summarize top-k of k entries per token, in any order within a token."""
    logprobs = logprobs_Tk.astype(np.float64)
    p = np.exp(logprobs)
    best = logprobs.argmax(axis=1) if len(p) else np.empty(0, np.int64)
    top = token_ids_Tk[np.arange(len(best)), best]
    # An entry of probability 0 is spelled -inf, and adds nothing.
    entropy = -np.where(p > 0, p * np.where(p > 0, logprobs, 0.0), 0.0).sum(axis=1)
    return Summary(top, entropy, np.maximum(0.0, 1.0 - p.sum(axis=1)))
