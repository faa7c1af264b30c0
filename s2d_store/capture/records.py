"""Exchanges as rollouts: one per choice, in the neutral form that every importer yields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from s2d_store.capture import streams
from s2d_store.errors import InputError
from s2d_store.importers import files
from s2d_store.importers.files import Line
from s2d_store.importers.formats import openai_batch
from s2d_store.importers.record import (
    Asked,
    LogprobsKind,
    Record,
    Sampler,
    Sampling,
    moment,
    reason,
    without,
)
from s2d_store.importers.registry import Importer
from s2d_store.prompts import plain_json
from s2d_store.redact import redacted

Json = dict[str, Any]
_SETTINGS = ("temperature", "top_p", "top_k", "max_tokens", "seed")
_PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")
_EXTRA = ("min_p", "min_tokens", "stop", "stop_token_ids", "logit_bias", *_PENALTIES)
_BODY = "out.response.body"
_ENDS = {"upstream": "error", "client": "aborted", "whole": "error"}


def records(line: Line) -> Iterator[Record]:
    """The rollouts of one exchange.

    Args:
        line: of the spool; see `Exchange`.

    Raises:
        InputError: it cannot be read as rollouts: cut before an answer was whole, or of a form that
            has no rollouts.
    """
    told = line.value
    asked = _json(told["request"], "the request")
    body = (
        streams.assembled(told["response"])
        if told["sse"]
        else _json(told["response"], "the answer")
    )
    _check_text(told["request"], asked, "the request")
    _check_text(told["response"], body, "the answer")
    chat = told["kind"] == "chat/completions"
    prompts = [asked["messages"]] if chat else _prompts(asked)
    choices = body.get("choices") or []
    if not choices:
        raise InputError("the answer has no choices")
    per_prompt = max(1, asked.get("n") or 1)
    rest = _rest(told, asked, body, chat)
    for part, choice in enumerate(choices):
        at = choice["index"] // per_prompt
        shared = _shared(line, asked, body, prompts[at], chat)
        kept = rest if part == 0 else None
        made = _chat(shared, asked, body, part, choice, kept)
        if not chat:
            made = _completion(shared, prompts[at], part, choice, kept)
        made.index = None if told["group"] else choice["index"] % per_prompt
        made.finish_reason = reason(choice.get("finish_reason")) or _unfinished(told, choice)
        yield made


def _json(text: str, what: str) -> Json:
    try:
        value = json.loads(text)
    except ValueError:
        raise InputError(f"{what} is not JSON, or was cut") from None
    if not isinstance(value, dict):
        raise InputError(f"{what} is not a JSON object")
    return value


def _check_text(text: str, value: Json, what: str) -> None:
    """Refuse half of a surrogate pair, which is no text: only an escape can bring one in."""
    if "\\ud" in text or "\\uD" in text:
        plain_json.check(what, value)


def _unfinished(told: Json, choice: Json) -> str | None:
    """Why a choice has no known finish reason; None for a word that is not known."""
    return None if choice.get("finish_reason") else _ENDS[told["ended"]]


def _prompts(asked: Json) -> list[Any]:
    """A completion's prompts, each a text or a list of ids."""
    if asked.get("echo") or asked.get("suffix"):
        raise InputError("a completion with echo or suffix: its text is not the response alone")
    prompt = asked["prompt"]
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    return prompt if several else [prompt]


def _shared(line: Line, asked: Json, body: Json, prompt: Any, chat: bool) -> Json:
    told = line.value
    limit = asked.get("max_tokens", asked.get("max_completion_tokens"))
    settings = {name: asked.get(name) for name in _SETTINGS} | {"max_tokens": limit}
    extra = {name: asked[name] for name in _EXTRA if asked.get(name) is not None}
    drawn = {**settings, **extra, "seed": None}
    same = files.hashed(json.dumps([prompt, asked.get("tools"), drawn], sort_keys=True).encode())
    if chat:
        question = Asked(messages=prompt, tools=asked.get("tools") or None)
    else:
        question = Asked(text=prompt if isinstance(prompt, str) else None, form="templated")
    server = told["server"]
    return {
        "file": line.file,
        "line": line.number,
        "content": told["exchange"],
        # A group is of one prompt and one way to draw, whatever the client calls its group.
        "group": [told["run"], told["group"] or told["exchange"], same],
        "asked": question,
        "sampler": Sampler(model=asked.get("model") or body.get("model")),
        "sampling": Sampling(**settings, extra=extra or None),
        "logprobs_kind": _kind(told, asked),
        "purpose": told["stored"]["purpose"],
        "endpoint": server["endpoint"],
        "engine": server["name"],
        "engine_version": server["version"],
        "created_at": moment(told["at"]),
        "size": line.size,
    }


