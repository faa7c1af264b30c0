"""Any OpenAI-compatible server: what it gives beyond text is taken where its tokens have ids.

Tokens named by their text are not mapped to ids: two tokens may share a text. A rollout without ids
says so (`tokens_from = none`), and has no logprobs.
"""

from __future__ import annotations

from typing import Any

from s2d_store.encoding.topk import TopK
from s2d_store.engines.base import SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.server_dialect import (
    Answer,
    BadAnswer,
    Call,
    ServedModel,
    finish_reason,
    take,
)

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


class OpenAIDialect:
    """See `Dialect`. Prompts go as ids, or as messages where there is no tokenizer here."""

    name = "openai"
    scores = False

    def sample(
        self, model: ServedModel, request: SampleRequest, params: SamplingParams, entries: int
    ) -> Call:
        """A completion by the parameters that every such server knows."""
        body: dict[str, Any] = {
            "model": model.name,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            # Some keep seeds in 32 bits.
            "seed": request.seed % 2**31,
        }
        if params.top_k:
            body["top_k"] = params.top_k
        if model.n_tokens:
            return Call(COMPLETIONS, body | {"prompt": list(request.prompt_token_ids)})
        return Call(CHAT, body | {"messages": [dict(m) for m in request.messages or ()]})

    def read_sample(
        self, model: ServedModel, request: SampleRequest, answer: Any, entries: int, k: int
    ) -> Answer:
        """The first choice's text."""
        choice = take(answer, "choices", 0)
        text = choice.get("text")
        if text is None:
            text = take(choice, "message", "content")
        if not isinstance(text, str):
            raise BadAnswer("its text is no text")
        return Answer(None, None, finish_reason(choice.get("finish_reason")), text)

    def score(self, model: ServedModel, request: ScoreRequest, entries: int) -> Call:
        """Never called: `scores` is False."""
        raise AssertionError("an OpenAI-compatible server scores nothing")

    def read_score(
        self, model: ServedModel, request: ScoreRequest, answer: Any, entries: int, k: int
    ) -> TopK:
        """Never called: `scores` is False."""
        raise AssertionError("an OpenAI-compatible server scores nothing")
