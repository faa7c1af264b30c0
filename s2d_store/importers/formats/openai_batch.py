"""Batch files of vLLM's runner or of OpenAI's API: requests and responses, joined by custom_id.

Logprobs are raw unless the server was started otherwise, which the files do not say. Tokens are ids
where the server gave them (`return_token_ids`, `return_tokens_as_token_ids`); texts of tokens alone
are never mapped to ids. A given sequence that was scored (`prompt_logprobs`) is a rollout of which
the policy sampled nothing, and the token after it one that branches off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers import files
from s2d_store.importers.files import Line
from s2d_store.importers.record import (
    Asked,
    Read,
    Record,
    Reject,
    Sampler,
    Sampling,
    TopEntries,
    moment,
    reason,
    without,
)
from s2d_store.importers.registry import Head, Importer
from s2d_store.importers.requests import Requests

_TOKEN = "token_id:"
_MISSING = -9999.0
_SETTINGS = ("temperature", "top_p", "top_k", "max_tokens", "seed")
_BODY = "out.response.body"
_HELD = ["in.body.model", "in.body.messages", f"{_BODY}.model", f"{_BODY}.created"]
_HELD += [f"in.body.{name}" for name in _SETTINGS]
_CHOICE = f"{_BODY}.choices.*"


def _read(path: Path, name: str) -> Iterator[Read]:
    beside = [p for p in sorted(path.parent.iterdir()) if p != path and p.is_file()]
    with Requests([p for p in beside if _is_request(files.suffix(p), p)]) as asked:
        seen: dict[str, int] = {}
        for line in files.json_lines(path, name):
            if isinstance(line, Reject):
                yield line
                continue
            custom = line.value.get("custom_id")
            if custom in seen:
                reason = "a custom_id that stands above already"
                yield Reject(name, line.number, reason, f"{custom!r}, line {seen[custom] + 1}")
                continue
            seen[str(custom)] = line.number
            yield from files.made(line, partial(_make, asked))


def _is_request(kind: str, path: Path) -> bool:
    return kind == ".jsonl" and files.first_record(path).keys() >= {"custom_id", "body"}


def _make(requests: Requests, line: Line) -> Iterator[Read]:
    row = line.value
    found = requests.find(row["custom_id"])
    if found is None:
        detail = f"no request {row['custom_id']!r} in a file beside it"
        yield Reject(line.file, line.number, "its request is missing, and so its prompt", detail)
        return
    asked, response = found["body"], row["response"]
    body = (response or {}).get("body")
    if "messages" not in asked:
        yield Reject(line.file, line.number, "not a chat completion", str(found.get("url")))
        return
    whole = {"in": found, "out": row}
    shared: dict[str, Any] = {
        "file": line.file,
        "line": line.number,
        "content": line.content,
        "group": (row["custom_id"], files.hashed(repr(sorted(asked.items())).encode())),
        "asked": Asked(messages=asked["messages"], tools=asked.get("tools") or None),
        "sampler": Sampler(model=asked.get("model")),
        "sampling": Sampling(**{name: asked.get(name) for name in _SETTINGS}),
        "engine": "vllm" if str(row.get("id", "")).startswith("vllm") else "server",
    }
    if not body or not body.get("choices"):
        rest = without(whole, _HELD)
        yield Record(**shared, size=line.size, finish_reason="error", rest=rest)
        return
    shared |= {"created_at": moment(body.get("created")), "size": line.size // len(body["choices"])}
    if body.get("prompt_logprobs") and body.get("prompt_token_ids"):
        yield from _scored(shared, whole)
        return
    for part, choice in enumerate(body["choices"]):
        rest = None if part else without(whole, held(body))
        yield sampled(shared, asked, body, part, choice, rest)


def held(body: Mapping[str, Any]) -> list[str]:
    """Paths of what the rows of a request's choices have."""
    held = [*_HELD, f"{_CHOICE}.index", f"{_CHOICE}.message", f"{_CHOICE}.finish_reason"]
    for part, choice in enumerate(body["choices"]):
        path, content = f"{_BODY}.choices.{part}", _content(choice)
        if _ids(choice) is not None:
            held += [f"{path}.logprobs.content.*.logprob"]
            held += [f"{_BODY}.prompt_token_ids"] if body.get("prompt_token_ids") else []
            held += [f"{path}.token_ids"] if choice.get("token_ids") is not None else []
        if content and _named(content):
            held.append(f"{path}.logprobs.content.*.token")
            if _tops(content) is not None:
                held += [f"{path}.logprobs.content.*.top_logprobs.*.{n}" for n in _ENTRY]
    return held


_ENTRY = ("token", "logprob")