def _kind(told: Json, asked: Json) -> LogprobsKind:
    """Raw where it is said, vLLM's default, or both are the same; processed is the careful word."""
    said: LogprobsKind | None = told["stored"]["logprobs"] or None
    if said:
        return said
    plain = asked.get("temperature") == 1 and asked.get("top_p") == 1
    changed = any(asked.get(name) for name in ("min_p", "logit_bias", *_PENALTIES[:2]))
    changed = changed or asked.get("repetition_penalty") not in (None, 1)
    plain = plain and not changed and asked.get("top_k") in (None, 0, -1)
    return "raw" if plain or told["server"]["name"] == "vllm" else "processed"


def _chat(
    shared: Json, asked: Json, body: Mapping[str, Any], part: int, choice: Json, rest: Any
) -> Record:
    messages = {"messages": asked.get("messages") or []}
    said = {"role": "assistant", "content": choice.get("text")}
    choice = choice | {"message": said | (choice.get("message") or {})}
    return openai_batch.sampled(shared, messages, body, part, choice, rest)


def _completion(shared: Json, prompt: Any, part: int, choice: Json, rest: Any) -> Record:
    """A completion's choice, its logprobs in the form that a chat's have."""
    given = choice.get("logprobs") or {}
    tokens = given.get("tokens") or []
    tops = given.get("top_logprobs") or [None] * len(tokens)
    content = [
        {
            "token": token,
            "logprob": -9999.0 if logprob is None else logprob,
            "top_logprobs": [{"token": t, "logprob": v} for t, v in (top or {}).items()],
        }
        for token, logprob, top in zip(tokens, given.get("token_logprobs") or [], tops, strict=True)
    ]
    like_chat = choice | {"logprobs": {"content": content}}
    made = _chat(shared, {}, choice, part, like_chat, rest)
    made.messages = None
    if not isinstance(prompt, str):
        made.prompt_token_ids = prompt  # which also names the prompt
    return made


def _rest(told: Json, asked: Json, body: Json, chat: bool) -> Json:
    """What no column holds, secrets masked."""
    whole = {"in": {"body": asked}, "out": {"response": {"body": body}}}
    held = openai_batch.held(body) if chat else _held_of_completion(body)
    held += [f"in.body.{name}" for name in (*_SETTINGS, *_EXTRA, "model", "tools")]
    # A prompt of ids has a column only beside the response's ids.
    held += ["in.body.prompt"] if isinstance(asked.get("prompt"), str) else []
    names = ("exchange", "group", "kind", "ended")
    kept: Json = redacted({name: told[name] for name in names} | without(whole, held))
    return kept


def _held_of_completion(body: Json) -> list[str]:
    held = [f"{_BODY}.model", f"{_BODY}.created"]
    held += [f"{_BODY}.choices.*.{name}" for name in ("index", "text", "finish_reason")]
    for part, choice in enumerate(body["choices"]):
        if choice.get("token_ids") is not None:
            path = f"{_BODY}.choices.{part}"
            held += [f"{path}.{name}" for name in ("token_ids", "prompt_token_ids")]
            held += [f"{path}.logprobs.token_logprobs"]
    return held


IMPORTER = Importer(
    "capture",
    "1",
    "requests that passed through s2d capture",
    lambda head: head.keys >= {"exchange", "request", "response"},
    lambda path, name: files.records(path, name, records),
    {},
)
