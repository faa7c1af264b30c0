"""Tokenizers: load one, fingerprint its vocabulary, tell two apart."""

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


def tokenizer_hash(folder: Path) -> str:
    """16 hex characters over tokenizer.json: merges, normalizer and added tokens included.

    A tokenizer without that file is hashed by its other files.
    """
    digest = hashlib.blake2b(digest_size=ID_BYTES)
    names = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    for name in names[:1] if "tokenizer.json" in names else names:
        content = (folder / name).read_bytes()
        digest.update(len(content).to_bytes(8, "little") + content)
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
