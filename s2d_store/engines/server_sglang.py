"""SGLang's `/generate`: token ids in and out, logprobs of the input, ids of the caller's own.

Logprobs are divided by the temperature unless the server runs with SGLANG_RETURN_ORIGINAL_LOGPROB.
Shapes read in SGLang's io_struct and in users' tests; docs/serving.md names the versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from s2d_store.encoding.topk import TopK
from s2d_store.engines.base import SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.server_dialect import (
    Answer,
    BadAnswer,
    Call,
    Entry,
    ServedModel,
    finish_reason,
    given_entries,
    take,
    token_array,
    top_entries,
)

GENERATE = "/generate"
# How a server takes ids of the caller's own: a list at each position, or one list for all of them.
GivenIds = Literal["positions", "union"]


@dataclass(frozen=True)
class SglangDialect:
    """See `Dialect`.

    Attributes:
        given_ids: how this server takes ids of the caller's own; the probe finds out. The union of
            a rollout's ids is asked for at every position where it knows no other way.
    """

    given_ids: GivenIds = "union"
    name = "sglang"
    scores = True

    def sample(
        self, model: ServedModel, request: SampleRequest, params: SamplingParams, entries: int
    ) -> Call:
        """A response to the prompt's ids."""
        sampling: dict[str, Any] = {
            "max_new_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k or -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": sorted(model.eos_ids),
            "skip_special_tokens": False,
            "no_stop_trim": True,
            "sampling_seed": request.seed,
        }
        if bias := model.padding_bias():
            sampling["logit_bias"] = bias
        body = {
            "input_ids": list(request.prompt_token_ids),
            "sampling_params": sampling,
            "return_logprob": True,
            "top_logprobs_num": entries,
            "logprob_start_len": -1,
        }
        return Call(GENERATE, body)

    def read_sample(
        self, model: ServedModel, request: SampleRequest, answer: Any, entries: int, k: int
    ) -> Answer:
        """Ids and logprobs, which some versions cut before the token that ended the response."""
        meta = take(answer, "meta_info")
        if meta.get("prompt_tokens") not in (None, len(request.prompt_token_ids)):
            raise BadAnswer(f"the server saw {meta['prompt_tokens']} prompt tokens")
        own = [_entry(entry) for entry in take(meta, "output_token_logprobs")]
        tokens = token_array([token for token, _ in own], model.n_tokens)
        ids = answer.get("output_ids")
        if ids is not None and ids != tokens.tolist()[: len(ids)]:
            raise BadAnswer("its output ids are not those that its logprobs name")
        if meta.get("completion_tokens") not in (None, len(tokens)):
            raise BadAnswer(
                f"{len(tokens)} tokens came back of {meta['completion_tokens']}: the one that "
                "ended the response is left out"
            )
        rows = _rows(own, meta.get("output_top_logprobs") if entries else None)
        topk = top_entries(tokens, rows, entries, k, model.n_tokens)
        reason = take(meta, "finish_reason")
        said = reason.get("type") if isinstance(reason, dict) else reason
        return Answer(tokens, topk, finish_reason(said), answer.get("text"))

    def score(self, model: ServedModel, request: ScoreRequest, entries: int) -> Call:
        """Logprobs of the input from the last prompt token on; nothing is generated."""
        n_prompt = len(request.prompt_token_ids)
        body: dict[str, Any] = {
            "input_ids": [
                *map(int, request.prompt_token_ids),
                *request.response_token_ids.tolist(),
            ],
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
            "return_logprob": True,
            "logprob_start_len": n_prompt - 1,
        }
        if request.support is None:
            body["top_logprobs_num"] = entries
        elif self.given_ids == "positions":
            rows = np.column_stack([request.support, request.response_token_ids]).tolist()
            body["token_ids_logprob_positions"] = [[] for _ in range(n_prompt)] + rows
        else:
            every = np.union1d(request.support, request.response_token_ids)
            body["token_ids_logprob"] = every.tolist()
        return Call(GENERATE, body)

    def read_score(
        self, model: ServedModel, request: ScoreRequest, answer: Any, entries: int, k: int
    ) -> TopK:
        """Logprobs at the last T positions of the input."""
        meta = take(answer, "meta_info")
        tokens = np.asarray(request.response_token_ids, dtype=np.int32)
        own = [_entry(entry) for entry in _last(meta, "input_token_logprobs", len(tokens))]
        if [token for token, _ in own] != tokens.tolist():
            raise BadAnswer("its logprobs are of other tokens than were sent")
        if request.support is None:
            tops = _last(meta, "input_top_logprobs", len(tokens)) if entries else None
            return top_entries(tokens, _rows(own, tops), entries, k, model.n_tokens)
        rows = _last(meta, "input_token_ids_logprobs", len(tokens))
        given = [
            [_entry(e) for e in row or ()] + [mine] for row, mine in zip(rows, own, strict=True)
        ]
        return given_entries(tokens, given, request.support)


def _entry(entry: Any) -> Entry:
    try:
        return int(entry[1]), entry[0]
    except (TypeError, ValueError, IndexError) as error:
        raise BadAnswer(f"{entry!r} is no logprob, token id and text") from error


def _rows(own: list[Entry], tops: Any) -> list[list[Entry]]:
    """The token's own entry and its top ones, without repeating it."""
    if tops is None:
        return [[entry] for entry in own]
    if len(tops) != len(own):
        raise BadAnswer(f"top logprobs came at {len(tops)} positions of {len(own)}")
    rows = []
    for mine, top in zip(own, tops, strict=True):
        row = dict([mine])
        row |= {token: logprob for token, logprob in map(_entry, top or ()) if token != mine[0]}
        rows.append(list(row.items()))
    return rows


def _last(meta: Any, name: str, n: int) -> list[Any]:
    """The last n positions; servers put one without logprobs before them."""
    found = take(meta, name)
    if len(found) < n:
        raise BadAnswer(f"{name} has {len(found)} positions, not {n}")
    return list(found[len(found) - n :])
