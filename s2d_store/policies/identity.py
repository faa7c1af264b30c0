"""What a policy is: its weights and tokenizer, named by their content. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2d_store.errors import S2DError
from s2d_store.policies.chat_template import saved_template, template_hash
from s2d_store.policies.hash_cache import hash_weights
from s2d_store.policies.locations import resolve_location
from s2d_store.policies.model_config import (
    active_parameters,
    attention_width,
    read_config,
    tied,
    vocab_size,
)
from s2d_store.policies.tokenizer import (
    ID_BYTES,
    load_tokenizer,
    read_vocabulary,
    tokenizer_fingerprint,
    tokenizer_hash,
)
from s2d_store.policies.weights import count_parameters, weight_files

# Fields that change with the library version or with how a model was loaded, not with the model.
VOLATILE_CONFIG_KEYS = frozenset(
    {"_name_or_path", "_attn_implementation", "dtype", "torch_dtype", "transformers_version"}
    | {"use_cache"}
)


@dataclass(frozen=True)
class PolicyInfo:
    """A model that was found, read and named by its content.

    Attributes:
        policy_id: 16 hex characters over config, weights and tokenizer; the same model copied to
            another folder has the same id, one optimizer step gives another.
        location: the absolute folder, or the hub id as given.
        revision: the hub commit; empty for a folder.
        tokenizer_fingerprint: 16 hex characters over the ordered id -> token map.
        vocab_size: the model's output size; may be padded above the tokenizer's.
        n_parameters: elements of the saved tensors, a tied output projection counted once.
        dtype: the dtype that most parameters are saved in, for example `bfloat16`.
        active_parameters: those that one token uses; None where a mixture of experts does not say.
        lookup_parameters, head_parameters, attention_width: see table policies.
        tokenizer_hash: 16 hex characters over tokenizer.json.
        template_hash: 16 hex characters over the chat template; None where there is none.
    """

    policy_id: str
    location: str
    revision: str
    tokenizer_fingerprint: str
    vocab_size: int
    n_parameters: int
    dtype: str
    active_parameters: int | None
    lookup_parameters: int
    head_parameters: int
    attention_width: int | None
    tokenizer_hash: str
    template_hash: str | None


def inspect_policy(location: str, revision: str | None = None) -> tuple[PolicyInfo, list[str]]:
    """Read a saved model's identity; no weights are loaded, only hashed.

    Args:
        location: a folder written by `save_pretrained`, or a hub id.
        revision: branch, tag or commit on the hub; None takes the default branch.

    Returns:
        The policy, and its vocabulary: token i at index i, an empty string where an id is unused.

    Raises:
        NotFoundError: no such folder, and no such repository that can be reached.
        InputError: a file is missing or malformed.
    """
    folder = resolve_location(location, revision)
    config = read_config(folder)
    files = weight_files(folder)
    parameters = count_parameters(files, tied=tied(config))
    tokenizer = load_tokenizer(str(folder))
    vocabulary = read_vocabulary(tokenizer)
    n_outputs = vocab_size(folder, config, parameters.vocabulary_rows)
    fingerprint = tokenizer_fingerprint(vocabulary)
    local = Path(location).expanduser().is_dir()
    info = PolicyInfo(
        policy_id=_policy_id(config, files, fingerprint),
        location=str(folder) if local else location,
        # A hub snapshot's folder is named after its commit.
        revision="" if local else folder.name,
        tokenizer_fingerprint=fingerprint,
        vocab_size=n_outputs,
        n_parameters=parameters.count,
        dtype=parameters.dtype,
        active_parameters=active_parameters(config, parameters),
        lookup_parameters=parameters.in_lookup,
        head_parameters=parameters.in_head,
        attention_width=attention_width(config),
        tokenizer_hash=tokenizer_hash(folder),
        template_hash=template_hash(tokenizer.chat_template),
    )
    return info, vocabulary


def is_unchanged(
    folder: Path, policy_id: str, fingerprint: str, tokenizer: str | None, template: str | None
) -> bool:
    """Whether a folder's weights, tokenizer and chat template still are those of these hashes.

    Loads no tokenizer, so it takes milliseconds where the weights' hash is cached.
    """
    try:
        return (
            tokenizer_hash(folder) == tokenizer
            and template_hash(saved_template(folder)) == template
            and _policy_id(read_config(folder), weight_files(folder), fingerprint) == policy_id
        )
    except (OSError, ValueError, LookupError, S2DError):
        return False


def _policy_id(config: dict[str, Any], files: Sequence[Path], fingerprint: str) -> str:
    canonical = json.dumps(_stable(config), sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(digest_size=ID_BYTES)
    for part in (canonical.encode(), hash_weights(files), fingerprint.encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stable(v) for k, v in value.items() if k not in VOLATILE_CONFIG_KEYS}
    return [_stable(item) for item in value] if isinstance(value, list) else value
