"""`--ask-ids`: ask a server for token ids and logprobs, and hand the client what it asked for.

`return_token_ids` is vLLM's (0.10.2 and later); others pass over it or refuse it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from s2d_store.capture.exchange import Kind


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with ids asked for.

    Attributes:
        body: the request as it goes to the server.
        ids: whether the client left ids out, so that they are left out of its answer.
        logprobs: whether it left logprobs out.
    """

    body: bytes
    ids: bool
    logprobs: bool


def ask(kind: Kind, body: bytes) -> Asked | None:
    """The request with ids and logprobs asked for; None where it asks for them, or is no JSON."""
    try:
        told = json.loads(body)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    ids = not told.get("return_token_ids")
    chat = kind == "chat/completions"
    logprobs = not told.get("logprobs") if chat else told.get("logprobs") is None
    if not ids and not logprobs:
        return None
    told |= {"return_token_ids": True} if ids else {}
    # A completion's 0 is the sampled token alone.
    told |= {"logprobs": True if chat else 0} if logprobs else {}
    return Asked(json.dumps(told, ensure_ascii=False).encode(), ids, logprobs)


def strip(asked: Asked, body: bytes) -> bytes:
    """An answer, or one chunk of a stream, without what the client did not ask for.

    It is null there, as vLLM has it where nobody asks.
    """
    try:
        told = json.loads(body)
    except ValueError:
        return body
    if not isinstance(told, dict):
        return body
    _clear(told, asked)
    for choice in told.get("choices") or ():
        _clear(choice, asked)
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _clear(told: dict[str, Any], asked: Asked) -> None:
    names = ("prompt_token_ids", "token_ids") if asked.ids else ()
    for name in (*names, *(("logprobs",) if asked.logprobs else ())):
        if name in told:
            told[name] = None


class StreamStripper:
    """Strips a stream's chunks as they pass; every other line stays as it is."""

    def __init__(self, asked: Asked) -> None:
        self._asked, self._rest = asked, b""

    def feed(self, piece: bytes) -> bytes:
        """The lines that are whole by now, stripped."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return b"".join(self._line(line) + b"\n" for line in lines)

    def end(self) -> bytes:
        """What stood behind the last line."""
        return self._line(self._rest)

    def _line(self, line: bytes) -> bytes:
        if not line.startswith(b"data: {"):
            return line
        return b"data: " + strip(self._asked, line.removeprefix(b"data: "))
