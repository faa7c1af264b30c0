"""Inference servers on loopback: a tiny model behind the shapes of vLLM, SGLang, TRL and OpenAI.

The shapes are those that were read or recorded of the servers; the numbers are a real model's, so
that what comes through HTTP can be compared with it. Faults are put in by a function.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s2d_store.engines.base import SampleRequest, SamplingParams, ScoreRequest

Json = dict[str, Any]
# Given path, body and the answer that would be sent: another answer, a response, or None.
Fault = Callable[[str, Json, Any], Any]


@dataclass
class Behaviour:
    """How a server behaves; tests change it while it runs.

    Attributes:
        engine: a transformers engine; whatever it samples and scores is the truth.
        model: the name that it serves.
        max_logprobs: largest k.
        processed: whether sampling divides logprobs by the temperature.
        given_ids: how ids of the caller's own are taken, if at all.
        fault: changes answers.
        key: bearer token that is wanted.
        asked: `(path, body)` of every POST.
    """

    engine: Any
    model: str = "tiny"
    max_logprobs: int = 50
    processed: bool = False
    given_ids: str = ""
    fault: Fault | None = None
    key: str = ""
    asked: list[tuple[str, Json]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Running:
    """A server that runs; `stop` ends it, `url` stays valid for another on the same port."""

    url: str
    port: int
    behaviour: Behaviour
    stop: Callable[[], None]


def start(app: Starlette, behaviour: Behaviour, port: int = 0) -> Running:
    """Serve an app on loopback until `stop`."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", port))
        port = found.getsockname()[1]
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), f"no server on port {port}"
        time.sleep(0.01)

    def stop() -> None:
        server.should_exit = server.force_exit = True
        thread.join(10)

    return Running(f"http://127.0.0.1:{port}", port, behaviour, stop)


@contextmanager
def serving(kind: str, engine: Any, **settings: Any) -> Iterator[Running]:
    """A server of a kind in APPS, for the time of a block."""
    behaviour = Behaviour(engine, **settings)
    running = start(APPS[kind](behaviour), behaviour)
    try:
        yield running
    finally:
        running.stop()


# What the model says.


@dataclass(frozen=True)
class Drawn:
    """A response with the whole distribution at each token, raw and as the sampler had it."""

    ids: list[int]
    finish: str
    raw: list[dict[int, float]]
    sampler: list[dict[int, float]]


def draw(b: Behaviour, prompt: list[int], params: SamplingParams, seed: int) -> Drawn:
    with b.lock:
        request = SampleRequest("r", prompt, seed)
        (sample,) = b.engine.sample([request], params, b.engine.vocab_size)
    raw = _rows(sample.topk)
    sampler = raw
    if b.processed and params.temperature not in (0, 1):
        sampler = [_tempered(row, params.temperature) for row in raw]
    return Drawn(sample.response_token_ids.tolist(), sample.finish_reason, raw, sampler)


def score(b: Behaviour, ids: list[int]) -> list[dict[int, float]]:
    """The distribution at each position from the second on."""
    if len(ids) < 2:
        return []
    with b.lock:
        request = ScoreRequest("r", ids[:1], np.array(ids[1:], dtype=np.int32))
        ((_, topk),) = b.engine.score([request], b.engine.vocab_size)
    return _rows(topk)


def _rows(topk: Any) -> list[dict[int, float]]:
    """By token id, likeliest first, as float32 prints."""
    pairs = zip(topk.token_ids.tolist(), topk.logprobs.tolist(), strict=True)
    return [dict(zip(ids, logprobs, strict=True)) for ids, logprobs in pairs]


def _tempered(row: dict[int, float], temperature: float) -> dict[int, float]:
    scaled = {token: value / temperature for token, value in row.items()}
    total = math.log(sum(map(math.exp, scaled.values())))
    return {token: value - total for token, value in scaled.items()}


def _top(row: dict[int, float], k: int) -> list[tuple[int, float]]:
    return list(row.items())[:k]


# What the servers make of it.


def _route(b: Behaviour, path: str, answer: Callable[[Json], Any], method: str = "POST") -> Route:
    async def endpoint(request: Request) -> Response:
        if b.key and request.headers.get("authorization") != f"Bearer {b.key}":
            return JSONResponse({"error": {"message": "Unauthorized"}}, 401)
        body = json.loads(await request.body() or b"{}")
        if method == "POST":
            b.asked.append((path, body))
        said = await _in_thread(answer, body)
        if b.fault is not None:
            changed = b.fault(path, body, said)
            said = said if changed is None else changed
        if isinstance(said, Response):
            return said
        return Response(json.dumps(said), media_type="application/json")

    return Route(path, endpoint, methods=[method])


