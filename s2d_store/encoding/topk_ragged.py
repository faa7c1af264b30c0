"""Ragged top-k: at each token the fewest entries that reach a probability mass.

Where a teacher is sure of a token, a few entries hold all but a thousandth of its probability, and
the rest of a fixed k is bytes. What is kept stays exact, and with the tail in one bucket so is a
loss on what is kept (trainers/losses).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.arrays import (
    flat_list,
    list_column,
    number_array,
    offsets_of,
    row_counts,
    valid,
)

Bools = NDArray[np.bool_]
# As trainers have it, whose losses take no notice of it.
PAD_ID = -1


def keep_mass(table: pa.Table, mass: float) -> pa.Table:
    """Keep at each token the fewest entries whose probabilities sum to `mass`, in their order.

    The likeliest are kept, the earlier of two that are alike. A token whose entries sum to less
    keeps all of them; every token keeps at least one.

    Args:
        table: plain rows of table topk: `k`, `token_ids` and `logprobs`, optionally `counts`.
        mass: in (0, 1].

    Returns:
        the same rows with `counts`, lists of int16, where a row lost an entry; `k` stays.

    Raises:
        ValueError: `mass` is not in (0, 1].
    """
    if not 0 < mass <= 1:
        raise ValueError(f"a mass of {mass:g} is not in (0, 1]")
    ids_E, offsets = flat_list(_whole(table, "token_ids"))
    logprobs_E, _ = flat_list(_whole(table, "logprobs"))
    _, tokens = flat_list(_whole(table, "sampled_logprobs"))
    ragged = "counts" in table.column_names
    counts = _whole(table, "counts") if ragged else pa.nulls(table.num_rows, pa.list_(pa.int16()))
    old_N, old_offsets = flat_list(counts)
    given = valid(counts)
    keep_E, counts_N = np.ones(len(ids_E), np.bool_), np.zeros(tokens[-1], np.int16)
    cut = given.copy()
    for row, k in enumerate(table.column("k").to_pylist()):
        a, b, of_tokens = offsets[row], offsets[row + 1], slice(tokens[row], tokens[row + 1])
        if a == b:
            continue
        own = old_N[old_offsets[row] : old_offsets[row + 1]] if given[row] else None
        sizes_T = np.full(of_tokens.stop - of_tokens.start, k) if own is None else own
        keep_E[a:b], counts_N[of_tokens] = _fewest(logprobs_E[a:b], sizes_T, mass)
        cut[row] |= not keep_E[a:b].all()
    cuts, every = offsets_of(row_counts(keep_E, offsets)), np.ones(table.num_rows, np.bool_)
    counted = counts_N[np.repeat(cut, np.diff(tokens))]
    made = {
        "token_ids": list_column(number_array(ids_E[keep_E]), cuts, every),
        "logprobs": list_column(number_array(logprobs_E[keep_E]), cuts, every),
        "counts": list_column(
            number_array(counted), offsets_of(np.where(cut, np.diff(tokens), 0)), cut
        ),
    }
    columns = {name: made.get(name, table.column(name)) for name in table.column_names}
    return pa.table(columns | made)


def pad_to_k(table: pa.Table) -> pa.Table:
    """Rows with k entries at each token: where there are fewer, ids are PAD_ID, logprobs -inf.

    Args:
        table: `k`, `counts` and of `token_ids` and `logprobs` what is there; without `counts`, or
            where all of them are null, it is returned as it is.
    """
    if "counts" not in table.column_names or table.column("counts").null_count == table.num_rows:
        return table
    table = table.combine_chunks()
    counts = _whole(table, "counts")
    counts_N, offsets = flat_list(counts)
    ragged, ks = valid(counts), table.column("k").to_pylist()
    for name, pad in (("token_ids", PAD_ID), ("logprobs", -np.inf)):
        if name not in table.column_names:
            continue
        values, cuts = flat_list(_whole(table, name))
        parts = [values[:0]]
        for row, k in enumerate(ks):
            own = values[cuts[row] : cuts[row + 1]]
            if ragged[row]:
                sizes_T = counts_N[offsets[row] : offsets[row + 1]]
                has_TK = np.arange(k) < sizes_T[:, None]
                padded_TK = np.full(has_TK.shape, pad, values.dtype)
                padded_TK[has_TK] = own
                own = padded_TK.reshape(-1)
            parts.append(own)
        made = list_column(
            number_array(np.concatenate(parts)),
            offsets_of(np.array([len(part) for part in parts[1:]], np.int64)),
            np.ones(table.num_rows, np.bool_),
        )
        table = table.set_column(table.column_names.index(name), name, made)
    return table


def _fewest(
    logprobs_E: NDArray[np.float32], sizes_T: NDArray[np.integer], mass: float
) -> tuple[Bools, NDArray[np.int16]]:
    """What a row keeps, bool (E,), and how much of it at each token, int16 (T,)."""
    places_K = np.arange(sizes_T.max())
    has_TK = places_K < sizes_T[:, None]
    logprobs_TK = np.full(has_TK.shape, -np.inf)
    logprobs_TK[has_TK] = logprobs_E
    # Logprobs are at most 0; what a program commits is not checked.
    probs_TK = np.exp(np.minimum(np.where(np.isnan(logprobs_TK), -np.inf, logprobs_TK), 1))
    descends = (probs_TK[:, 1:] <= probs_TK[:, :-1]).all()  # as a scorer's own do: nothing to sort
    order_TK = None if descends else np.argsort(-probs_TK, axis=1, kind="stable")
    sorted_TK = probs_TK if order_TK is None else np.take_along_axis(probs_TK, order_TK, 1)
    # An entry is kept while those before it fall short of the mass.
    keep_TK = np.ones(has_TK.shape, np.bool_)
    keep_TK[:, 1:] = np.cumsum(sorted_TK, axis=1)[:, :-1] < mass
    if order_TK is not None:
        short_TK = keep_TK.copy()
        np.put_along_axis(keep_TK, order_TK, short_TK, 1)
    keep_TK &= has_TK
    return keep_TK[has_TK], keep_TK.sum(axis=1).astype(np.int16)


def _whole(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks()
