"""A record's prompt as chat messages: text or messages in, system message and suffix applied."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from s2d_store.errors import InputError
from s2d_store.messages import Message
from s2d_store.prompts.plain_json import dump

SYSTEM_ROLES = ("system", "developer")


def read_messages(where: str, value: Any) -> list[Message]:
    """Plain chat messages; text is one message of the user's. Every field is kept.

    Raises:
        InputError: names `where`: neither non-empty text nor a list of messages.
    """
    if isinstance(value, str) and value.strip():
        return [{"role": "user", "content": value}]
    if _is_list(value) and value and all(_is_message(m) for m in value):
        # Once through JSON: what comes out is what will be read from the store.
        messages: list[Message] = json.loads(dump(where, value))
        return messages
    shown = ascii(value)
    raise InputError(
        f"{where}: the prompt is {shown[:60]}",
        "a prompt is non-empty text or a list of {role, content} messages",
        "--prompt-field NAME",
    )


def with_system(where: str, messages: list[Message], system: str) -> list[Message]:
    """The messages under this system message; one that they begin with is replaced.

    Raises:
        InputError: names `where`: a system message stands further down.
    """
    if not system:
        return messages
    rest = messages[1:] if messages[0]["role"] in SYSTEM_ROLES else messages
    if any(message["role"] in SYSTEM_ROLES for message in rest):
        raise InputError(
            f"{where} has a system message that is not its first",
            "--system replaces the one that a prompt begins with, and no other",
            "leave --system out, or change the messages",
        )
    return [{"role": "system", "content": system}, *rest]


def with_suffix(where: str, messages: list[Message], suffix: str) -> list[Message]:
    """The messages with text put behind the user's last one.

    Raises:
        InputError: names `where`: no message is the user's.
    """
    if not suffix:
        return messages
    at = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    if at < 0:
        raise InputError(
            f"{where} has no message of the user's to put --suffix behind",
            f"its roles are {', '.join(m['role'] for m in messages)}",
            "leave --suffix out, or change the messages",
        )
    content = messages[at].get("content")
    longer: Any
    if isinstance(content, list):
        longer = [*content, {"type": "text", "text": suffix}]
    else:
        longer = (content or "") + suffix
    return [*messages[:at], {**messages[at], "content": longer}, *messages[at + 1 :]]


def read_tools(where: str, value: Any) -> str | None:
    """Tool definitions as JSON text: a list of objects, or JSON text of one. None for others."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if _is_list(value) and value and all(isinstance(tool, Mapping) for tool in value):
        return dump(where, value)
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        return False
    content = value.get("content")
    if content is None:
        return any(v is not None for k, v in value.items() if k not in ("role", "content"))
    return isinstance(content, str) or (_is_list(content) and all(map(_is_part, content)))


def _is_part(value: Any) -> bool:
    return isinstance(value, str | Mapping)
