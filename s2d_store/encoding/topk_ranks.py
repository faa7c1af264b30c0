"""Top-k ids as ranks by frequency: a frequent id takes one byte, nearly all others two.

A rank table lists ids from the most frequent down. It is built once, from the first rows that a
tokenizer's scorer leaves in a store, and never changes: its name is a hash of what it holds, and
every row of table topk says which table its ids were written with. Two writers that each build one
at the same moment therefore leave two good tables.

Of an entry whose id has rank r, one byte is its code, and some codes have a second byte:

    code 0..63     r = code
    code 64..254   r = 64 + (code - 64) * 256 + low byte
    code 255       no rank: the id itself stands in a list of int32

Dimensions: E entries, V ids of a rank table.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.encoding.arrays import flat_list
from s2d_store.encoding.list_columns import list_array

Ids = NDArray[np.int32]
Bytes = NDArray[np.uint8]

N_SHORT = 64
FAR = 255
MOST_RANKS = N_SHORT + (FAR - N_SHORT) * 256
# An id above this is never looked up: it would be a table of that many bytes.
_MOST_ID = 1 << 22

_BLOCK_ENTRIES = 1 << 15
_LOW_BYTE = 0 if sys.byteorder == "little" else 1


@dataclass(frozen=True, eq=False)
class RankTable:
    """Ids by descending frequency.

    Attributes:
        ranks_id: hash of `token_ids`; None for the table in which every id is its own rank.
        token_ids: int32 (V,), distinct, at least 0, at most `MOST_RANKS` of them.
    """

    ranks_id: str | None
    token_ids: Ids

    @cached_property
    def _code_of_id(self) -> NDArray[np.uint16]:
        """Code * 256 + low byte by id, (largest id + 2,); the last is any other id's."""
        ranks = np.arange(len(self.token_ids))
        beyond = np.maximum(ranks - N_SHORT, 0)
        codes = np.where(ranks < N_SHORT, ranks << 8, (N_SHORT << 8) + beyond)
        made = np.full(int(self.token_ids.max(initial=-1)) + 2, FAR << 8, np.uint16)
        made[self.token_ids] = codes
        return made

    @cached_property
    def _id_of_code(self) -> Ids:
        """Ids by code * 256 + low byte, int32 (65536,): -1 where there is none, 0 for FAR."""
        made = np.full(1 << 16, -1, np.int32)
        short, long = self.token_ids[:N_SHORT], self.token_ids[N_SHORT:]
        made[np.arange(len(short)) << 8] = short
        made[(N_SHORT << 8) + np.arange(len(long))] = long
        made[FAR << 8 :] = 0
        return made

    def encode(self, token_ids_E: Ids) -> tuple[Bytes, Bytes, Ids]:
        """Codes uint8 (E,), low bytes uint8 of codes 64..254, ids int32 of codes 255."""
        codes_E = np.empty(len(token_ids_E), np.uint8)
        lows, far_ids = [np.zeros(0, np.uint8)], [np.zeros(0, np.int32)]
        for a in range(0, len(token_ids_E), _BLOCK_ENTRIES):
            ids = token_ids_E[a : a + _BLOCK_ENTRIES]
            # "clip" is the fast way of np.take: ids above clip to the last, which is FAR's.
            both = np.take(self._code_of_id, ids, mode="clip")
            if ids.min() < 0:
                both[ids < 0] = FAR << 8
            codes_E[a : a + _BLOCK_ENTRIES] = both >> 8
            long = np.take(both, np.flatnonzero(both >= N_SHORT << 8), mode="clip")
            is_far = both >= FAR << 8
            if is_far.any():
                far_ids.append(ids[is_far])
                long = long[long < FAR << 8]
            lows.append(long.astype(np.uint8))
        return codes_E, np.concatenate(lows), np.concatenate(far_ids)

    def decode(self, codes_E: Bytes, lows: Bytes, far_ids: Ids) -> Ids:
        """The inverse of `encode`, int32 (E,).

        Raises:
            ValueError: the three do not belong together, or the table lacks a rank.
        """
        ids_E = np.empty(len(codes_E), np.int32)
        taken = 0
        for a in range(0, len(codes_E), _BLOCK_ENTRIES):
            codes, ids = codes_E[a : a + _BLOCK_ENTRIES], ids_E[a : a + _BLOCK_ENTRIES]
            both = codes.astype(np.uint16)
            both <<= 8
            has_low = codes >= N_SHORT
            if len(far_ids):
                has_low &= codes != FAR
            at = np.flatnonzero(has_low)
            if taken + len(at) > len(lows):
                raise ValueError("rank_lows are fewer than rank_codes say")
            # The low half of each, as bytes: little-endian, whatever the machine is.
            both.view(np.uint8)[_LOW_BYTE::2][at] = lows[taken : taken + len(at)]
            taken += len(at)
            np.take(self._id_of_code, both, out=ids, mode="clip")
            if ids.min() < 0:
                raise ValueError(f"rank table {self.ranks_id} lacks a rank that a row names")
        if taken != len(lows):
            raise ValueError("rank_lows are more than rank_codes say")
        if len(far_ids):
            is_far_E = codes_E == FAR
            if np.count_nonzero(is_far_E) != len(far_ids):
                raise ValueError("far_ids are not as many as rank_codes say")
            ids_E[is_far_E] = far_ids
        return ids_E


def named(token_ids: Ids) -> RankTable:
    """The rank table of these ids, named by their hash."""
    kept = np.ascontiguousarray(token_ids[:MOST_RANKS], dtype="<i4")
    return RankTable(hashlib.sha256(kept.tobytes()).hexdigest()[:16], kept)


def build(columns: Iterable[pa.ChunkedArray], vocab_size: int) -> RankTable:
    """A rank table of the ids in list columns, from the most frequent down; ties by id.

    Ids of the vocabulary that were not seen follow in order: a tokenizer's ids are roughly by
    frequency themselves.

    Args:
        columns: lists of int32, such as `token_ids` of table topk.
        vocab_size: ids lie in [0, vocab_size); others are not counted.
    """
    size = min(vocab_size, _MOST_ID)
    counts_V = np.zeros(size, np.int64)
    for column in columns:
        for chunk in column.chunks:
            ids, _ = flat_list(chunk)
            counts_V += np.bincount(ids[(ids >= 0) & (ids < size)], minlength=size)
    return named(np.argsort(-counts_V, kind="stable").astype(np.int32))


IDENTITY = RankTable(None, np.arange(MOST_RANKS, dtype=np.int32))


def to_rows(ranks: RankTable, tokenizer_fingerprint: str) -> pa.Table:
    """The row of table token_ranks that keeps a rank table."""
    return pa.table(
        {
            "ranks_id": [ranks.ranks_id],
            "tokenizer_fingerprint": [tokenizer_fingerprint],
            "token_ids": list_array([ranks.token_ids], pa.int32()),
        }
    )


def from_rows(rows: pa.Table) -> dict[str | None, RankTable]:
    """Rank tables by name, `IDENTITY` under None among them.

    Raises:
        ValueError: a row's ids are not those that its name was made of.
    """
    ids, offsets = flat_list(rows.column("token_ids").combine_chunks())
    found: dict[str | None, RankTable] = {None: IDENTITY}
    for i, name in enumerate(rows.column("ranks_id").to_pylist()):
        table = named(ids[offsets[i] : offsets[i + 1]])
        if table.ranks_id != name:
            raise ValueError(f"rank table {name} holds other ids: they hash to {table.ranks_id}")
        found[name] = table
    return found
