"""The lossy mode of top-k logprobs: rounded to whole steps where steps would lose something.

It is for logits in float32, whose logprobs are most of their file. Those of bfloat16 or float16
logits are nearly all stored in exact steps (encoding/logit_steps.py), and what is stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from s2d_store.encoding import logit_steps
from s2d_store.encoding.list_columns import flat_lists
from s2d_store.errors import InputError
from s2d_store.store import Store

# Below, exact steps are as coarse; above, a token's likeliest entries become alike.
LEAST_NATS, MOST_NATS = 0.00025, 0.125


@dataclass
class Rounding:
    """Rounds rows of table topk by at most `nats`, and counts what that came to.

    Attributes:
        nats: most that a logprob may be off by; 0 rounds nothing.
        entries: logprobs that were rounded.
        largest: the largest error among them, in nats.
        total: the sum of their errors, in nats.
    """

    nats: float
    entries: int = 0
    largest: float = 0.0
    total: float = 0.0

    def __post_init__(self) -> None:
        """Check `nats`.

        Raises:
            InputError: it is no error that can be kept.
        """
        if self.nats and not LEAST_NATS <= self.nats <= MOST_NATS:
            raise InputError(
                f"--lossy {self.nats:g} is out of range",
                f"logprobs can be off by {LEAST_NATS:g} to {MOST_NATS:g} nats; 0 keeps every bit",
                "--lossy 0.001",
            )

    def require_steps(self, store: Store) -> None:
        """Refuse a store whose files have no columns of steps.

        Raises:
            InputError: its format is version 1.
        """
        if self.nats and store.format_version < 2:
            raise InputError(
                f"the store at {store.root} has format version {store.format_version}",
                "it keeps every logprob as it is: --lossy wants version 2",
                "leave --lossy out, or use a new store: s2d init --store FOLDER",
            )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows as they are to be stored; `table` itself where nothing is to be rounded."""
        if not self.nats:
            return table
        made = logit_steps.encode(table, self.nats)
        rounded = np.flatnonzero(logit_steps.rounded_by(made))
        if len(rounded):
            before, after = (
                flat_lists(rows.take(rounded).column("logprobs"))[0]
                for rows in (table, logit_steps.decode(made))
            )
            errors = np.abs(before.astype(np.float64) - after)
            self.entries += len(errors)
            self.largest = max(self.largest, float(errors.max()))
            self.total += float(errors.sum())
        return made

    def __str__(self) -> str:
        """What it came to, in one line."""
        if not self.entries:
            return "no logprob was rounded"
        mean = self.total / self.entries
        return (
            f"{self.entries:,} top-k logprobs rounded: off by {mean:.2g} nats in the mean, "
            f"{self.largest:.2g} at most"
        )
