"""Tokenizers: load one, fingerprint its vocabulary, render chat messages to token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2d_store.errors import EngineError, InputError, load_failure_hint

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


ID_BYTES = 8


def load_tokenizer(location: str) -> Any:
    """The transformers tokenizer saved at a folder (read without network) or hub id.

    Raises:
        InputError: there is none, or it cannot be read.
        EngineError: transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise EngineError(
            f"the tokenizer of {location} needs transformers, not installed here",
            why="the base install holds the store, queries and SQL only",
            fix='pip install "s2d[train]"',
        ) from error

    folder = Path(location)
    local = folder.is_dir()
    if local and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(
            f"{location} has no tokenizer",
            why=f"it holds none of {', '.join(TOKENIZER_FILES)}",
            fix=f"save it beside the model: tokenizer.save_pretrained({location!r})",
        )
    try:
        return AutoTokenizer.from_pretrained(
            location, local_files_only=local, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"the tokenizer of {location} cannot be loaded",
            *load_failure_hint(
                error,
                " ".join(str(error).split()),
                f"save it again: tokenizer.save_pretrained({location!r})",
            ),
        ) from error


def read_vocabulary(tokenizer: Any) -> list[str]:
    """Token i at index i, added tokens included; an empty string where an id is unused."""
    ids: Mapping[str, int] = tokenizer.get_vocab()
    vocabulary = [""] * (max(ids.values(), default=-1) + 1)
    for token, token_id in ids.items():
        vocabulary[token_id] = token
    return vocabulary


def tokenizer_fingerprint(vocabulary: Sequence[str]) -> str:
    """16 hex characters over the ordered tokens.

    The chat template stays out: stored rollouts are scored by their ids.
    """
    digest = hashlib.blake2b(digest_size=ID_BYTES)
    for token in vocabulary:
        # surrogatepass: byte-level vocabularies may hold lone surrogates.
        encoded = token.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return digest.hexdigest()


def tokenizer_difference(vocab_a: Sequence[str], vocab_b: Sequence[str], limit: int = 5) -> str:
    """How two vocabularies differ, for an error message; empty when they are the same.

    Args:
        vocab_a: token i at index i.
        vocab_b: the same, of the other.
        limit: most token ids to name.

    Returns:
        For example `2 of 98 token ids differ: id 17: '7' vs '8'; id 18: '8' vs '7'`.
    """
    shared = min(len(vocab_a), len(vocab_b))
    differing = [i for i in range(shared) if vocab_a[i] != vocab_b[i]]
    parts = []
    if len(vocab_a) != len(vocab_b):
        parts.append(f"sizes {len(vocab_a)} vs {len(vocab_b)}")
    if differing:
        named = "; ".join(f"id {i}: {vocab_a[i]!r} vs {vocab_b[i]!r}" for i in differing[:limit])
        more = f"; and {len(differing) - limit} more" if len(differing) > limit else ""
        parts.append(f"{len(differing)} of {shared} token ids differ: {named}{more}")
    return ", ".join(parts)


def render_chat(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], template: str | None = None
) -> list[int]:
    """Prompt token ids of a conversation, ending where the assistant begins to write.

    Args:
        tokenizer: a transformers tokenizer.
        messages: `role` and `content` of each turn.
        template: Jinja text to use in place of the tokenizer's own chat template.

    Raises:
        InputError: there is no chat template, or it rejects these messages.
    """
    from jinja2 import TemplateError

    if template is None and not tokenizer.chat_template:
        raise InputError(
            "the policy's tokenizer has no chat template",
            why="base models are saved without one",
            fix="pass --template FILE.jinja, or --no-chat-template for the plain text",
        )
    try:
        encoded = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            # Version 5 of transformers returns a mapping unless told otherwise.
            return_dict=False,
        )
    except TemplateError as error:
        raise InputError(
            f"the chat template rejects the prompt: {error}",
            why=f"roles: {', '.join(message['role'] for message in messages)}",
            fix="change the messages, or pass --template FILE.jinja",
        ) from error
    return [int(token_id) for token_id in encoded]


def render_plain(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Prompt token ids of the messages' contents, an empty line between, without a template."""
    text = "\n\n".join(message["content"] for message in messages)
    return [int(token_id) for token_id in tokenizer(text)["input_ids"]]
