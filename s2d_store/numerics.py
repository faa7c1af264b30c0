"""What engines and trainers must do alike: the next-token shift, and a model's logit transform.

Each happens here and nowhere else. Needs NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

    def __call__(self, logits: Any) -> Any:
        """Apply it to the head's output: a floating point torch tensor of any shape."""
        logits = logits if self.scale == 1 else logits * self.scale
        return (logits / self.softcap).tanh() * self.softcap if self.softcap else logits

    def at_temperature(self, temperature: float) -> LogitTransform:
        """The logits divided by a temperature: c tanh(x / c) / T = (c/T) tanh((x/T) / (c/T))."""
        return LogitTransform(self.scale / temperature, self.softcap / temperature)
