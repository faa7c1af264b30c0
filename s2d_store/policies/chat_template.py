"""Prompts as token ids: chat messages through a template, or as plain text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.policies.time_limit import TimeLimitExceeded, time_limit
from s2d_store.policies.tokenizer import ID_BYTES

# No template takes a hundredth of it; one that loops is stopped.
RENDER_SECONDS = 10.0
# What s2d itself decides when it renders.
RESERVED_KWARGS = frozenset(
    {"conversation", "messages", "tools", "chat_template", "add_generation_prompt", "tokenize"}
    | {"continue_final_message", "padding", "truncation", "max_length", "return_tensors"}
    | {"return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"}
)


def template_hash(template: object) -> str | None:
    """16 hex characters over a chat template (text, or several by name); None for none."""
    if not template:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=ID_BYTES).hexdigest()


def saved_template(folder: Path) -> object:
    """The chat template that `save_pretrained` left in a folder, read without transformers.

    Returns:
        Text, several by name, or None. As transformers does, `chat_template.jinja` goes before
        what stands in `tokenizer_config.json`.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    if not (file := folder / "tokenizer_config.json").is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8")).get("chat_template")
    if isinstance(found, list):
        return {each["name"]: each["template"] for each in found}
    return found


def render_chat(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    template: str | None = None,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """Prompt token ids of a conversation, ending where the assistant begins to write.

    As vLLM does, arguments of tool calls that are JSON text of an object are handed over as the
    object, which templates print, and contents of text parts as their text.

    Args:
        tokenizer: a transformers tokenizer.
        messages: plain messages: role, content, and fields such as `tool_calls`.
        template: Jinja text to use in place of the tokenizer's own chat template.
        tools: tool definitions that the template may render.
        kwargs: further variables of the template, such as `enable_thinking`.

    Raises:
        InputError: there is no chat template, it rejects or cannot render these messages, or it
            takes longer than RENDER_SECONDS.
    """
    return _render(tokenizer, messages, template, tools, kwargs, open_ended=True)


def render_conversation(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    template: str | None = None,
    *,
    tools: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """Token ids of a conversation that is complete, as trainers make them of messages.

    Args:
        tokenizer: a transformers tokenizer.
        messages: plain messages, the assistant's last.
        template: Jinja text to use in place of the tokenizer's own chat template.
        tools: tool definitions as JSON.
        kwargs: further variables of the template.

    Raises:
        InputError: as `render_chat`.
    """
    read = json.loads(tools) if tools else None
    return _render(tokenizer, messages, template, read, kwargs, open_ended=False)


def _render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    template: str | None,
    tools: Sequence[Mapping[str, Any]] | None,
    kwargs: Mapping[str, Any] | None,
    *,
    open_ended: bool,
) -> list[int]:
    from jinja2 import TemplateError

    if template is None and not tokenizer.chat_template:
        raise InputError(
            "the policy's tokenizer has no chat template",
            why="base models are saved without one",
            fix="pass --template FILE.jinja, or --no-chat-template for the plain text",
        )
    roles = f"roles: {', '.join(message['role'] for message in messages)}"
    fix = "change the messages, or pass --template FILE.jinja"
    try:
        with time_limit(RENDER_SECONDS):
            encoded = tokenizer.apply_chat_template(
                [_for_template(message) for message in messages],
                tools=[dict(tool) for tool in tools] if tools else None,
                chat_template=template,
                add_generation_prompt=open_ended,
                tokenize=True,
                # Version 5 of transformers returns a mapping unless told otherwise.
                return_dict=False,
                **(kwargs or {}),
            )
    except TemplateError as error:
        raise InputError(f"the chat template rejects the prompt: {error}", roles, fix) from error
    except TimeLimitExceeded as error:
        raise InputError(
            f"the chat template does not end: stopped after {RENDER_SECONDS:g} s", roles, fix
        ) from error
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}; {roles}"
        raise InputError("the chat template cannot render the prompt", reason, fix) from error
    except (RecursionError, MemoryError) as error:
        raise InputError(
            f"the chat template cannot render the prompt: {type(error).__name__}", roles, fix
        ) from error
    return [int(token_id) for token_id in encoded]


def render_plain(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Prompt token ids of the messages' contents, an empty line between, without a template.

    What the tokenizer puts before a text (a beginning-of-sequence token) is kept, once; what it
    puts behind one (an end-of-sequence token) is left out, as the prompt goes on.
    """
    text = "\n\n".join(_text(message.get("content")) for message in messages)
    plain = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    whole = [int(i) for i in tokenizer(text)["input_ids"]]
    extra = len(whole) - len(plain)
    at = next((i for i in range(extra + 1) if whole[i : i + len(plain)] == plain), None)
    # A tokenizer that reads a text otherwise when it adds tokens: trust the text alone.
    before = whole[:at] if at is not None and plain else []
    if plain[: len(before)] == before:
        before = []
    return before + plain


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(message)
    if isinstance(plain.get("content"), list):
        plain["content"] = _text(plain["content"])
    if isinstance(plain.get("tool_calls"), list):
        plain["tool_calls"] = [_with_arguments(call) for call in plain["tool_calls"]]
    return plain


def _with_arguments(call: Any) -> Any:
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    arguments = call["function"].get("arguments")
    try:
        read = json.loads(arguments) if isinstance(arguments, str) else None
    except (ValueError, RecursionError):
        return call
    if not isinstance(read, dict):
        return call
    return {**call, "function": {**call["function"], "arguments": read}}


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    texts = []
    for part in content:
        text = part if isinstance(part, str) else part.get("text")
        if not isinstance(text, str):
            raise InputError(
                f"a message has a part of type {part.get('type')!r}",
                "s2d feeds text alone to models",
                "leave such prompts out with --where",
            )
        texts.append(text)
    return "".join(texts)
