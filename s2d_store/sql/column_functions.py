"""SQL functions over whole columns: what is computed elsewhere meets Arrow here.

Connections make them as s2d_store.sql.functions says, and load this file when SQL calls one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2d_store.encoding.list_columns import flat_lists
from s2d_store.encoding.token_text import decoded
from s2d_store.encoding.topk_ragged import pad_to_k
from s2d_store.encoding.topk_summary import Summary, summarize
from s2d_store.sql.bootstrap import mean_intervals

_INTERVAL = pa.struct([("low", pa.float64()), ("high", pa.float64())])


def bootstrap_interval(
    values: pa.ChunkedArray, resamples: pa.ChunkedArray, seed: pa.ChunkedArray
) -> pa.Array:
    """The 95% bootstrap interval of the mean of each list of numbers.

    Nulls inside a list are left out; null, and a list without numbers, have a null interval. Lists
    of one length are resampled alike.
    """
    samples = [
        np.array([x for x in row or () if x is not None], np.float64) for row in values.to_pylist()
    ]
    keys = [
        (len(sample), *how)
        for sample, *how in zip(samples, resamples.to_pylist(), seed.to_pylist(), strict=True)
    ]
    found: list[dict[str, float] | None] = [None] * len(samples)
    for key in set(keys):
        size, times, start = key
        if not size or times is None or start is None:
            continue
        rows = [i for i, other in enumerate(keys) if other == key]
        intervals = mean_intervals(np.stack([samples[i] for i in rows]), times, start)
        for i, (low, high) in zip(rows, intervals.tolist(), strict=True):
            found[i] = {"low": low, "high": high}
    return pa.array(found, _INTERVAL)


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