async def _in_thread(answer: Callable[[Json], Any], body: Json) -> Any:
    from starlette.concurrency import run_in_threadpool

    made: Awaitable[Any] = run_in_threadpool(answer, body)
    return await made


def refusal(message: str, status: int = 400) -> Response:
    """As vLLM and OpenAI refuse a request."""
    return JSONResponse({"error": {"message": message, "code": status}}, status)


def vllm_app(b: Behaviour) -> Starlette:
    """vLLM 0.32's OpenAI server, as recorded."""

    def completions(body: Json) -> Any:
        k, prompt_k = body.get("logprobs"), body.get("prompt_logprobs")
        most = max(k or 0, prompt_k or 0)
        if most > b.max_logprobs:
            return refusal(
                f"Requested sample logprobs of {most}, which is greater than max allowed: "
                f"{b.max_logprobs} (parameter=logprobs, value={most})"
            )
        prompt = body["prompt"]
        if max(prompt) >= b.engine.vocab_size:
            return refusal(f"Token id {max(prompt)} is out of vocabulary")
        params = SamplingParams(
            body.get("temperature", 1.0),
            body.get("top_p", 1.0),
            body.get("top_k", 0),
            body["max_tokens"],
        )
        drawn = draw(b, prompt, params, body.get("seed") or 0)
        choice: Json = {
            "index": 0,
            "text": b.engine.tokenizer.decode(drawn.ids, skip_special_tokens=True),
            "finish_reason": drawn.finish,
            "token_ids": drawn.ids if body.get("return_token_ids") else None,
            "prompt_token_ids": prompt if body.get("return_token_ids") else None,
            "logprobs": None,
            "prompt_logprobs": None,
        }
        if k is not None:
            rows = list(zip(drawn.ids, drawn.sampler, strict=True))
            choice["logprobs"] = {
                "tokens": [f"token_id:{token}" for token, _ in rows],
                "token_logprobs": [row[token] for token, row in rows],
                "top_logprobs": [
                    {f"token_id:{t}": v for t, v in [(token, row[token]), *_top(row, k)]}
                    for token, row in rows
                ],
            }
        if prompt_k is not None:
            choice["prompt_logprobs"] = [None] + [
                {
                    str(t): {"logprob": v, "rank": 1, "decoded_token": "?"}
                    for t, v in [(token, row[token]), *_top(row, prompt_k)]
                }
                for token, row in zip(prompt[1:], score(b, prompt), strict=True)
            ]
        return {"model": b.model, "choices": [choice]}

    def tokenize(body: Json) -> Any:
        return {"tokens": b.engine.tokenizer(body["prompt"])["input_ids"]}

    def models(_: Json) -> Any:
        length = b.engine.max_model_len
        return {"data": [{"id": b.model, "max_model_len": length}]}

    return Starlette(
        routes=[
            _route(b, "/version", lambda _: {"version": "0.32.0"}, "GET"),
            _route(b, "/v1/models", models, "GET"),
            _route(b, "/tokenize", tokenize),
            _route(b, "/v1/completions", completions),
        ]
    )


