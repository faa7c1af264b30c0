"""The union of two top-k supports of one scorer, token by token.

Where the scorer's own top k and the sampling policy's differ, a loss on either misses what the
other side finds likely. Both are logprobs of the scorer, so one distribution holds them all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2d_store.encoding.topk import FloatArray, IntArray
from s2d_store.encoding.topk_ragged import PAD_ID


class Union(NamedTuple):
    """Entries of T tokens laid flat, E in all, each token's in descending order of logprob.

    Attributes:
        token_ids: int32 (E,), distinct within a token.
        logprobs: float32 (E,).
        counts: int16 (T,), entries at each token.
    """

    token_ids: IntArray
    logprobs: FloatArray
    counts: NDArray[np.int16]


def unite(
    first_ids_TK: IntArray,
    first_logprobs_TK: FloatArray,
    second_ids_TJ: IntArray,
    second_logprobs_TJ: FloatArray,
) -> Union:
    """Every id of either support, once; an id of both has the first one's logprob.

    Args:
        first_ids_TK: int32, distinct within a token; PAD_ID pads.
        first_logprobs_TK: float32, aligned.
        second_ids_TJ: as the first, of the same T tokens.
        second_logprobs_TJ: float32, aligned.
    """
    ids_TE = np.concatenate([first_ids_TK, second_ids_TJ], axis=1)
    logprobs_TE = np.concatenate([first_logprobs_TK, second_logprobs_TJ], axis=1)
    # A stable sort by id leaves the first one's entry before the second one's.
    by_id_TE = np.argsort(ids_TE, axis=1, kind="stable")
    ascending_TE = np.take_along_axis(ids_TE, by_id_TE, 1)
    new_TE = ascending_TE != PAD_ID
    new_TE[:, 1:] &= ascending_TE[:, 1:] != ascending_TE[:, :-1]
    drop_TE = np.empty_like(new_TE)
    np.put_along_axis(drop_TE, by_id_TE, ~new_TE, 1)
    order_TE = np.lexsort((-logprobs_TE, drop_TE), axis=1)
    counts_T = new_TE.sum(axis=1).astype(np.int16)
    has_TE = np.arange(ids_TE.shape[1]) < counts_T[:, None]
    ids_E, logprobs_E = (
        np.take_along_axis(values_TE, order_TE, 1)[has_TE] for values_TE in (ids_TE, logprobs_TE)
    )
    return Union(ids_E, logprobs_E, counts_T)
