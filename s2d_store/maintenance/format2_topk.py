"""Top-k of format 2: logprobs as whole steps below each token's largest, in lists.

    logprobs[t, j] = top_logprobs[t] - logit_steps[t, j] * logit_unit

Only a migration reads it. A row whose `logprobs` are not null has no steps.
Dimensions: N tokens of several rows, K entries of a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.list_columns import flat_lists, from_numpy, list_array, to_numpy

COLUMNS = ("top_logprobs", "logit_steps", "logit_unit")
# What is worked on at a time stays in a core's cache.
_BLOCK_ENTRIES = 1 << 15

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


def decode(table: pa.Table) -> pa.Table:
    """Rows with plain logprobs, bit for bit, without COLUMNS; others stay as they are."""
    if "logit_steps" not in table.column_names:
        return table
    rest = table.drop_columns(list(COLUMNS))
    in_steps = to_numpy(table.column("logit_unit").is_valid())
    if not in_steps.any():
        return rest
    steps, offsets = flat_lists(table.column("logit_steps"))
    tops, top_offsets = flat_lists(table.column("top_logprobs"))
    units = to_numpy(table.column("logit_unit"))
    list_type = rest.schema.field("logprobs").type
    lengths = np.diff(offsets)
    back = np.empty(len(steps), np.float32)
    for first, last in _runs(to_numpy(table.column("k")), lengths):
        entries = slice(offsets[first], offsets[last])
        unit_N = np.repeat(units[first:last], np.diff(top_offsets[first : last + 1]))
        top_N = tops[top_offsets[first] : top_offsets[last]]
        steps_NK = steps[entries].reshape(len(top_N), -1)
        block = max(1, _BLOCK_ENTRIES // steps_NK.shape[1])
        back_NK = back[entries].reshape(steps_NK.shape)
        for start in range(0, len(top_N), block):
            rows = slice(start, start + block)
            back_NK[rows] = _from_steps(top_N[rows], steps_NK[rows], unit_N[rows, None])
    if in_steps.all():
        cuts = from_numpy(offsets.astype(np.int32))
        made = pa.ListArray.from_arrays(cuts, from_numpy(back), list_type)
    else:
        kept, kept_offsets = flat_lists(table.column("logprobs"))
        made = list_array(
            [
                back[offsets[i] : offsets[i + 1]]
                if in_steps[i]
                else kept[kept_offsets[i] : kept_offsets[i + 1]]
                for i in range(len(in_steps))
            ],
            pa.float32(),
            list_type,
        )
    return rest.set_column(rest.column_names.index("logprobs"), "logprobs", made)


def _from_steps(top_N: Floats, steps_NK: Ints, unit: np.float32 | Floats) -> Floats:
    """Logprobs float32 (N, K); `unit` is one for all tokens, or float32 (N, 1)."""
    back_NK = steps_NK.astype(np.float32)
    back_NK *= unit
    return np.subtract(top_N[:, None], back_NK, out=back_NK)


def _runs(ks: NDArray[np.int32], lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that have the same k and are not empty."""
    usable = np.where((ks > 0) & (lengths > 0) & (lengths % np.maximum(ks, 1) == 0), ks, 0)
    cuts = [0, *(np.flatnonzero(np.diff(usable)) + 1).tolist(), len(usable)]
    yield from ((a, b) for a, b in pairwise(cuts) if a < b and usable[a])
