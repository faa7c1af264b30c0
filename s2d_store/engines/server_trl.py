"""TRL's `trl vllm-serve`: token ids in and out, and sequence logprobs for distillation.

Its vLLM runs with processed logprobs, so what it samples with is raw at temperature 1 alone.
Newer versions of TRL start vLLM's own server; that one speaks the dialect of `server_vllm.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from s2d_store.encoding.topk import TopK
from s2d_store.engines.base import FinishReason, SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.server_dialect import (
    Answer,
    BadAnswer,
    Call,
    Entry,
    ServedModel,
    take,
    token_array,
    top_entries,
)

GENERATE = "/generate/"
SCORE = "/get_sequence_logprobs/"


class TrlDialect:
    """See `Dialect`."""

    name = "trl"
    scores = True

    def sample(
        self, model: ServedModel, request: SampleRequest, params: SamplingParams, entries: int
    ) -> Call:
        """A response to the prompt's ids; the server's other settings go beside."""
        extra: dict[str, Any] = {
            "seed": request.seed,
            "stop_token_ids": sorted(model.eos_ids),
        }
        if bias := model.padding_bias():
            extra["logit_bias"] = bias
        body = {
            "prompts": [list(request.prompt_token_ids)],
            "n": 1,
            "repetition_penalty": 1.0,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k or -1,
            "min_p": 0.0,
            "max_tokens": params.max_tokens,
            "logprobs": entries,
            "generation_kwargs": extra,
        }
        return Call(GENERATE, body)

    def read_sample(
        self, model: ServedModel, request: SampleRequest, answer: Any, entries: int, k: int
    ) -> Answer:
        """Ids and logprobs. The server names no reason for the end: the last token does."""
        if take(answer, "prompt_ids", 0) != list(request.prompt_token_ids):
            raise BadAnswer("the server saw other prompt tokens than were sent")
        tokens = token_array(take(answer, "completion_ids", 0), model.n_tokens)
        logprobs = take(answer, "logprobs", 0)
        names = answer.get("logprob_token_ids")
        if names is None:
            # Versions before 1.0 give one logprob per token.
            values = [v[0] if isinstance(v, list) else v for v in logprobs]
            if k:
                raise BadAnswer("this version of TRL returns the sampled token's logprob alone")
            rows: list[list[Entry]] = [
                [(token, value)] for token, value in zip(tokens.tolist(), values, strict=False)
            ]
        else:
            rows = _rows(take(names, 0), logprobs)
        reason: FinishReason | None = None
        if len(tokens) and int(tokens[-1]) in model.eos_ids:
            reason = "stop"
        return Answer(tokens, top_entries(tokens, rows, entries, k, model.n_tokens), reason)

    def score(self, model: ServedModel, request: ScoreRequest, entries: int) -> Call:
        """The sequence, with where its response begins."""
        ids = [*map(int, request.prompt_token_ids), *request.response_token_ids.tolist()]
        body = {
            "sequences": [ids],
            "prompt_lengths": [len(request.prompt_token_ids)],
            "top_logprobs": entries,
            "temperature": 1.0,
            "response_format": "json",
        }
        return Call(SCORE, body)

    def read_score(
        self, model: ServedModel, request: ScoreRequest, answer: Any, entries: int, k: int
    ) -> TopK:
        """Entries by rank at each response token, its own among them."""
        tokens = np.asarray(request.response_token_ids, dtype=np.int32)
        rows = _rows(take(answer, "logprob_token_ids", 0), take(answer, "logprobs", 0))
        return top_entries(tokens, rows, entries, k, model.n_tokens)


def _rows(ids: Any, logprobs: Any) -> list[list[Entry]]:
    try:
        return [
            list(zip(map(int, names), values, strict=True))
            for names, values in zip(ids, logprobs, strict=True)
        ]
    except (TypeError, ValueError) as error:
        raise BadAnswer(f"its ids and logprobs do not fit each other: {error}") from error
