"""SQL functions over whole columns: what is computed elsewhere meets Arrow here.

Connections make them as s2d_store.sql.functions says, and load this file when SQL calls one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s2d_store import statistics
from s2d_store.encoding.list_columns import flat_lists
from s2d_store.encoding.token_text import decoded
from s2d_store.encoding.topk_ragged import pad_to_k
from s2d_store.encoding.topk_summary import Summary, summarize

_DIGITS = 9


def mean_interval(values: pa.ChunkedArray, bounded: pa.ChunkedArray) -> pa.Array:
    """Standard error and 95% interval of the mean of each list of numbers, one per unit.

    See s2d_store.statistics. Nulls inside a list are left out; null, and a list of fewer than two
    numbers, have null figures.
    """
    rows = zip(_samples(values), bounded.to_pylist(), strict=True)
    found = [
        statistics.mean_interval(sample, bounded=bool(share))._asdict() for sample, share in rows
    ]
    return pa.array(found, _struct(statistics.Interval))


def paired_test(differences: pa.ChunkedArray, margin: pa.ChunkedArray) -> pa.Array:
    """What each list of paired differences says of their mean; see s2d_store.statistics.

    Nulls inside a list are left out; a null margin tests no equivalence.
    """
    rows = zip(_samples(differences), margin.to_pylist(), strict=True)
    found = [statistics.paired_test(sample, within)._asdict() for sample, within in rows]
    return pa.array(found, _struct(statistics.PairedTest))


def _samples(lists: pa.ChunkedArray) -> Iterator[NDArray[np.float64]]:
    """The numbers of each list, rounded and sorted, so that the order of rows changes no digit."""
    for row in lists:
        numbers = pc.drop_null(row.values) if row.is_valid else pa.array([], pa.float64())
        yield np.sort(np.round(numbers.to_numpy(zero_copy_only=False), _DIGITS))


def _struct(fields: type[NamedTuple]) -> pa.DataType:
    return pa.struct([(name, pa.float64()) for name in fields._fields])


def topk_summary(
    token_ids: pa.ChunkedArray,
    logprobs: pa.ChunkedArray,
    k: pa.ChunkedArray,
    counts: pa.ChunkedArray,
) -> pa.Array:
    """Of rows of stored top-k: lists with one entry per token of top, entropy and tail.

    Rows with k = 0 have empty lists.
    """
    rows = {"token_ids": token_ids, "logprobs": logprobs, "k": k, "counts": counts}
    padded = pad_to_k(pa.table(rows))
    ids, offsets = flat_lists(padded.column("token_ids"))
    values, _ = flat_lists(padded.column("logprobs"))
    entries = k.to_numpy()
    found = []
    # Rows of one k lie side by side as a rule: each such stretch is one array.
    for rows in np.split(np.arange(len(entries)), np.flatnonzero(np.diff(entries)) + 1):
        if len(rows):
            part = slice(offsets[rows[0]], offsets[rows[-1] + 1])
            shape = (-1, max(1, int(entries[rows[0]])))
            found.append(summarize(ids[part].reshape(shape), values[part].reshape(shape)))
    n_tokens = np.diff(offsets) // np.maximum(entries, 1)
    ends = np.concatenate(([0], np.cumsum(n_tokens))).astype(np.int32)
    columns = (np.concatenate(column) for column in zip(*found, strict=True))
    lists = [pa.ListArray.from_arrays(pa.array(ends), pa.array(column)) for column in columns]
    return pa.StructArray.from_arrays(lists, names=list(Summary._fields))


def token_text(tokens: pa.ChunkedArray, byte_level: pa.ChunkedArray) -> pa.Array:
    """The text of tokens as a tokenizer spells them; see s2d_store.encoding.token_text."""
    # Tokens repeat, so each spelling is decoded once.
    encoded = tokens.combine_chunks().dictionary_encode()
    kind = pc.fill_null(byte_level, False).combine_chunks()
    texts = [
        pa.array([decoded(token, way) for token in encoded.dictionary.to_pylist()], pa.string())
        for way in ((True, False) if kind.true_count else (False,))
    ]
    if len(texts) == 1:
        return texts[0].take(encoded.indices)
    return pc.if_else(kind, texts[0].take(encoded.indices), texts[1].take(encoded.indices))
