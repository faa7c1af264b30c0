"""What is held at a time is bounded by tokens times top k, not by rows."""

from __future__ import annotations

import numpy as np
import pytest

from s2d_store.engines import chunk_limits
from s2d_store.engines.base import ScoreRequest
from s2d_store.engines.chunk_limits import answer_rows, block_rows, row_bytes, score_windows


def test_a_block_is_bounded_by_its_tokens_and_their_top_k() -> None:
    assert block_rows(256, 16_384, 128) == 16
    assert block_rows(256, 1024, 20) == 256
    assert block_rows(4, 1 << 30, 128) == 1
    assert block_rows(4, 0, 0) == 4


def test_an_answer_of_a_worker_is_whole_blocks_that_fit() -> None:
    assert answer_rows(512, block_rows(256, 16_384, 128), 16_384, 128) == 32
    assert answer_rows(50, 32, 1024, 20) == 64
    assert answer_rows(0, 32, 1024, 20) == 32
    assert answer_rows(512, 1, 1 << 30, 128) == 1


def request(name: str, n_tokens: int, given: int | None = None) -> ScoreRequest:
    support = None if given is None else np.zeros((n_tokens, given), np.int32)
    return ScoreRequest(name, [1], np.zeros(n_tokens, np.int32), support)


def test_score_windows_are_bounded_by_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_limits, "BLOCK_BYTES", row_bytes(10, 4))
    asked = [
        *(request("a", 5), request("b", 5)),  # together as much as fits
        *(request("c", 30), request("d", 1)),  # one that is too large goes alone
        *(request("e", 1, given=20), request("f", 5), request("g", 1, given=32)),
        *(request("h", 1), request("i", 1), request("j", 1), request("k", 1)),
    ]
    windows = [[r.rollout_id for r in w] for w in score_windows(iter(asked), 3, 4)]
    assert windows == [["a", "b"], ["c"], ["d", "e"], ["f"], ["g", "h", "i"], ["j", "k"]]
    assert not list(score_windows([], 3, 4))
