"""vLLM's flat logprobs as arrays, without vLLM."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from s2d_store.encoding.topk import TopK
from s2d_store.engines.vllm_logprobs import joined, last_positions, without_padding
from s2d_store.errors import EngineError


@dataclass
class Flat:
    """What `vllm.logprobs.FlatLogprobs` looks like to us."""

    start_indices: list[int] = field(default_factory=list)
    end_indices: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def add(self, ids: list[int], logprobs: list[float]) -> None:
        self.start_indices.append(len(self.token_ids))
        self.token_ids += ids
        self.logprobs += logprobs
        self.end_indices.append(len(self.token_ids))


@pytest.fixture
def flat() -> Flat:
    """A first prompt position without entries, then three of k = 2."""
    made = Flat()
    made.add([], [])
    made.add([5, 7, 5], [-1.0, -0.5, -1.0])
    made.add([9, 1, 2], [-4.0, -0.25, -2.0])
    made.add([3, 3, 8], [-0.1, -0.1, -3.0])
    return made


def test_last_positions_are_cut_and_aligned(flat: Flat) -> None:
    found = last_positions("r", flat, [9, 3], 2)
    assert found.token_ids.tolist() == [[1, 2], [3, 8]]
    assert found.token_ids.dtype == np.int32
    np.testing.assert_array_equal(
        found.logprobs, np.array([[-0.25, -2.0], [-0.1, -3.0]], np.float32)
    )
    np.testing.assert_array_equal(found.sampled_logprobs, np.array([-4.0, -0.1], np.float32))
    assert found.sampled_logprobs.dtype == np.float32
    assert all(a.flags.owndata or a.base is not None for a in (found.token_ids, found.logprobs))


def test_k_of_zero_keeps_the_actual_tokens_alone() -> None:
    flat = Flat()
    flat.add([4], [-0.5])
    flat.add([6], [-0.25])
    found = last_positions("r", flat, [4, 6], 0)
    assert found.token_ids.shape == found.logprobs.shape == (2, 0)
    assert found.sampled_logprobs.tolist() == [-0.5, -0.25]


def test_an_empty_response(flat: Flat) -> None:
    found = last_positions("r", flat, [], 2)
    assert found.token_ids.shape == (0, 2)
    assert found.sampled_logprobs.shape == (0,)


@pytest.mark.parametrize(
    ("tokens", "k", "message"),
    [
        ([5, 9, 3], 3, r"(?s)rollout r .*3 positions of \[3\] entries.*of 4 were asked"),
        ([5, 5, 9, 3], 2, r"4 positions of \[0, 3\] entries"),
        ([1, 5, 5, 9, 3], 2, r"4 positions of"),
        ([9, 4], 2, "position 1 is of token 3, not 4"),
    ],
)
def test_what_is_not_whole_is_refused(flat: Flat, tokens: list[int], k: int, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        last_positions("r", flat, tokens, k)


def test_joined_positions_keep_their_order(flat: Flat) -> None:
    whole = last_positions("r", flat, [9, 3], 2)
    first = Flat(flat.start_indices[:3], flat.end_indices[:3], flat.token_ids, flat.logprobs)
    found = joined(last_positions("r", first, [9], 2), last_positions("r", flat, [3], 2))
    for name in ("token_ids", "logprobs", "sampled_logprobs"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
        assert getattr(found, name).dtype == getattr(whole, name).dtype


def test_padding_is_left_out_of_the_likeliest() -> None:
    ids = np.array([[7, 120, 3, 5], [1, 2, 130, 140]], np.int32)
    logprobs = np.array([[-1, -2, -3, -4], [-1, -2, -3, -4]], np.float32)
    sampled = np.array([-1, -2], np.float32)
    kept = without_padding("r", TopK(ids, logprobs, sampled), 100, 2)
    assert kept.token_ids.tolist() == [[7, 3], [1, 2]]
    assert kept.logprobs.tolist() == [[-1, -3], [-1, -2]]
    with pytest.raises(EngineError, match="position 1 has fewer than 3 entries"):
        without_padding("r", TopK(ids, logprobs, sampled), 100, 3)
