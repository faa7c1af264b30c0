"""Tokens of rows laid end to end: what was sampled, as ids, labels and masks.

Dimensions: R rows, P and T prompt and response tokens of a row, L = P + T, N tokens of all rows,
k top-k entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.list_columns import flat_lists, from_numpy
from s2d_store.numerics import Int64, ranges

# What trainers leave out of a loss.
IGNORED = -100


@dataclass(frozen=True)
class Sequences:
    """Prompt and response tokens of R rows, sequence after sequence.

    Attributes:
        ids: int32 (N,).
        offsets: int64 (R + 1,), row r holds `ids[offsets[r]:offsets[r + 1]]`.
        prompts: int64 (R,), prompt tokens of each row.
        sampled: bool (N,), response tokens that the policy sampled.
    """

    ids: NDArray[np.int32]
    offsets: Int64
    prompts: Int64
    sampled: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int32]:
        """int32 (N,): the id where the policy sampled it, else IGNORED."""
        return np.where(self.sampled, self.ids, np.int32(IGNORED)).astype(np.int32)

    @property
    def predicting(self) -> NDArray[np.bool_]:
        """Bool (N,): positions whose output predicts a token that the policy sampled, in the same
        row: one to the left of `sampled`.
        """
        shifted = np.append(self.sampled[1:], False)
        shifted[self.offsets[1:] - 1] = False
        return shifted


def sequences(table: pa.Table) -> Sequences:
    """Lay out rows.

    Args:
        table: prompt_token_ids, response_token_ids and, where there are other tokens than sampled
            ones, response_mask (null or empty: all of them).
    """
    prompts, prompt_offsets = flat_lists(table.column("prompt_token_ids"))
    responses, response_offsets = flat_lists(table.column("response_token_ids"))
    p, t = np.diff(prompt_offsets), np.diff(response_offsets)
    offsets = np.concatenate([[0], np.cumsum(p + t)])
    ids = np.empty(int(offsets[-1]), np.int32)
    sampled = np.zeros(len(ids), np.bool_)
    at_response = ranges(offsets[:-1] + p, t)
    ids[ranges(offsets[:-1], p)] = prompts
    ids[at_response] = responses
    sampled[at_response] = _mask(table, t)
    return Sequences(ids, offsets, p, sampled)


def _mask(table: pa.Table, response_lengths: Int64) -> NDArray[np.bool_]:
    """Which response tokens were sampled, end to end."""
    whole = np.ones(int(response_lengths.sum()), np.bool_)
    if "response_mask" not in table.column_names:
        return whole
    mask, cuts = flat_lists(table.column("response_mask"))
    given = np.diff(cuts) > 0
    starts = np.cumsum(response_lengths) - response_lengths
    whole[ranges(starts[given], response_lengths[given])] = mask
    return whole


def lists(values: NDArray[Any], offsets: Int64) -> pa.ListArray:
    """Values end to end as a list column."""
    return pa.ListArray.from_arrays(from_numpy(offsets.astype(np.int32)), arrow(values))


def arrow(values: NDArray[Any]) -> pa.Array:
    """A NumPy array as an Arrow one."""
    return pa.array(values) if values.dtype == np.bool_ else from_numpy(values)


def topk_lists(table: pa.Table) -> dict[str, pa.ListArray]:
    """Columns topk_token_ids and topk_logprobs as lists by token: at most k entries each.

    Entries that only pad a token to k are left out.

    Args:
        table: k, topk_token_ids, topk_logprobs (flat, k entries per token), response_token_ids.
    """
    ids, _ = flat_lists(table.column("topk_token_ids"))
    logprobs, _ = flat_lists(table.column("topk_logprobs"))
    _, tokens = flat_lists(table.column("response_token_ids"))
    ks = np.repeat(table.column("k").to_numpy().astype(np.int64), np.diff(tokens))
    real = ids >= 0
    before = np.concatenate([[0], np.cumsum(real)])
    ends = np.concatenate([[0], np.cumsum(ks)])
    inner = before[ends]
    return {
        "topk_token_ids": _nested(ids[real], inner, tokens),
        "topk_logprobs": _nested(logprobs[real], inner, tokens),
    }


def _nested(values: NDArray[Any], inner: Int64, outer: Int64) -> pa.ListArray:
    by_token = pa.ListArray.from_arrays(from_numpy(inner.astype(np.int32)), from_numpy(values))
    return pa.ListArray.from_arrays(from_numpy(outer.astype(np.int32)), by_token)
