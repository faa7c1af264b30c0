"""A server in the shapes of vLLM, SGLang and OpenAI, as recorded: fixed answers, no model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
PROMPT_IDS, IDS, LOGPROBS, WORDS = [5, 6, 7], [11, 12, 2], [-0.5, -0.25, -0.125], ["4", "2", ""]


@dataclass
class Upstream:
    """What the server saw, and how it behaves.

    Attributes:
        owner: what it says that it is.
        strict: refuses fields that it does not know, as OpenAI does.
        breaks_after: chunks of a stream after which the connection is cut; -1: never.
        hangs: streams its first chunk, then nothing.
        gone: set when the client of a stream that hangs has left.
        seen: headers and body of each POST.
    """

    owner: str = "vllm"
    strict: bool = False
    breaks_after: int = -1
    hangs: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[tuple[Json, Json]] = field(default_factory=list)


def app(up: Upstream) -> Starlette:
    async def post(request: Request) -> Response:
        body = await request.json()
        up.seen.append((dict(request.headers), body))
        if up.strict and "return_token_ids" in body:
            return JSONResponse({"error": {"message": "Unknown field: return_token_ids"}}, 400)
        chat = request.url.path.endswith("chat/completions")
        if body.get("stream"):
            return StreamingResponse(stream(up, chat, body), media_type="text/event-stream")
        return JSONResponse(whole(up, chat, body))

    async def models(request: Request) -> Response:
        return JSONResponse({"data": [{"id": "tiny", "owned_by": up.owner}]})

    async def version(request: Request) -> Response:
        return JSONResponse({"version": "0.32.0"})

    async def refused(request: Request) -> Response:
        return JSONResponse({"error": {"message": "no such key"}}, 401)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", post, methods=["POST"]),
            Route("/v1/completions", post, methods=["POST"]),
            Route("/v1/models", models),
            Route("/version", version),
            Route("/denied/chat/completions", refused, methods=["POST"]),
        ]
    )


def whole(up: Upstream, chat: bool, body: Json) -> Json:
    ids = up.owner == "vllm" and bool(body.get("return_token_ids"))
    choices = [choice(up, chat, body, index) for index in range(body.get("n") or 1)]
    told = {"id": "x", "created": 1_700_000_000, "model": "tiny", "choices": choices}
    if chat and up.owner == "vllm":
        told["prompt_token_ids"] = PROMPT_IDS if ids else None
    return told | {"usage": {"prompt_tokens": 3, "completion_tokens": 3}}


def choice(up: Upstream, chat: bool, body: Json, index: int) -> Json:
    made: Json = {"index": index, "finish_reason": "stop"}
    made["logprobs"] = logprobs(chat, 0, len(IDS)) if asks_logprobs(chat, body) else None
    if up.owner == "vllm":
        ids = bool(body.get("return_token_ids"))
        made["token_ids"] = IDS if ids else None
        if not chat:
            made["prompt_token_ids"] = PROMPT_IDS if ids else None
    if not chat:
        return made | {"text": "42"}
    message: Json = {"role": "assistant", "content": "42"}
    if body.get("tools"):
        call = {"name": "add", "arguments": '{"a": 1}'}
        message["tool_calls"] = [{"id": "c1", "type": "function", "function": call}]
        made["finish_reason"] = "tool_calls"
    return made | {"message": message}


def asks_logprobs(chat: bool, body: Json) -> bool:
    return bool(body.get("logprobs")) if chat else body.get("logprobs") is not None


def logprobs(chat: bool, start: int, end: int) -> Json:
    if chat:
        return {
            "content": [
                {"token": WORDS[i], "logprob": LOGPROBS[i], "bytes": [], "top_logprobs": []}
                for i in range(start, end)
            ]
        }
    return {"tokens": WORDS[start:end], "token_logprobs": LOGPROBS[start:end], "top_logprobs": None}


async def stream(up: Upstream, chat: bool, body: Json) -> AsyncIterator[bytes]:
    for i, chunk in enumerate(chunks(up, chat, body)):
        if i == up.breaks_after:
            raise ConnectionAbortedError
        yield f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()
        if up.hangs and i == 1:
            try:
                await asyncio.sleep(60)
            finally:
                up.gone.set()
    yield b"data: [DONE]\n\n"


def chunks(up: Upstream, chat: bool, body: Json) -> list[Json]:
    """One chunk per token; a chat's first one has the role, and vLLM's the prompt's ids."""
    ids = up.owner == "vllm" and bool(body.get("return_token_ids"))
    shared = {"id": "x", "created": 1_700_000_000, "model": "tiny"}
    made = []
    if chat:
        first: Json = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
        made.append(shared | {"choices": [first | {"finish_reason": None}]})
        if ids:
            made[0]["prompt_token_ids"] = PROMPT_IDS
    for i, word in enumerate(WORDS):
        last = i == len(WORDS) - 1
        piece: Json = {"index": 0, "finish_reason": "stop" if last else None}
        piece |= {"delta": {"content": word}} if chat else {"text": word}
        piece["logprobs"] = logprobs(chat, i, i + 1) if asks_logprobs(chat, body) else None
        if ids:
            piece["token_ids"] = IDS[i : i + 1]
            if not chat and i == 0:
                piece["prompt_token_ids"] = PROMPT_IDS
        made.append(shared | {"choices": [piece]})
    return made
