"""A stream of server-sent events as the one answer that it spells, as if it had come whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]
# Texts that come in pieces; every other text is told once, or repeated.
_PIECES = ("text", "content", "reasoning", "reasoning_content", "refusal", "arguments")


def assembled(text: str) -> Json:
    """The body that a stream's chunks make together: choices with whole messages.

    A stream that was cut gives what had come; its choices then have no finish reason.

    Args:
        text: `data: {...}` lines; a last line that was cut is left out.
    """
    body: Json = {}
    choices: dict[int, Json] = {}
    for chunk in _chunks(text):
        for piece in chunk.pop("choices", None) or ():
            piece = dict(piece)
            if "delta" in piece:
                piece["message"] = piece.pop("delta")
            _merge(choices.setdefault(piece.get("index", 0), {}), piece)
        body |= {name: value for name, value in chunk.items() if value is not None}
    return body | {"choices": [_with_calls(choices[index]) for index in sorted(choices)]}


def _chunks(text: str) -> Iterator[Json]:
    for line in text.split("\n"):
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        try:
            chunk = json.loads(data)
        except ValueError:
            return  # cut within this line: nothing follows
        if isinstance(chunk, dict):
            yield chunk


def _merge(whole: Json, piece: Mapping[str, Any]) -> None:
    for name, value in piece.items():
        had = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif had is None and not isinstance(value, dict | list):
            whole[name] = value
        elif name == "tool_calls":
            _merge_calls(whole, value)
        elif isinstance(value, dict):
            whole[name] = had if isinstance(had, dict) else {}
            _merge(whole[name], value)
        elif isinstance(value, list):
            whole[name] = [*(had or ()), *value] if name != "prompt_token_ids" else value
        elif name in _PIECES:
            whole[name] = f"{had}{value}"
        elif value != "":
            whole[name] = value


def _merge_calls(whole: Json, pieces: list[Json]) -> None:
    """Calls by index, which is no part of a call; `_with_calls` makes a list of them."""
    calls: dict[int, Json] = whole.get("tool_calls") or {}
    whole["tool_calls"] = calls
    for piece in pieces:
        call = calls.setdefault(piece.get("index", len(calls)), {})
        _merge(call, {name: value for name, value in piece.items() if name != "index"})


def _with_calls(choice: Json) -> Json:
    message = choice.get("message") or {}
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return choice
