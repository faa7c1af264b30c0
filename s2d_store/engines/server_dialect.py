"""What every kind of inference server is asked and answers, before and after HTTP. No I/O here.

A dialect turns requests into calls and answers into arrays; `server_client.py` carries them.

Dimensions: T response tokens, K top-k entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2d_store.encoding.topk import IntArray, TopK
from s2d_store.engines.base import FinishReason, SampleRequest, SamplingParams, ScoreRequest

# What JSON cannot write: servers put this, or less, for a probability of 0.
LEAST_LOGPROB = -9999.0
# Entries beside the token itself, and those asked for beyond k where the vocabulary is padded.
Entry = tuple[int, float]


class BadAnswer(Exception):
    """An answer that cannot be stored: cut, NaN, other tokens. The request may be tried again."""


@dataclass(frozen=True)
class Call:
    """One HTTP request: a path below the base URL, and a JSON body; without one it is a GET."""

    path: str
    body: dict[str, Any] | None = None


@dataclass(frozen=True)
class ServedModel:
    """The model behind the servers, as far as reading answers needs it.

    Attributes:
        name: what requests call it.
        n_tokens: ids that the tokenizer has; 0 where there is no tokenizer here.
        vocab_size: size of its output distribution; n_tokens where its padding is unknown.
        eos_ids: ids that end a response.
        max_model_len: most tokens of prompt and response together; 0 where unknown.
    """

    name: str
    n_tokens: int = 0
    vocab_size: int = 0
    eos_ids: frozenset[int] = field(default_factory=frozenset)
    max_model_len: int = 0

    def padding_bias(self) -> dict[str, float]:
        """A logit bias against the ids that pad the vocabulary; raw logprobs come before it."""
        return {str(token): -100.0 for token in range(self.n_tokens, self.vocab_size)}


@dataclass(frozen=True)
class Answer:
    """A sampled response as a server gave it.

    Attributes:
        token_ids: int32 (T,); None where the server returns text alone.
        topk: logprobs of the sampled tokens, and K entries each; None where it gives none.
        finish_reason: None where the server does not say.
        text: what the server decoded; None where it decodes nothing.
    """

    token_ids: IntArray | None
    topk: TopK | None
    finish_reason: FinishReason | None
    text: str | None = None


class Dialect(Protocol):
    """One kind of server. Its methods are pure.

    Attributes:
        name: as table endpoints has it.
        scores: whether it gives logprobs of sequences that it is given.
    """

    name: str
    scores: bool

    def sample(
        self, model: ServedModel, request: SampleRequest, params: SamplingParams, entries: int
    ) -> Call:
        """Draw one response with that many entries of top-k per token."""
        ...

    def read_sample(
        self, model: ServedModel, request: SampleRequest, answer: Any, entries: int, k: int
    ) -> Answer:
        """What came back.

        Raises:
            BadAnswer: it cannot be stored.
        """
        ...

    def score(self, model: ServedModel, request: ScoreRequest, entries: int) -> Call:
        """The top k at every response token of a stored rollout, or at the ids it gives."""
        ...

    def read_score(
        self, model: ServedModel, request: ScoreRequest, answer: Any, entries: int, k: int
    ) -> TopK:
        """What came back; see `read_sample`."""
        ...


def take(answer: Any, *path: str | int) -> Any:
    """A nested value of an answer.

    Raises:
        BadAnswer: it is not there, or null.
    """
    found = answer
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            found = None
        if found is None:
            raise BadAnswer(f"the answer has no {'.'.join(map(str, path))}")
    return found


def token_array(values: Any, n_tokens: int) -> IntArray:
    """Token ids as int32 (T,).

    Args:
        values: a JSON list.
        n_tokens: ids lie in [0, n_tokens); 0 where that is unknown.

    Raises:
        BadAnswer: no list of ids, or one past the vocabulary.
    """
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise BadAnswer("its token ids are no list of numbers")
    top = n_tokens or np.iinfo(np.int32).max
    for value in values:
        if not 0 <= value < top:
            raise BadAnswer(f"it holds token id {value}, outside [0, {top})")
    return np.array(values, dtype=np.int32)


def finish_reason(said: Any) -> FinishReason:
    """The end of a response, if it is one that can be stored.

    Raises:
        BadAnswer: aborted, filtered, or cut for another reason.
    """
    if said == "stop":
        return "stop"
    if said == "length":
        return "length"
    raise BadAnswer(f"it ended with {said!r}, neither whole nor cut at max_tokens")


def top_entries(
    tokens: IntArray, rows: Sequence[Sequence[Entry]], entries: int, k: int, n_tokens: int
) -> TopK:
    """The k likeliest entries at each position, in descending order.

    Servers put the position's own token among the entries, or before them: then there is one more
    than was asked for, and it is not among the likeliest.

    Args:
        tokens: int32 (T,), the tokens at the positions.
        rows: `(token id, logprob)` of each position, in any order, ids distinct.
        entries: how many were asked for, k or more.
        k: how many to keep.
        n_tokens: ids from there on pad the vocabulary and are left out; 0: none do.

    Raises:
        BadAnswer: a position without its own token or with too few entries, or a NaN.
    """
    if len(rows) != len(tokens):
        raise BadAnswer(f"logprobs came at {len(rows)} positions of {len(tokens)}")
    counts_T = np.array([len(row) for row in rows], dtype=np.int64)
    width = max(int(counts_T.max(initial=0)), k)
    there_TW = np.arange(width) < counts_T[:, None]
    ids_TW = np.full((len(rows), width), -1, dtype=np.int64)
    logprobs_TW = np.full((len(rows), width), -math.inf, dtype=np.float64)
    flat: list[Entry] = list(chain.from_iterable(rows))
    try:
        ids_TW[there_TW] = [entry[0] for entry in flat]
        logprobs_TW[there_TW] = [_logprob(entry[1]) for entry in flat]
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise BadAnswer(f"its logprobs are no numbers: {error}") from error
    if np.isnan(logprobs_TW).any():
        at = int(np.isnan(logprobs_TW).any(axis=1).argmax())
        raise BadAnswer(f"the logprobs of response token {at} hold a NaN")
    own_TW = ids_TW == tokens.astype(np.int64)[:, None]
    if not own_TW.any(axis=1).all():
        at = int(own_TW.any(axis=1).argmin())
        raise BadAnswer(f"response token {at} is {tokens[at]}, which its logprobs do not name")
    sampled_T = logprobs_TW[np.arange(len(rows)), own_TW.argmax(axis=1)]
    likely_TW = there_TW & ~(own_TW & (counts_T > entries)[:, None])
    if n_tokens:
        likely_TW &= ids_TW < n_tokens
    short_T = likely_TW.sum(axis=1) < k
    if short_T.any():
        at = int(short_T.argmax())
        raise BadAnswer(f"response token {at} has {int(likely_TW[at].sum())} entries, not {k}")
    order_TW = np.lexsort((-logprobs_TW, ~likely_TW), axis=1)[:, :k]
    return TopK(
        np.take_along_axis(ids_TW, order_TW, axis=1).astype(np.int32),
        np.take_along_axis(logprobs_TW, order_TW, axis=1).astype(np.float32),
        sampled_T.astype(np.float32),
    )


def given_entries(
    tokens: IntArray, rows: Sequence[Iterable[Entry]], support_TK: NDArray[np.integer]
) -> TopK:
    """Logprobs at given ids, in their order.

    Args:
        tokens: int32 (T,), the response.
        rows: `(token id, logprob)` of each position; the tokens themselves among them.
        support_TK: the ids that were asked for.

    Raises:
        BadAnswer: an id that was asked for is missing.
    """
    if len(rows) != len(tokens):
        raise BadAnswer(f"logprobs came at {len(rows)} positions of {len(tokens)}")
    logprobs_TK = np.empty(support_TK.shape, dtype=np.float32)
    sampled_T = np.empty(len(tokens), dtype=np.float32)
    for t, row in enumerate(rows):
        found = dict(row)
        try:
            logprobs_TK[t] = [_logprob(found[int(token)]) for token in support_TK[t]]
            sampled_T[t] = _logprob(found[int(tokens[t])])
        except (KeyError, TypeError, ValueError) as error:
            raise BadAnswer(f"response token {t} has no logprob of id {error}") from error
    if np.isnan(logprobs_TK).any() or np.isnan(sampled_T).any():
        raise BadAnswer("its logprobs hold a NaN")
    return TopK(support_TK.astype(np.int32), logprobs_TK, sampled_T)


def _logprob(value: Any) -> float:
    if value is None:
        return math.nan
    number = float(value)
    return -math.inf if number <= LEAST_LOGPROB else number