def sampled(
    shared: Mapping[str, Any],
    asked: Mapping[str, Any],
    body: Mapping[str, Any],
    part: int,
    choice: Mapping[str, Any],
    rest: Any,
) -> Record:
    """One choice of a chat completion.

    Args:
        shared: fields of `Record` that a request's choices have in common.
        asked: the request's body: its messages.
        body: the answer: `prompt_token_ids`.
        part: which of the answer's rollouts.
        choice: with `message`, and `token_ids` and `logprobs` where the server gave them.
        rest: what no column holds.
    """
    content, tokens = _content(choice), _ids(choice)
    logprobs = None
    if content and tokens is not None and len(content) == len(tokens):
        logprobs = [_logprob(entry["logprob"]) for entry in content]
    top = None
    if content and logprobs and None not in logprobs and (tops := _tops(content)):
        top = TopEntries(
            support="given",
            k=len(tops) // len(content),
            token_ids=[_id(entry["token"]) for entry in tops],
            logprobs=[entry["logprob"] for entry in tops],
            sampled=[entry["logprob"] for entry in content],
        )
    return Record(
        **shared,
        part=part,
        index=choice["index"],
        prompt_token_ids=body.get("prompt_token_ids") if tokens is not None else None,
        response_token_ids=tokens,
        logprobs=logprobs,
        messages=[*asked["messages"], choice["message"]],
        text=choice["message"].get("content"),
        finish_reason=reason(choice.get("finish_reason")),
        top=top,
        rest=rest,
    )


def _content(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    return (choice.get("logprobs") or {}).get("content") or []


def _ids(choice: Mapping[str, Any]) -> list[int] | None:
    """The sampled ids: as such, or as tokens named by id."""
    if choice.get("token_ids") is not None:
        return list(choice["token_ids"])
    content = _content(choice)
    return [_id(entry["token"]) for entry in content] if content and _named(content) else None


def _named(content: list[dict[str, Any]]) -> bool:
    return all(entry["token"].startswith(_TOKEN) for entry in content)


def _id(token: str) -> int:
    return int(token.removeprefix(_TOKEN))


def _logprob(value: float) -> float | None:
    return None if value == _MISSING else value


def _tops(content: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The entries of every token where all are named by id, in equal number, and known."""
    sizes = {len(entry.get("top_logprobs") or ()) for entry in content}
    if len(sizes) != 1 or sizes == {0}:
        return None
    tops = [top for entry in content for top in entry["top_logprobs"]]
    known = all(top["token"].startswith(_TOKEN) and top["logprob"] != _MISSING for top in tops)
    return tops if known else None


def _scored(shared: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[Record]:
    """Part 0: the given sequence, scored. Part 1: what was sampled after it."""
    asked, body = whole["in"]["body"], whole["out"]["response"]["body"]
    if len(body["choices"]) != 1:
        raise InputError("a scored prompt with several choices")
    (choice,) = body["choices"]
    first, *given = body["prompt_token_ids"]
    entries = body["prompt_logprobs"][1:]
    logprobs = [
        _logprob(at[str(token)]["logprob"]) for token, at in zip(given, entries, strict=True)
    ]
    k = min(map(len, entries), default=0)
    ranked = [
        (int(token), top["logprob"])
        for at in entries
        for token, top in sorted(at.items(), key=lambda item: item[1]["rank"])[:k]
    ]
    known = None not in logprobs and all(value != _MISSING for _, value in ranked)
    held = [*_HELD, f"{_BODY}.prompt_token_ids", f"{_CHOICE}.message", f"{_CHOICE}.finish_reason"]
    held += [f"{_CHOICE}.token_ids"]
    held += [f"{_BODY}.prompt_logprobs.*.*.logprob"] if known else []
    yield Record(
        **shared,
        prompt_token_ids=[first],
        response_token_ids=given,
        response_mask=[False] * len(given),
        logprobs=logprobs,
        messages=asked["messages"],
        top=TopEntries(
            support="own",
            k=k,
            token_ids=[token for token, _ in ranked],
            logprobs=[value for _, value in ranked],
            sampled=[value for value in logprobs if value is not None],
        )
        if known and k
        else None,
        rest=without(whole, held),
    )
    sampled = list(choice.get("token_ids") or ())
    yield Record(
        **shared,
        part=1,
        parent=0,
        parent_tokens=len(given),
        prompt_token_ids=[first],
        response_token_ids=given + sampled,
        response_mask=[False] * len(given) + [True] * len(sampled),
        messages=[*asked["messages"], choice["message"]],
        text=choice["message"].get("content"),
        finish_reason=reason(choice.get("finish_reason")),
    )


def _claims(head: Head) -> bool:
    return head.kind == ".jsonl" and head.keys >= {"custom_id", "response"}


def _beside(head: Head) -> bool:
    return head.kind == ".jsonl" and head.keys >= {"custom_id", "body"}


IMPORTER = Importer(
    "openai-batch",
    "0.32",
    "batch files of vLLM or OpenAI",
    _claims,
    _read,
    {
        "prompt": "the request's messages and tools",
        "messages": "the request's and the choice's",
        "response_text": "the choice's message",
        "prompt_token_ids": "prompt_token_ids (return_token_ids)",
        "response_token_ids": "token_ids, or tokens named by id",
        "response_logprobs": "logprobs; -9999 becomes null",
        "topk": "top_logprobs named by id; prompt_logprobs of a scored sequence",
        "sampling settings": "the request",
        "finish_reason": "finish_reason; error where the request failed",
        "group_id": "the request; index: the choice's",
    },
    (
        "top_logprobs named by text: two tokens may share a text; kept in column source",
        "lines that are no chat completion",
    ),
    logprobs="raw",
    beside=_beside,
)
