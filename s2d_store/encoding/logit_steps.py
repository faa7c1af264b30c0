"""Logprobs of a top-k as whole steps below each token's greatest: smaller, and lossless.

A model whose logits are rounded (bfloat16, float16) gives logprobs that differ within a token by
multiples of a power of two. Table topk stores them so, bit for bit, in float32:

    logprobs[t, j] = top_logprobs[t] - logit_steps[t, j] * logit_unit

A row that this does not give back in every bit, as with float32 logits, keeps its logprobs, or is
rounded to a coarser unit where that was asked for (s2d_store/encoding/topk_rounding.py).
Dimensions: R rows of a table, T tokens of one row, N tokens of several, K top-k entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.list_columns import flat_lists, from_numpy, list_array, to_numpy
from s2d_store.schema import FILES_ALONE

# bfloat16 logits above 1/16 are multiples of the first, float16 logits above 1/128 of the second.
UNITS = (2.0**-12, 2.0**-18)
COLUMNS = FILES_ALONE["topk"]
# Up to this many, their product with a unit is exact in float32.
_MOST_STEPS = 1 << 24
# What is worked on at a time stays in a core's cache.
_BLOCK_ENTRIES = 1 << 15

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


def stored_columns(wanted: Sequence[str], present: Sequence[str]) -> list[str]:
    """What to read of a file of table topk, so that `plain` gives the columns `wanted`."""
    if "logprobs" not in wanted or "logit_steps" not in present:
        return list(wanted)
    return [*wanted, *(name for name in ("k", *COLUMNS) if name not in wanted)]


def to_steps(logprobs_NK: Floats, top_N: Floats, unit: float, steps_NK: Ints) -> NDArray[np.bool_]:
    """Write steps below `top_N` to `steps_NK`; returns the tokens they give back, bool (N,).

    A token whose top is no finite number is not given back.
    """
    n_tokens, k = logprobs_NK.shape
    exact_N = np.isfinite(top_N)
    block = max(1, _BLOCK_ENTRIES // k)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities: not given back
        for start in range(0, n_tokens, block):
            rows = slice(start, start + block)
            below_NK = top_N[rows, None] - logprobs_NK[rows]
            below_NK *= np.float32(1 / unit)
            steps_NK[rows] = np.rint(below_NK, out=below_NK)
            back_NK = from_steps(top_N[rows], steps_NK[rows], np.float32(unit))
            same_NK = back_NK.view(np.int32) == logprobs_NK[rows].view(np.int32)
            exact_N[rows] &= same_NK.all(axis=1)
    return exact_N


def from_steps(top_N: Floats, steps_NK: Ints, unit: np.float32 | Floats) -> Floats:
    """Logprobs float32 (N, K); `unit` is one for all tokens, or float32 (N, 1)."""
    back_NK = steps_NK.astype(np.float32)
    back_NK *= unit
    return np.subtract(top_N[:, None], back_NK, out=back_NK)


def encode(table: pa.Table) -> pa.Table:
    """Rows of table topk as they are stored: in steps wherever that loses nothing.

    Args:
        table: at least `k` int32 (R,) and `logprobs`, lists of T*k float32 without nulls.

    Returns:
        the same rows with COLUMNS besides; of them and `logprobs`, one is null.
    """
    ks = table.column("k").to_numpy()
    flat, offsets = flat_lists(table.column("logprobs"))
    n_rows = len(ks)
    n_tokens = np.diff(offsets) // np.maximum(ks, 1)
    token_offsets = np.concatenate([[0], np.cumsum(n_tokens)])
    steps, tops = np.empty(len(flat), np.int32), np.empty(token_offsets[-1], np.float32)
    units = np.zeros(n_rows, np.float32)
    for first, last in _runs(ks, np.diff(offsets)):
        entries, k = slice(offsets[first], offsets[last]), int(ks[first])
        logprobs_NK, steps_NK = flat[entries].reshape(-1, k), steps[entries].reshape(-1, k)
        top_N = tops[token_offsets[first] : token_offsets[last]]
        # The scorer's own first entry; of another's ids, the likeliest loses least to rounding.
        logprobs_NK.max(axis=1, out=top_N)
        cuts = token_offsets[first : last + 1] - token_offsets[first]
        exact_N = to_steps(logprobs_NK, top_N, UNITS[0], steps_NK)
        whole = np.logical_and.reduceat(exact_N, cuts[:-1])
        units[first:last] = np.where(whole, np.float32(UNITS[0]), 0)
        for i in np.flatnonzero(~whole).tolist():
            row = slice(cuts[i], cuts[i + 1])
            units[first + i] = _finer(logprobs_NK[row], top_N[row], steps_NK[row])
    in_steps = units > 0
    columns = {name: table.column(name) for name in table.column_names}
    columns["logprobs"] = _lists(flat, offsets, ~in_steps, pa.float32())
    columns["top_logprobs"] = _lists(tops, token_offsets, in_steps, pa.float32())
    columns["logit_steps"] = _lists(steps, offsets, in_steps, pa.int32())
    columns["logit_unit"] = pa.array(units, mask=~in_steps)
    return pa.table(columns)


def decode(table: pa.Table) -> pa.Table:
    """The inverse of `stored`, without COLUMNS; a table that has none of them stays as it is."""
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
            back_NK[rows] = from_steps(top_N[rows], steps_NK[rows], unit_N[rows, None])
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


def _lists(
    flat: Floats | Ints, offsets: NDArray[np.int64], kept: NDArray[np.bool_], type_: pa.DataType
) -> pa.ListArray:
    """Rows of `flat` as a list column, null where they are not `kept`."""
    if kept.all():  # as nearly always: nothing is copied
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(flat, type_))
    rows = zip(kept.tolist(), pairwise(offsets.tolist()), strict=True)
    return list_array([flat[a:b] if keep else None for keep, (a, b) in rows], type_)


def _finer(logprobs_TK: Floats, top_T: Floats, steps_TK: Ints) -> float:
    """Write one row's steps of the first finer unit that gives it back; the unit, or 0 if none."""
    for unit in UNITS[1:]:
        # One token tells apart logits that were never rounded, at next to no cost.
        if (
            to_steps(logprobs_TK[:1], top_T[:1], unit, steps_TK[:1]).all()
            and to_steps(logprobs_TK, top_T, unit, steps_TK).all()
        ):
            return unit
    return 0.0


def _runs(ks: NDArray[np.int32], lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that have the same k and are not empty."""
    usable = np.where((ks > 0) & (lengths > 0) & (lengths % np.maximum(ks, 1) == 0), ks, 0)
    cuts = [0, *(np.flatnonzero(np.diff(usable)) + 1).tolist(), len(usable)]
    yield from ((a, b) for a, b in pairwise(cuts) if a < b and usable[a])
