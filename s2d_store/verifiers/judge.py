"""A model as the verifier: a server with OpenAI's API is asked what a response is worth."""

from __future__ import annotations

import asyncio
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from s2d_store import ids
from s2d_store.errors import InputError
from s2d_store.messages import text_of
from s2d_store.redact import redact
from s2d_store.verifiers.base import Item, Outcome, Verdict

REVISION = "1"
"""Ours: raise it whenever the same reply can become another verdict."""
KEY_VARIABLE = "S2D_JUDGE_API_KEY"
PLACES = ("question", "response", "answer")
RETRIED = (429, 500, 502, 503, 504)
RETRY_AFTER_S = (0.5, 2.0)
MAX_REPLY_CHARS = 2_000

_PLACE = re.compile(rf"\{{({'|'.join(PLACES)})\}}")
_SAYS = re.compile(
    r"^[^\w\n]*(?:verdict|score)[^\w\n]*[:=][^\w\n+.-]*(?P<said>[+-]?[\d.]+(?:e[+-]?\d+)?|[a-z]+)[^\w\n]*$",
    re.I | re.M,
)
_RIGHT, _WRONG = ("correct", "right", "yes", "true"), ("wrong", "incorrect", "no", "false")


class Judge:
    """Grades by a model's last line `VERDICT: correct`, `VERDICT: wrong` or `SCORE: 0.7`.

    The prompt is a text file with `{response}` in it and, where wanted, `{question}`, `{answer}`.
    With `{answer}` only prompts with a gold answer are graded. A reply without such a line, an HTTP
    error and a server that cannot be reached are outcome `error`, a late reply `timeout`; neither
    has a reward. Busy servers (429, 5xx) are asked again twice.

    The key comes from the environment variable S2D_JUDGE_API_KEY alone.

    Args:
        url: the server's base, such as `http://127.0.0.1:8000/v1`.
        model: the name that the server knows it by.
        prompt: the prompt's file.
        name: stored with every reward.
        temperature: as text; 0 by default.
        max_tokens: most tokens of a reply; 1024 by default.
        timeout_s: seconds for one reply; 60 by default. A worker's deadline should be longer.

    Attributes:
        version: a hash of model, prompt and sampling: another prompt is another version.
        description: model, prompt and sampling as stored with the run.
    """

    def __init__(
        self,
        url: str,
        model: str,
        prompt: str,
        name: str = "judge",
        temperature: str = "0",
        max_tokens: str = "1024",
        timeout_s: str = "60",
    ) -> None:
        self._url = _checked_url(url)
        self._template = _read_prompt(prompt)
        self._timeout_s = _number("timeout_s", timeout_s)
        self._sampling = {
            "temperature": _number("temperature", temperature),
            "max_tokens": int(_number("max_tokens", max_tokens)),
        }
        self._model, self.name = model, name
        self.description: Mapping[str, Any] = {
            "model": model,
            "prompt": self._template,
            **self._sampling,
        }
        self.version = f"judge{REVISION}-{ids.content_id(self.description)[:12]}"
        self.needs_answer = "{answer}" in self._template
        self._client: Any = None

    async def grade(self, item: Item) -> Verdict:
        """Ask the model once; several accepted gold answers stand in one question."""
        import httpx

        if self._client is None:
            key = os.environ.get(KEY_VARIABLE, "")
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            self._client = httpx.AsyncClient(headers=headers, timeout=self._timeout_s)
        asked = {"model": self._model, "messages": self._messages(item), **self._sampling}
        began = time.perf_counter()
        try:
            response = await self._post(asked)
        except httpx.TimeoutException:
            return Verdict(None, "timeout", detail=f"no reply within {self._timeout_s:g} s")
        except httpx.HTTPError as error:
            return _error(f"{self._url} cannot be reached: {type(error).__name__}: {error}")
        if response.status_code != 200:
            return _error(f"HTTP {response.status_code}: {response.text[:300]}")
        try:
            found = response.json()
            reply = found["choices"][0]["message"]["content"]
            if not isinstance(reply, str):
                raise TypeError("its content is no text")
        except (ValueError, LookupError, TypeError) as error:
            return _error(f"no chat completion: {error!r}: {response.text[:300]}")
        return as_verdict(reply, _cost(found.get("usage"), self._model, began))

    async def _post(self, asked: Mapping[str, Any]) -> Any:
        """The server's response; asked again where it is busy."""
        for pause in RETRY_AFTER_S:
            response = await self._client.post(f"{self._url}/chat/completions", json=asked)
            if response.status_code not in RETRIED:
                return response
            await asyncio.sleep(pause)
        return await self._client.post(f"{self._url}/chat/completions", json=asked)

    def _messages(self, item: Item) -> list[dict[str, str]]:
        shown = {
            "question": "\n\n".join(text_of(m) for m in item.messages if m["role"] != "system"),
            "response": item.response.rpartition("</think>")[2].strip(),
            "answer": "\nor ".join(item.accepted),
        }
        # One pass: a response that holds "{answer}" stays as it is.
        text = _PLACE.sub(lambda place: shown[place[1]], self._template)
        return [{"role": "user", "content": text}]


def as_verdict(reply: str, cost: Mapping[str, Any]) -> Verdict:
    """A judge's reply as a verdict: the last line that says one, after any thinking."""
    said = [match["said"].lower() for match in _SAYS.finditer(reply.rpartition("</think>")[2])]
    detail = reply[-MAX_REPLY_CHARS:]
    if said and said[-1] in (*_RIGHT, *_WRONG):
        outcome: Outcome = "correct" if said[-1] in _RIGHT else "wrong"
        return Verdict(float(outcome == "correct"), outcome, said[-1], detail, cost=cost)
    try:
        reward = float(said[-1])
        if not math.isfinite(reward):
            raise ValueError(reward)
    except (IndexError, ValueError):
        return _error(f"no line VERDICT: or SCORE: in the reply {detail!r}", cost)
    return Verdict(reward, "scored", said[-1], detail, cost=cost)


def _cost(usage: Any, model: str, began: float) -> dict[str, Any]:
    """What a reply cost: tokens as the server counts them, seconds, model."""
    counts = usage if isinstance(usage, Mapping) else {}
    named = {"prompt_tokens": "prompt_tokens", "completion_tokens": "completion_tokens"}
    found = {name: counts[key] for name, key in named.items() if isinstance(counts.get(key), int)}
    if found:
        found["tokens"] = sum(found.values())
    return {**found, "seconds": round(time.perf_counter() - began, 3), "model": model}


def _error(detail: str, cost: Mapping[str, Any] | None = None) -> Verdict:
    return Verdict(None, "error", detail=detail, cost=cost)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InputError(
            f"the judge's url {redact(url)!r} is no server's",
            "it is http:// or https://, without a user; a key comes from the environment",
            f"url=http://127.0.0.1:8000/v1, and {KEY_VARIABLE} set where the server wants one",
        )
    return url.rstrip("/")


def _read_prompt(path: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the judge's prompt {path} cannot be read", str(error), "prompt=FILE of plain text"
        ) from error
    if "{response}" not in text:
        raise InputError(
            f"the judge's prompt {path} never shows the response",
            "it has no {response} in it",
            "write {response}, and where wanted {question} and {answer}, where they should stand",
        )
    return text


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf or (value == 0 and name != "temperature"):
        raise InputError(f"the judge's {name} {text!r} is not usable", "it is a number above 0")
    return value
