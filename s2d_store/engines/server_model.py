"""What is known here of a model that is served elsewhere: its tokenizer, and its config if any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2d_store.engines.stop_ids import stop_ids
from s2d_store.policies.locations import resolve_location
from s2d_store.policies.model_config import read_json, text_config
from s2d_store.policies.tokenizer import load_tokenizer, read_vocabulary, tokenizer_fingerprint

# Stands for a limit that nobody knows.
UNLIMITED = 2**31 - 1
PROBE_TEXTS = ("1+2=", "The capital of France is", "def mean(values):", "count: 1 2 3 4")


@dataclass(frozen=True)
class LocalModel:
    """A served model as far as this machine knows it.

    Attributes:
        tokenizer: a transformers tokenizer; None where there is none.
        fingerprint: of its vocabulary.
        n_tokens: ids that it has; 0 without one.
        vocab_size: outputs of the model; n_tokens where its config is not here.
        vocab_size_is_known: whether a config says so.
        max_model_len: of its config; 0 where it is not here.
        eos_ids: ids that end a response.
    """

    tokenizer: Any = None
    fingerprint: str | None = None
    n_tokens: int = 0
    vocab_size: int = 0
    vocab_size_is_known: bool = False
    max_model_len: int = 0
    eos_ids: frozenset[int] = frozenset()

    @classmethod
    def load(cls, location: str) -> LocalModel:
        """Read a folder or hub id; an empty location knows nothing.

        Raises:
            NotFoundError: nothing is there.
            InputError: there is no tokenizer in it.
        """
        if not location:
            return cls()
        folder = resolve_location(location)
        tokenizer = load_tokenizer(str(folder))
        vocabulary = read_vocabulary(tokenizer)
        config = _config(folder)
        outputs, length = config.get("vocab_size"), config.get("max_position_embeddings")
        known = isinstance(outputs, int) and outputs >= len(vocabulary)
        return cls(
            tokenizer,
            tokenizer_fingerprint(vocabulary),
            len(vocabulary),
            int(outputs) if known and outputs else len(vocabulary),
            known,
            length if isinstance(length, int) else 0,
            frozenset(stop_ids(str(folder), tokenizer)),
        )

    def prompts(self) -> list[list[int]]:
        """Token ids of a few short texts to ask a server about."""
        if self.tokenizer is None:
            return [[0]]
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROBE_TEXTS]
        return [[int(i) for i in row] for row in ids]


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return text_config(read_json(path)) if path.is_file() else {}
