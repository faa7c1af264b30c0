"""vLLM's OpenAI server: token ids in and out, prompt logprobs, raw unless it was told otherwise.

Read in vLLM 0.32 (entrypoints/openai/completion, entrypoints/scale_out/token_in_token_out).
"""

from __future__ import annotations

import base64
import io
from typing import Any

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
    take,
    token_array,
    top_entries,
)

COMPLETIONS = "/v1/completions"
# Takes `prompt_logprob_token_ids`; a server has it with --enable-scale-out.
GENERATE = "/inference/v1/generate"
# A server fills in what a request leaves out from the model's generation_config.json.
PLAIN = {
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class VllmDialect:
    """See `Dialect`."""

    name = "vllm"
    scores = True

    def sample(
        self, model: ServedModel, request: SampleRequest, params: SamplingParams, entries: int
    ) -> Call:
        """A completion of the prompt's ids."""
        body = {
            "model": model.name,
            "prompt": list(request.prompt_token_ids),
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "seed": request.seed,
            "logprobs": entries,
            "stop_token_ids": sorted(model.eos_ids),
            **_IDS,
            **PLAIN,
        }
        if bias := model.padding_bias():
            body["logit_bias"] = bias
        return Call(COMPLETIONS, body)

    def read_sample(
        self, model: ServedModel, request: SampleRequest, answer: Any, entries: int, k: int
    ) -> Answer:
        """The first choice, its ids and logprobs."""
        choice = take(answer, "choices", 0)
        if choice.get("prompt_token_ids") not in (None, list(request.prompt_token_ids)):
            raise BadAnswer("the server saw other prompt tokens than were sent")
        tokens = token_array(take(choice, "token_ids"), model.n_tokens)
        rows = _completion_rows(choice, len(tokens))
        topk = top_entries(tokens, rows, entries, k, model.n_tokens)
        return Answer(tokens, topk, finish_reason(choice.get("finish_reason")), choice.get("text"))

    def score(self, model: ServedModel, request: ScoreRequest, entries: int) -> Call:
        """The whole sequence as a prompt, with one token sampled behind it, as vLLM insists."""
        ids = [*map(int, request.prompt_token_ids), *request.response_token_ids.tolist()]
        if request.support is not None:
            return _score_given(model, request, ids)
        body = {
            "model": model.name,
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": entries,
            **_IDS,
            **PLAIN,
        }
        if len(ids) == model.max_model_len:
            # No room for one token more: let it be the response's last.
            body |= {"prompt": ids[:-1], "allowed_token_ids": ids[-1:], "logprobs": entries}
        return Call(COMPLETIONS, body)

    def read_score(
        self, model: ServedModel, request: ScoreRequest, answer: Any, entries: int, k: int
    ) -> TopK:
        """Logprobs at the last T positions of the sequence."""
        tokens = np.asarray(request.response_token_ids, dtype=np.int32)
        if request.support is not None:
            return _read_given(request, answer, tokens)
        choice = take(answer, "choices", 0)
        sent = [*map(int, request.prompt_token_ids), *tokens.tolist()]
        fills = len(sent) == model.max_model_len
        if choice.get("prompt_token_ids") not in (None, sent[:-1] if fills else sent):
            raise BadAnswer("the server saw other tokens than were sent")
        positions = take(choice, "prompt_logprobs")
        if len(positions) != len(sent) - fills:
            raise BadAnswer(f"{len(positions)} prompt positions came back of {len(sent) - fills}")
        n_here = len(tokens) - fills
        rows = [_prompt_row(p) for p in positions[len(positions) - n_here :]] if n_here else []
        if fills:
            rows += _completion_rows(choice, 1)
        return top_entries(tokens, rows, entries, k, model.n_tokens)


_IDS = {"return_token_ids": True, "return_tokens_as_token_ids": True}


def _completion_rows(choice: Any, n_tokens: int) -> list[list[Entry]]:
    """`(token id, logprob)` at each sampled token; the token itself comes first."""
    given = take(choice, "logprobs")
    names, logprobs = take(given, "tokens"), take(given, "token_logprobs")
    tops = given.get("top_logprobs") or [None] * len(names)
    if not len(names) == len(logprobs) == len(tops) == n_tokens:
        raise BadAnswer(f"logprobs of {len(names)} tokens came with {n_tokens} ids")
    rows = []
    for name, logprob, top in zip(names, logprobs, tops, strict=True):
        row = {_id(name): logprob}
        row |= {_id(other): value for other, value in (top or {}).items()}
        rows.append(list(row.items()))
    return rows


def _prompt_row(position: Any) -> list[Entry]:
    if not isinstance(position, dict):
        raise BadAnswer("a prompt position has no logprobs")
    try:
        return [(int(token), entry["logprob"]) for token, entry in position.items()]
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer(f"a prompt position's logprobs cannot be read: {error}") from error


def _id(name: Any) -> int:
    prefix, _, number = str(name).rpartition(":")
    if prefix != "token_id" or not number.isdigit():
        raise BadAnswer(f"a token is named {name!r}, not by its id")
    return int(number)


def _score_given(model: ServedModel, request: ScoreRequest, ids: list[int]) -> Call:
    """Ids of its own at each position; the response's token is one of them, put last."""
    assert request.support is not None
    rows = np.column_stack([request.support, request.response_token_ids])
    sampling = {
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprob_token_ids": rows.tolist(),
        "prompt_logprob_start": len(request.prompt_token_ids) - 1,
    }
    return Call(GENERATE, {"model": model.name, "token_ids": ids, "sampling_params": sampling})


def _read_given(request: ScoreRequest, answer: Any, tokens: Any) -> TopK:
    assert request.support is not None
    packed = take(answer, "prompt_token_id_logprobs")
    try:
        found = np.load(io.BytesIO(base64.b64decode(packed)), allow_pickle=False)
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise BadAnswer(f"its logprobs of given ids cannot be read: {error}") from error
    n_ids = request.support.shape[1] + 1
    if found.shape != (len(tokens), n_ids):
        raise BadAnswer(f"{found.shape} logprobs came back of {(len(tokens), n_ids)}")
    logprobs = found.astype(np.float32)
    if np.isnan(logprobs).any():
        raise BadAnswer("its logprobs hold a NaN")
    return TopK(request.support.astype(np.int32), logprobs[:, :-1], logprobs[:, -1])
