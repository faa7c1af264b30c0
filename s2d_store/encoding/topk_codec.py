"""Top-k logprobs as files hold them, and back, bit for bit.

This file alone knows how; docs/format3-topk.md has it as formulas. Ids are ranks by frequency
(topk_ranks.py). Logprobs of a model whose logits are rounded (bfloat16, float16) differ within a
token by whole multiples of a power of two, so they are kept as whole steps below the token's
greatest: in a row that descends within every token, as gaps from one entry to the next, of two bits
each; elsewhere as the steps themselves, of eight. Numbers too large for that stand in a list.

    unit[t]         = logit_unit * 2 ** unit_exponents[t]
    steps[t, j]     = numbers[t, 0] + ... + numbers[t, j]   where `descending`, else numbers[t, j]
    logprobs[t, j]  = top_logprobs[t] - steps[t, j] * unit[t]                        in float32
    sampled_logprobs[t] = top_logprobs[t] - sampled_steps[t] * logit_unit            in float32

Entries that this does not give back in every bit (an infinity, a logit near 0) are kept one by one;
a row where they are many, as with float32 logits, keeps its logprobs as they are. Everything is
checked while it is written.

Dimensions: R rows, T tokens of one row, N tokens of all, K entries of a token, E entries of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s2d_store.encoding.arrays import (
    Bools,
    Offsets,
    binary_array,
    flat_binary,
    flat_list,
    kept_slices,
    list_column,
    number_array,
    numbers,
    offsets_of,
    row_counts,
    valid,
)
from s2d_store.encoding.list_columns import flat_lists
from s2d_store.encoding.topk_layout import Floats, Ints, runs
from s2d_store.encoding.topk_ranks import FAR, IDENTITY, N_SHORT, RankTable
from s2d_store.encoding.topk_steps import (
    LARGE_GAP,
    LARGE_STEP,
    MOST_STEPS,
    Steps,
    below,
    find,
)
from s2d_store.schema import EXACT_ENTRIES

# What files have instead of the columns that everybody else sees.
ID_COLUMNS = ("ranks_id", "rank_codes", "rank_lows", "far_ids")
STEP_COLUMNS = ("top_logprobs", "logit_unit")
LOGPROB_COLUMNS = ("descending", "unit_exponents", "numbers", "large_numbers", "exact_entries")
SAMPLED_COLUMNS = ("sampled_steps",)
COLUMNS = (*ID_COLUMNS, *STEP_COLUMNS, *LOGPROB_COLUMNS, *SAMPLED_COLUMNS)
_NEEDED = {
    "token_ids": ("k", "counts", *ID_COLUMNS),
    "logprobs": ("k", "counts", *STEP_COLUMNS, *LOGPROB_COLUMNS),
    "sampled_logprobs": (*STEP_COLUMNS, *SAMPLED_COLUMNS),
}

# A byte of four numbers -> four int32, taken as one value of 16 bytes.
_FOUR = (np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3).astype(np.int32)
_FOUR_AT_ONCE = np.ascontiguousarray(_FOUR).view(np.complex128).reshape(256)
_BLOCK_BYTES = 1 << 13

# Exponents -> powers of two; none is above 20.
_POWERS = np.ldexp(np.float32(1), np.minimum(np.arange(256), 127)).astype(np.float32)

Bytes = NDArray[np.uint8]
RankTables = Mapping[str | None, RankTable]


def stored_columns(wanted: Sequence[str], present: Sequence[str]) -> list[str]:
    """What to read of a file of table topk, so that `decode` returns the columns `wanted`."""
    if COLUMNS[0] not in present:
        return list(wanted)
    needed = [name for column in wanted for name in _NEEDED.get(column, ())]
    return list(dict.fromkeys([*wanted, *(name for name in needed if name in present)]))


def encode(table: pa.Table, ranks: RankTable = IDENTITY) -> pa.Table:
    """Rows of table topk as files hold them.

    Args:
        table: at least `k` int32; `token_ids` and `logprobs`, lists of one length, and
            `sampled_logprobs`, a list of T; optionally `counts`, lists of T int16 that are null
            where every token has k entries. No list but of `counts` is null.
        ranks: the rank table to write ids with.

    Returns:
        the same rows with COLUMNS besides. `token_ids` is null; of a row's `logprobs` and
        `numbers`, one is null; of its `sampled_logprobs` and `sampled_steps` too.
    """
    ids_E, id_offsets = flat_lists(table.column("token_ids"))
    logprobs_E, offsets = flat_lists(table.column("logprobs"))
    sampled_N, tokens = flat_lists(table.column("sampled_logprobs"))
    every = np.ones(table.num_rows, np.bool_)
    counts = table.column("counts").combine_chunks() if "counts" in table.column_names else None
    kinds, counts_N, entries = _shape(table.column("k").to_numpy(), counts, tokens, every)
    # A row whose lists do not fit each other is kept as it is.
    kinds[np.diff(entries) != np.diff(offsets)] = 0
    made = find(logprobs_E, kinds, counts_N, tokens, offsets)
    columns = {name: table.column(name) for name in table.column_names}
    columns["token_ids"] = pa.nulls(table.num_rows, pa.list_(pa.int32()))
    columns["logprobs"] = _floats(logprobs_E, offsets, made.units == 0)
    columns |= _id_columns(ids_E, id_offsets, ranks)
    columns |= _logprob_columns(made, logprobs_E, offsets, tokens)
    columns |= _sampled_columns(made, sampled_N, tokens)
    return pa.table(columns)


def decode(table: pa.Table, ranks: RankTables) -> pa.Table:
    """The inverse of `encode`, without COLUMNS; what was not encoded stays as it is.

    Args:
        table: rows of a file, with the columns that `stored_columns` names.
        ranks: rank tables by name, for those that the rows name; see `topk_ranks.from_rows`.

    Raises:
        ValueError: the columns of a row contradict each other.
        KeyError: a row names a rank table that `ranks` has not.
    """
    if not set(COLUMNS) & set(table.column_names):
        return table
    # Batches one by one: no column is copied together, and none outgrows 32-bit offsets.
    batches = table.to_batches() or table.schema.empty_table().to_batches(1)
    if not batches:
        batches = [pa.RecordBatch.from_pylist([], table.schema)]
    return pa.Table.from_batches([_decoded(batch, ranks) for batch in batches])


def _decoded(batch: pa.RecordBatch, ranks: RankTables) -> pa.RecordBatch:
    present, columns = set(batch.schema.names), {}
    for name in batch.schema.names:
        if name in COLUMNS:
            continue
        made = batch.column(name)
        if name == "token_ids" and present.issuperset(ID_COLUMNS):
            made = token_ids(*(batch.column(n) for n in ID_COLUMNS), ranks=ranks)
        elif name == "logprobs" and present.issuperset(LOGPROB_COLUMNS):
            counts = batch.column("counts") if "counts" in present else None
            parts = (batch.column(n) for n in (*STEP_COLUMNS, *LOGPROB_COLUMNS))
            made = logprobs(made, batch.column("k"), counts, *parts)
        elif name == "sampled_logprobs" and present.issuperset(SAMPLED_COLUMNS):
            parts = (batch.column(n) for n in (*STEP_COLUMNS, *SAMPLED_COLUMNS))
            made = sampled_logprobs(made, *parts)
        columns[name] = made
    return pa.RecordBatch.from_pydict(columns)


def token_ids(
    ranks_id: pa.Array,
    rank_codes: pa.Array,
    rank_lows: pa.Array,
    far_ids: pa.Array,
    *,
    ranks: RankTables,
) -> pa.ListArray:
    """Column `token_ids` of rows in a file; see `decode` for what is raised."""
    codes_E, offsets = flat_binary(rank_codes)
    lows, low_offsets = flat_binary(rank_lows)
    far, far_offsets = flat_list(far_ids)
    names = np.array(ranks_id.to_pylist(), object)
    changes = np.flatnonzero(names[1:] != names[:-1]) + 1
    cuts = [0, *changes.tolist(), len(names)] if len(names) else [0]
    made = [
        ranks[names[a]].decode(
            codes_E[offsets[a] : offsets[b]],
            lows[low_offsets[a] : low_offsets[b]],
            far[far_offsets[a] : far_offsets[b]],
        )
        for a, b in pairwise(cuts)
    ]
    # Mostly all rows name one table, and nothing is copied.
    ids_E = made[0] if len(made) == 1 else np.concatenate([np.empty(0, np.int32), *made])
    return list_column(number_array(ids_E), offsets, valid(rank_codes))


def logprobs(
    kept: pa.Array,
    k: pa.Array,
    counts: pa.Array | None,
    top_logprobs: pa.Array,
    logit_unit: pa.Array,
    descending: pa.Array,
    unit_exponents: pa.Array,
    codes: pa.Array,
    large_numbers: pa.Array,
    exact_entries: pa.Array,
) -> pa.ListArray:
    """Column `logprobs` of rows in a file; see `decode` for what is raised.

    `kept` is the column `logprobs` itself, `codes` is `numbers`; the others are named as theirs.
    """
    in_steps = valid(codes)
    if not in_steps.any():
        return kept
    tops_N, tokens = flat_list(top_logprobs)
    large, large_offsets = flat_list(large_numbers)
    packed, packed_offsets = flat_binary(codes)
    exponents_N, _ = flat_binary(unit_exponents)
    ks, counts_N, entries = _shape(numbers(k), counts, tokens, in_steps)
    flags = numbers(descending)
    numbers_E = _unpacked(packed, packed_offsets, entries, flags)
    values_E = numbers_E.view(np.float32)
    units = numbers(logit_unit)
    units_N = np.repeat(units, np.diff(tokens)) * _POWERS[exponents_N]
    for run in runs(ks, flags, tokens, entries, counts_N):
        whole, top_N, unit_N = numbers_E[run.entries], tops_N[run.tokens], units_N[run.tokens]
        descends = bool(flags[run.rows.start])
        limit = LARGE_GAP if descends else LARGE_STEP
        taken, last = large_offsets[run.rows.start], large_offsets[run.rows.stop]
        for of_tokens, of_entries, layout in run.layout.blocks():
            steps = whole[of_entries]
            at = np.flatnonzero(steps == limit)
            if taken + len(at) > last:
                raise ValueError("large_numbers are fewer than numbers say")
            steps[at] = large[taken : taken + len(at)]
            taken += len(at)
            if descends:
                steps = layout.sums(steps)
            made = below(
                layout.spread(top_N[of_tokens]),
                layout.shaped(steps),
                layout.spread(unit_N[of_tokens]),
            )
            values_E[run.entries][of_entries] = made.reshape(-1)
        if taken != last:
            raise ValueError("large_numbers are more than numbers say")
    _put_exact(values_E, entries, exact_entries)
    if in_steps.all():
        return list_column(number_array(values_E), entries, in_steps)
    kept_E, kept_offsets = flat_list(kept)
    lengths = np.where(in_steps, np.diff(entries), np.diff(kept_offsets))
    offsets, parts = offsets_of(lengths), np.empty(lengths.sum(), np.float32)
    for i, is_made in enumerate(in_steps.tolist()):
        source, cuts = (values_E, entries) if is_made else (kept_E, kept_offsets)
        parts[offsets[i] : offsets[i + 1]] = source[cuts[i] : cuts[i + 1]]
    return list_column(number_array(parts), offsets, in_steps | valid(kept))


def sampled_logprobs(
    kept: pa.Array, top_logprobs: pa.Array, logit_unit: pa.Array, sampled_steps: pa.Array
) -> pa.ListArray:
    """Column `sampled_logprobs` of rows in a file; `kept` is that column itself."""
    in_steps = valid(sampled_steps)
    if not in_steps.any():
        return kept
    steps_N, offsets = flat_list(sampled_steps)
    tops_N, top_offsets = flat_list(top_logprobs)
    tops_N, _ = kept_slices(tops_N, top_offsets, in_steps)
    units = numbers(logit_unit)
    made_N = below(tops_N, steps_N, np.repeat(units, np.diff(offsets)))
    made = list_column(number_array(made_N), offsets, in_steps)
    return made if in_steps.all() else pc.coalesce(kept, made)


# ---- ids


def _id_columns(ids_E: Ints, offsets: Offsets, ranks: RankTable) -> dict[str, pa.Array]:
    codes_E, lows, far_ids = ranks.encode(ids_E)
    rows = np.ones(len(offsets) - 1, np.bool_)
    far_counts = np.zeros(len(rows), np.int64)
    if len(far_ids):
        far_counts = row_counts(codes_E == FAR, offsets)
    low_counts = row_counts(codes_E >= N_SHORT, offsets) - far_counts
    return {
        "ranks_id": pa.array([ranks.ranks_id] * len(rows), pa.string()),
        "rank_codes": binary_array(codes_E, offsets, rows),
        "rank_lows": binary_array(lows, offsets_of(low_counts), rows),
        "far_ids": _where_any(number_array(far_ids), offsets_of(far_counts)),
    }


def _where_any(values: pa.Array, offsets: Offsets) -> pa.ListArray:
    """Lists that are null where they are empty."""
    return list_column(values, offsets, np.diff(offsets) > 0)


# ---- logprobs


def _shape(
    ks: Ints, counts: pa.Array | None, tokens: Offsets, usable_R: Bools
) -> tuple[Ints, Ints | None, Offsets]:
    """Kinds of rows (see `runs`), entries at each token, and offsets of rows among entries."""
    n_tokens = np.diff(tokens)
    kinds = np.where(usable_R & (n_tokens > 0), ks, 0).astype(np.int32)
    np.maximum(kinds, 0, out=kinds)
    lengths = n_tokens * kinds
    if counts is None or counts.null_count == len(counts):
        return kinds, None, offsets_of(lengths)
    flat, offsets = flat_list(counts)
    counts_N = np.zeros(tokens[-1], np.int32)
    for i in np.flatnonzero(valid(counts) & (kinds != 0)).tolist():
        own = flat[offsets[i] : offsets[i + 1]]
        if len(own) == n_tokens[i] and own.min() > 0:
            counts_N[tokens[i] : tokens[i + 1]] = own
            kinds[i], lengths[i] = -1, int(own.sum(dtype=np.int64))
        else:
            kinds[i] = lengths[i] = 0
    return kinds, counts_N, offsets_of(lengths)


def _logprob_columns(
    made: Steps, logprobs_E: Floats, offsets: Offsets, tokens: Offsets
) -> dict[str, pa.Array]:
    in_steps = made.units > 0
    numbers_E, entries = kept_slices(made.numbers_E, offsets, in_steps)
    packed, packed_offsets = _packed(numbers_E, entries, made.descending)
    large_at, large = made.large
    large_offsets = np.searchsorted(large_at, offsets)
    tops_N, token_offsets = kept_slices(made.tops_N, tokens, in_steps)
    exponents_N, _ = kept_slices(made.exponents_N, tokens, in_steps)
    rows = np.searchsorted(offsets, made.exact, side="right") - 1
    exact = pa.StructArray.from_arrays(
        [
            number_array((made.exact - offsets[rows]).astype(np.int32)),
            number_array(logprobs_E[made.exact]),
        ],
        fields=list(EXACT_ENTRIES.value_type),
    )
    exact_offsets = offsets_of(np.bincount(rows, minlength=len(in_steps)))
    return {
        "top_logprobs": list_column(number_array(tops_N), token_offsets, in_steps),
        "logit_unit": number_array(made.units, in_steps),
        "descending": number_array(made.descending, in_steps),
        "unit_exponents": binary_array(exponents_N, token_offsets, in_steps),
        "numbers": binary_array(packed, packed_offsets, in_steps),
        "large_numbers": list_column(number_array(large), large_offsets, in_steps),
        "exact_entries": _where_any(exact, exact_offsets),
    }


def _packed(numbers_E: Bytes, offsets: Offsets, descending_R: Bools) -> tuple[Bytes, Offsets]:
    """Rows of numbers as bytes: of rows that descend four to a byte, of others one each."""
    lengths = np.diff(offsets)
    made = offsets_of(np.where(descending_R, (lengths + 3) // 4, lengths))
    used = descending_R[lengths > 0]
    if not used.any():
        return numbers_E, made
    if used.all() and not (lengths % 4).any():
        return _four_to_a_byte(numbers_E), made
    rows = [np.zeros(0, np.uint8)]
    for a, b, descends in zip(offsets[:-1], offsets[1:], descending_R, strict=True):
        row = numbers_E[a:b]
        rows.append(_four_to_a_byte(np.pad(row, (0, -len(row) % 4))) if descends else row)
    return np.concatenate(rows), made


def _four_to_a_byte(numbers_E: Bytes) -> Bytes:
    """Numbers of two bits, the first in the lowest; a multiple of four of them."""
    four = np.ascontiguousarray(numbers_E).view("<u4")
    return np.asarray(four | four >> 6 | four >> 12 | four >> 18).astype(np.uint8)


def _unpacked(packed: Bytes, starts: Offsets, entries: Offsets, descending_R: Bools) -> Ints:
    """The inverse of `_packed`, as int32 (E,)."""
    lengths = np.diff(entries)
    if (np.where(descending_R, (lengths + 3) // 4, lengths) != np.diff(starts)).any():
        raise ValueError("the numbers of a row are not as many as its entries")
    used = descending_R[lengths > 0]
    if not used.any():
        return packed.astype(np.int32)
    if used.all() and not (lengths % 4).any():
        return _four_of_each(packed)
    made_E = np.empty(entries[-1], np.int32)
    for row, descends in enumerate(descending_R.tolist()):
        own, made = packed[starts[row] : starts[row + 1]], made_E[entries[row] : entries[row + 1]]
        made[:] = _four_of_each(own)[: len(made)] if descends else own
    return made_E


def _four_of_each(packed: Bytes) -> Ints:
    """The inverse of `_four_to_a_byte`, as int32."""
    made = np.empty(len(packed), np.complex128)
    # NumPy widens its indices to eight bytes: of a block they stay in a core's cache.
    for a in range(0, len(packed), _BLOCK_BYTES):
        b = a + _BLOCK_BYTES
        np.take(_FOUR_AT_ONCE, packed[a:b], out=made[a:b], mode="clip")
    return made.view(np.int32)


def _put_exact(values_E: Floats, entries: Offsets, exact: pa.Array) -> None:
    if exact.null_count == len(exact):
        return
    kept = exact.flatten()
    lengths = numbers(exact.value_lengths())
    at = numbers(kept.field("entry")) + np.repeat(entries[:-1], lengths)
    values_E[at] = numbers(kept.field("logprob"))


# ---- the sampled token's


def _sampled_columns(made: Steps, sampled_N: Floats, tokens: Offsets) -> dict[str, pa.Array]:
    """Steps of rows in which every token's come back; the others keep their floats."""
    units_N = np.repeat(made.units, np.diff(tokens))
    with np.errstate(all="ignore"):  # rows that are not in steps
        steps_N = np.rint((made.tops_N - sampled_N) / units_N)
        good_N = np.abs(steps_N) <= MOST_STEPS
        steps_N = np.where(good_N, steps_N, 0).astype(np.int32)
    good_N &= below(made.tops_N, steps_N, units_N).view(np.int32) == sampled_N.view(np.int32)
    bad = row_counts(~good_N, tokens) > 0
    in_steps = (made.units > 0) & ~bad
    steps_N, offsets = kept_slices(steps_N, tokens, in_steps)
    steps = list_column(number_array(steps_N), offsets, in_steps)
    return {"sampled_logprobs": _floats(sampled_N, tokens, ~in_steps), "sampled_steps": steps}


def _floats(flat: Floats, offsets: Offsets, keep_R: Bools) -> pa.ListArray:
    """Rows of `flat` as lists, null where they are not kept."""
    kept, cuts = kept_slices(flat, offsets, keep_R)
    return list_column(number_array(kept), cuts, keep_R)
