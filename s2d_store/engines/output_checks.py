"""Checks on what goes into an engine and on the top-k logprobs that come out of any engine.

Dimensions: R rollouts, N response tokens of all of them one after another, K top-k entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2d_store.encoding.topk import FloatArray, IntArray, TopK
from s2d_store.engines.base import SamplingParams
from s2d_store.errors import EngineError, InputError

Support = Literal["own", "policy", "union"]

# log_softmax in float32 over 150k entries is good to about 1e-5; ten times what was ever seen.
LOGPROB_ABOVE_ZERO = 1e-3
MASS_ABOVE_ONE = 1e-3
# One pass gives both figures from the same logits: they may differ by float32 rounding only.
SAMPLED_MISMATCH = 1e-4

_WHY_WRONG = "the engine's output fails s2d's own checks and was not stored"
_FIX_WRONG = "score with another engine or library version, or report it with the rollout's id"


def check_sampling(params: SamplingParams) -> None:
    """Refuse sampling parameters outside their range.

    Raises:
        InputError: naming the parameter and its range.
    """
    rules = (
        ("temperature", params.temperature, 0 <= params.temperature < math.inf, "0 or more"),
        ("top_p", params.top_p, 0 < params.top_p <= 1, "above 0 and at most 1"),
        ("top_k", params.top_k, params.top_k >= 0, "0 (keep all) or more"),
        ("max_tokens", params.max_tokens, params.max_tokens >= 1, "1 or more"),
    )
    for name, value, valid, allowed in rules:
        if not valid:
            raise InputError(
                f"{name} is {value}",
                why=f"{name} must be {allowed}",
                fix=f"change --{name.replace('_', '-')}",
            )


def check_lengths(
    lengths: Iterable[tuple[str, int, int]], max_model_len: int, *, what: str = "rollout"
) -> None:
    """Refuse sequences longer than the model's context, or without a prompt.

    Args:
        lengths: `(id, prompt tokens, response tokens)`; for sampling the latter is max_tokens.
        max_model_len: most tokens of prompt and response together.
        what: the kind of thing that the ids name, `rollout` or `prompt`.

    Raises:
        InputError: naming the first offender, its tokens and the limit.
    """
    for item_id, n_prompt, n_response in lengths:
        if n_prompt == 0:
            raise InputError(
                f"{what} {item_id} has an empty prompt",
                why="the first response token needs a token before it to be predicted from",
                fix="give the prompt at least one token, for example the tokenizer's bos token",
            )
        if n_prompt + n_response > max_model_len:
            raise InputError(
                f"{what} {item_id} needs {n_prompt + n_response} tokens, "
                f"above the model's limit of {max_model_len}",
                why=f"{n_prompt} prompt tokens + {n_response} response tokens",
                fix="lower --max-tokens, or pass --skip-too-long",
            )


def check_k(k: int, vocab_size: int) -> None:
    """Refuse a top k that the model's distribution cannot give.

    Raises:
        EngineError: when k is negative or above `vocab_size`.
    """
    if not 0 <= k <= vocab_size:
        raise EngineError(
            f"top k of {k} cannot be kept",
            why=f"the model's vocabulary has {vocab_size} entries",
            fix=f"pass --top-logprobs between 0 and {vocab_size}",
        )


def check_token_ids(rollout_id: str, token_ids: ArrayLike, vocab_size: int) -> None:
    """Refuse ids that the model has no embedding for.

    Raises:
        EngineError: naming the rollout and the first id outside [0, vocab_size).
    """
    ids = np.asarray(token_ids).reshape(-1)
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        raise EngineError(
            f"rollout {rollout_id} holds token id {ids[outside.argmax()]}",
            why=f"the model's vocabulary is [0, {vocab_size}): its tokenizer is another one",
            fix="use a policy with the tokenizer that the rollout was made with",
        )


def check_topk(
    rollout_id: str,
    topk: TopK,
    n_tokens: int,
    *,
    support: Support,
    vocab_size: int,
    response_token_ids: NDArray[np.integer],
) -> None:
    """Check one rollout's top-k logprobs; see `check_topk_flat` for what is checked.

    Args:
        rollout_id: named in the error.
        topk: (T, K) ids and logprobs, (T,) sampled logprobs.
        n_tokens: T, the number of response tokens.
        support: `own` (rows descend), `policy` (ids given by somebody else, any order) or `union`
            (of both).
        vocab_size: ids lie in [0, vocab_size).
        response_token_ids: (T,), the sampled tokens.

    Raises:
        EngineError: naming the rollout and the first wrong position.
    """
    check_topk_flat(
        [rollout_id],
        [n_tokens],
        topk,
        support=support,
        vocab_size=vocab_size,
        response_token_ids=response_token_ids,
    )


def check_topk_flat(
    rollout_ids: Sequence[str],
    n_tokens: Sequence[int],
    topk: TopK,
    *,
    support: Support,
    vocab_size: int,
    response_token_ids: NDArray[np.integer],
) -> None:
    """Check the top-k logprobs of many rollouts with one K, laid one after another.

    Checked at every position: ids in range and distinct; no NaN; logprobs at most 0 (within 1e-3);
    own support descends; probabilities, the sampled token's included, sum to at most 1 (within
    1e-3); a sampled token that stands in the row has the same logprob there (within 1e-4), and one
    missing from the scorer's own top k is no likelier than the row's last entry. -inf is allowed.

    Args:
        rollout_ids: R ids.
        n_tokens: response tokens of each, summing to N.
        topk: (N, K) ids and logprobs, (N,) sampled logprobs.
        support: `own`, `policy` or `union`, see `check_topk`.
        vocab_size: ids lie in [0, vocab_size).
        response_token_ids: (N,), the sampled tokens.

    Raises:
        EngineError: naming the rollout and position of the first fault of the first kind found.
    """
    total = int(sum(n_tokens))
    k = topk.token_ids.shape[1] if topk.token_ids.ndim == 2 else -1
    shapes = (topk.token_ids.shape, topk.logprobs.shape, topk.sampled_logprobs.shape)
    if shapes != ((total, k), (total, k), (total,)) or response_token_ids.shape != (total,):
        raise EngineError(
            f"rollout {_some(rollout_ids)}: wrong number of top-k entries: shapes of ids, "
            f"logprobs, sampled logprobs are {shapes}",
            why=f"{total} response tokens need ({total}, K), ({total}, K), ({total},)",
            fix=_FIX_WRONG,
        )
    position = _Positions(rollout_ids, n_tokens)
    _check_ids(position, topk.token_ids, vocab_size)
    _check_logprobs(position, topk.logprobs, topk.sampled_logprobs, descending=support == "own")
    _check_sampled(position, topk, response_token_ids, own=support == "own")


class _Positions:
    """Turns a flat position into the name of a rollout and its position."""

    def __init__(self, rollout_ids: Sequence[str], n_tokens: Sequence[int]) -> None:
        self.rollout_ids = rollout_ids
        self.starts = np.concatenate([[0], np.cumsum(n_tokens)])

    def fail(self, flat: int, fault: str) -> NoReturn:
        """Raise the error for flat position `flat`."""
        rollout = int(np.searchsorted(self.starts, flat, side="right")) - 1
        raise EngineError(
            f"rollout {self.rollout_ids[rollout]}, position {flat - int(self.starts[rollout])}: "
            f"{fault}",
            why=_WHY_WRONG,
            fix=_FIX_WRONG,
        )


def _check_ids(position: _Positions, ids_NK: IntArray, vocab_size: int) -> None:
    if ids_NK.size == 0:
        return
    ascending_NK = np.sort(ids_NK, axis=1)
    if ascending_NK[:, 0].min() < 0 or ascending_NK[:, -1].max() >= vocab_size:
        row, column = np.argwhere((ids_NK < 0) | (ids_NK >= vocab_size))[0]
        position.fail(int(row), f"token id {ids_NK[row, column]} is outside [0, {vocab_size})")
    repeated_NK = ascending_NK[:, 1:] == ascending_NK[:, :-1]
    if repeated_NK.any():
        row, column = np.argwhere(repeated_NK)[0]
        position.fail(int(row), f"token id {ascending_NK[row, column]} stands twice in the top k")


def _check_logprobs(
    position: _Positions, logprobs_NK: FloatArray, sampled_N: FloatArray, *, descending: bool
) -> None:
    # `not <=` is also true of NaN, so one pass finds both and the message tells them apart.
    sampled_wrong_N = ~(sampled_N <= LOGPROB_ABOVE_ZERO)
    if sampled_wrong_N.any():
        row = int(sampled_wrong_N.argmax())
        position.fail(row, f"the sampled token's logprob is {sampled_N[row]}, not at most 0")
    if logprobs_NK.size == 0:
        return
    if not logprobs_NK.max() <= LOGPROB_ABOVE_ZERO:
        row, column = np.argwhere(~(logprobs_NK <= LOGPROB_ABOVE_ZERO))[0]
        position.fail(
            int(row), f"logprob {logprobs_NK[row, column]} at rank {column}, not at most 0"
        )
    if descending:
        rising_NK = logprobs_NK[:, 1:] > logprobs_NK[:, :-1]
        if rising_NK.any():
            row, column = np.argwhere(rising_NK)[0]
            position.fail(int(row), f"logprobs rise after rank {column}; they must descend")


def _check_sampled(
    position: _Positions,
    topk: TopK,
    tokens_N: NDArray[np.integer],
    *,
    own: bool,
) -> None:
    sampled_N = topk.sampled_logprobs
    every_N = np.arange(len(tokens_N))
    if topk.token_ids.shape[1]:
        same_NK = topk.token_ids == tokens_N[:, None]
        at_N = same_NK.argmax(axis=1)
        present_N = same_NK[every_N, at_N]
    else:
        present_N = np.zeros(len(tokens_N), np.bool_)
    # einsum adds up short rows in a third of the time that `sum` takes.
    mass_N = np.einsum("nk->n", np.exp(topk.logprobs)) + np.where(present_N, 0, np.exp(sampled_N))
    heavy_N = mass_N > 1 + MASS_ABOVE_ONE
    if heavy_N.any():
        row = int(heavy_N.argmax())
        position.fail(row, f"probabilities sum to {mass_N[row]:.6f}, above 1")
    if topk.token_ids.shape[1] == 0:
        return
    in_row_N = topk.logprobs[every_N, at_N]
    # Equal infinities differ by NaN, which is not above the tolerance.
    with np.errstate(invalid="ignore"):
        mismatch_N = present_N & (np.abs(in_row_N - sampled_N) > SAMPLED_MISMATCH)
    if mismatch_N.any():
        row = int(mismatch_N.argmax())
        position.fail(
            row,
            f"sampled token {tokens_N[row]} has logprob {sampled_N[row]} but {in_row_N[row]} "
            "in the top k",
        )
    missed_N = ~present_N & (sampled_N > topk.logprobs[:, -1] + SAMPLED_MISMATCH)
    if own and missed_N.any():
        row = int(missed_N.argmax())
        position.fail(
            row,
            f"sampled token {tokens_N[row]} has logprob {sampled_N[row]}, above the last of the "
            f"top k ({topk.logprobs[row, -1]}), yet is missing from it",
        )


def _some(rollout_ids: Sequence[str]) -> str:
    return rollout_ids[0] if len(rollout_ids) == 1 else f"{rollout_ids[0]} .. {rollout_ids[-1]}"