def sglang_app(b: Behaviour) -> Starlette:
    """SGLang's native server; logprobs are `[logprob, token id, text or null]`."""

    def generate(body: Json) -> Any:
        sampling = body["sampling_params"]
        ids = body.get("input_ids")
        if ids is None:
            ids = b.engine.tokenizer(body["text"])["input_ids"]
        k = body.get("top_logprobs_num") or 0
        meta: Json = {"id": "x", "prompt_tokens": len(ids), "weight_version": "default"}
        drawn = Drawn([], "length", [], [])
        if sampling["max_new_tokens"]:
            params = SamplingParams(
                sampling["temperature"],
                sampling["top_p"],
                max(sampling["top_k"], 0),
                sampling["max_new_tokens"],
            )
            drawn = draw(b, ids, params, sampling["sampling_seed"])
            rows = list(zip(drawn.ids, drawn.sampler, strict=True))
            meta["output_token_logprobs"] = [[row[token], token, None] for token, row in rows]
            meta["output_top_logprobs"] = [
                [[value, token, None] for token, value in _top(row, k)] for _, row in rows
            ]
        meta |= {"completion_tokens": len(drawn.ids)}
        meta["finish_reason"] = {"type": drawn.finish, "matched": 2}
        start = body.get("logprob_start_len", -1)
        if start >= 0:
            rows = list(zip(ids[start + 1 :], score(b, ids)[start:], strict=True))
            meta["input_token_logprobs"] = [[None, ids[start], None]] + [
                [row[token], token, None] for token, row in rows
            ]
            meta["input_top_logprobs"] = [None] + [
                [[value, token, None] for token, value in _top(row, k)] for _, row in rows
            ]
            positions = body.get("token_ids_logprob_positions")
            union = body.get("token_ids_logprob")
            if positions and b.given_ids == "positions":
                asked = positions[start + 1 :]
            elif union and b.given_ids:
                asked = [union] * len(rows)
            else:
                asked = []
            meta["input_token_ids_logprobs"] = [None] + [
                [[row[token], token, None] for token in wanted]
                for wanted, (_, row) in zip(asked, rows, strict=False)
            ]
        text = b.engine.tokenizer.decode(drawn.ids)
        return {"text": text, "output_ids": drawn.ids, "meta_info": meta}

    return Starlette(
        routes=[
            _route(b, "/get_model_info", lambda _: {"model_path": b.model}, "GET"),
            _route(b, "/get_server_info", lambda _: {"version": "0.5.6"}, "GET"),
            _route(b, "/generate", generate),
        ]
    )


def trl_app(b: Behaviour) -> Starlette:
    """`trl vllm-serve`; entries by rank, the sampled token's among them."""

    def entries(token: int, row: dict[int, float], k: int) -> dict[int, float]:
        top = dict(_top(row, k))
        return top if token in top else top | {token: row[token]}

    def generate(body: Json) -> Any:
        params = SamplingParams(
            body["temperature"], body["top_p"], max(body["top_k"], 0), body["max_tokens"]
        )
        drawn = [draw(b, p, params, body["generation_kwargs"]["seed"]) for p in body["prompts"]]
        rows = [
            [entries(t, row, body["logprobs"]) for t, row in zip(d.ids, d.sampler, strict=True)]
            for d in drawn
        ]
        return {
            "prompt_ids": body["prompts"],
            "completion_ids": [d.ids for d in drawn],
            "logprobs": [[list(row.values()) for row in one] for one in rows],
            "logprob_token_ids": [[list(row) for row in one] for one in rows],
        }

    def sequence_logprobs(body: Json) -> Any:
        rows = []
        for ids, n_prompt in zip(body["sequences"], body["prompt_lengths"], strict=True):
            scored = zip(ids[n_prompt:], score(b, ids)[n_prompt - 1 :], strict=True)
            rows.append([entries(token, row, body["top_logprobs"]) for token, row in scored])
        return {
            "logprobs": [[list(row.values()) for row in one] for one in rows],
            "logprob_token_ids": [[list(row) for row in one] for one in rows],
        }

    return Starlette(
        routes=[
            _route(b, "/get_world_size/", lambda _: {"world_size": 1}, "GET"),
            _route(b, "/generate/", generate),
            _route(b, "/get_sequence_logprobs/", sequence_logprobs),
        ]
    )


def openai_app(b: Behaviour) -> Starlette:
    """An endpoint that gives text alone."""

    def completions(body: Json) -> Any:
        params = SamplingParams(body["temperature"], body["top_p"], 0, body["max_tokens"])
        drawn = draw(b, body["prompt"], params, body["seed"])
        text = b.engine.tokenizer.decode(drawn.ids, skip_special_tokens=True)
        return {"choices": [{"text": text, "finish_reason": drawn.finish, "logprobs": None}]}

    def chat(body: Json) -> Any:
        said = body["messages"][-1]["content"]
        message = {"role": "assistant", "content": f"heard: {said}"}
        return {"choices": [{"message": message, "finish_reason": "stop"}]}

    return Starlette(
        routes=[
            _route(b, "/v1/models", lambda _: {"data": [{"id": b.model}]}, "GET"),
            _route(b, "/v1/completions", completions),
            _route(b, "/v1/chat/completions", chat),
        ]
    )


APPS: dict[str, Callable[[Behaviour], Starlette]] = {
    "vllm": vllm_app,
    "sglang": sglang_app,
    "trl": trl_app,
    "openai": openai_app,
}
