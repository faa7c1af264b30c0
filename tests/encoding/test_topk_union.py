"""Uniting two supports of one scorer, token by token."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_store.encoding.topk_ragged import PAD_ID
from s2d_store.encoding.topk_union import unite

VOCABULARY = 12
LOGPROBS = np.log(np.random.default_rng(0).dirichlet(np.ones(VOCABULARY), 4)).astype(np.float32)
Side = tuple[np.ndarray, np.ndarray]


@st.composite
def sides(draw: st.DrawFn) -> Side:
    """Distinct ids of four tokens with their logprobs, each token padded to the longest."""
    ids = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6, unique=True)
    rows = [draw(ids) for _ in LOGPROBS]
    k = max(map(len, rows))
    padded = np.array([row + [PAD_ID] * (k - len(row)) for row in rows], np.int32)
    logprobs = np.take_along_axis(LOGPROBS, padded, 1)
    return padded, np.where(padded == PAD_ID, np.float32(-np.inf), logprobs)


def by_token(side: Side) -> list[dict[int, float]]:
    return [
        {int(i): float(x) for i, x in zip(ids, logprobs, strict=True) if i != PAD_ID}
        for ids, logprobs in zip(*side, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(sides(), sides())
def test_a_union_has_every_entry_of_both_once_likeliest_first(first: Side, second: Side) -> None:
    """So its mass is at least either's; and a row united with itself holds what it held."""
    made = unite(*first, *second)
    ends = np.cumsum(made.counts)[:-1]
    parts = zip(np.split(made.token_ids, ends), np.split(made.logprobs, ends), strict=True)
    for (ids, logprobs), one, other in zip(parts, by_token(first), by_token(second), strict=True):
        assert len(set(ids.tolist())) == len(ids)
        assert dict(zip(ids.tolist(), logprobs.tolist(), strict=True)) == one | other
        assert (np.diff(logprobs) <= 0).all()
        mass = np.exp(logprobs).sum()
        assert all(mass >= np.exp(list(s.values())).sum() - 1e-6 for s in (one, other))
    itself = unite(*first, *first)
    assert itself.counts.tolist() == [len(one) for one in by_token(first)]


def test_an_id_of_both_has_the_first_ones_logprob() -> None:
    ids = np.array([[3, 5]], np.int32)
    logprobs = np.array([[-1, -2], [-1.5, -0.5]], np.float32)
    made = unite(ids, logprobs[:1], ids[:, ::-1], logprobs[1:])
    assert made.token_ids.tolist() == [3, 5] and made.logprobs.tolist() == [-1, -2]
    assert made.counts.tolist() == [2]
