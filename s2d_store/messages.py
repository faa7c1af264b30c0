"""Chat messages as stored: role and content as columns, every other field as JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]


def to_stored(message: Mapping[str, Any]) -> Message:
    """A chat message as table prompts holds it: `role`, `content` and `extra` (JSON or null).

    Fields beside role and content, such as `tool_calls`, `tool_call_id` and `name`, are kept in
    `extra`, their own fields in their order, which templates render. A content of parts (a list)
    is kept there too, its text joined in `content`. A field that is null counts as not there.
    """
    content = message.get("content")
    fields = sorted(k for k in message if k not in ("role", "content") and message[k] is not None)
    extra = {name: message[name] for name in fields}
    if content is not None and not isinstance(content, str):
        extra["content"] = content
        content = "".join(map(_text, content))
    text = json.dumps(extra, ensure_ascii=False) if extra else None
    return {"role": message["role"], "content": content, "extra": text}


def from_stored(message: Mapping[str, Any]) -> Message:
    """The inverse of `to_stored`: a message as chat templates and trainers take it."""
    extra = message.get("extra")
    plain = {"role": message["role"], "content": message["content"]}
    return plain | json.loads(extra) if extra else plain


def text_of(message: Mapping[str, Any]) -> str:
    """A plain message's text: its content, or that of its text parts; empty for none."""
    content = message.get("content")
    return content if isinstance(content, str) else "".join(map(_text, content or ()))


def _text(part: Any) -> str:
    return part if isinstance(part, str) else part.get("text") or ""
