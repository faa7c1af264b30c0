"""Which token ids end a response, by a model's generation config and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def stop_ids(location: str, tokenizer: Any) -> set[int]:
    """End-of-sequence ids of the generation config and the tokenizer of a folder or hub id."""
    from transformers import GenerationConfig

    try:
        configured = GenerationConfig.from_pretrained(
            location, local_files_only=Path(location).is_dir()
        ).eos_token_id
    except OSError:
        configured = None  # The model was saved without one.
    ids = configured if isinstance(configured, list) else [configured]
    return {int(eos) for eos in [*ids, tokenizer.eos_token_id] if eos is not None}
