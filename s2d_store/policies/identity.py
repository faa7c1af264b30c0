"""What a policy is: its weights and tokenizer, named by their content. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError, NotFoundError
from s2d_store.policies.tokenizer import (
    ID_BYTES,
    load_tokenizer,
    read_vocabulary,
    tokenizer_fingerprint,
)

# Fields that change with the library version or with how a model was loaded, not with the model.
VOLATILE_CONFIG_KEYS = frozenset(
    {"_name_or_path", "_attn_implementation", "dtype", "torch_dtype", "transformers_version"}
    | {"use_cache"}
)
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
# Pieces are hashed side by side, so one large file keeps every core busy.
PIECE_BYTES = 64 * 2**20
READ_BYTES = 2**20

# safetensors' names of dtypes, as PyTorch spells them.
SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
}


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
    """

    policy_id: str
    location: str
    revision: str
    tokenizer_fingerprint: str
    vocab_size: int
    n_parameters: int
    dtype: str


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
    config = _read_config(folder)
    files = weight_files(folder)
    vocabulary = read_vocabulary(load_tokenizer(str(folder)))
    fingerprint = tokenizer_fingerprint(vocabulary)
    n_parameters, dtype = count_parameters(files, tied=_tied(config))
    local = Path(location).expanduser().is_dir()
    info = PolicyInfo(
        policy_id=_policy_id(config, files, fingerprint),
        location=str(folder) if local else location,
        # A hub snapshot's folder is named after its commit.
        revision="" if local else folder.name,
        tokenizer_fingerprint=fingerprint,
        vocab_size=_vocab_size(folder, config),
        n_parameters=n_parameters,
        dtype=dtype,
    )
    return info, vocabulary


def resolve_location(location: str, revision: str | None = None) -> Path:
    """The absolute local folder of a policy, downloaded from the hub when it is a hub id.

    Raises:
        NotFoundError: no such folder, and no such repository that can be reached.
        InputError: a revision was given for a folder.
    """
    folder = Path(location).expanduser()
    if folder.is_dir():
        if revision:
            raise InputError(
                f"revision {revision!r} was given for the folder {location}",
                why="only hub repositories have revisions",
                fix="leave --revision out",
            )
        return folder.resolve()
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", location):
        raise NotFoundError(
            f"policy folder {location} does not exist",
            why="it is neither a folder nor the form of a hub id (owner/name)",
            fix="give a folder written by save_pretrained, or a hub id",
        )
    return _download(location, revision)


def _download(repo_id: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ModuleNotFoundError as error:
        raise NotFoundError(
            f"{repo_id} is not a folder here",
            why="hub ids need huggingface_hub, which is not installed",
            fix='give a folder, or: pip install "s2d[hub]"',
        ) from error
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=HUB_FILES))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        at = f" at revision {revision}" if revision else ""
        raise NotFoundError(
            f"{repo_id}{at} is neither a folder here nor a repository on the hub",
            why="the hub answered that it does not exist, or is private",
            fix="check the name; for a private or gated one: hf auth login",
        ) from error
    except OSError as error:
        # Offline mode, an unreachable hub and an incomplete cache are all OSErrors.
        raise NotFoundError(
            f"{repo_id} is neither a folder here nor can it be fetched from the hub",
            why=" ".join(str(error).split()),
            fix="give a folder, or connect to the hub once and run again",
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model, in name order.

    Raises:
        InputError: there are none, or the index names one that is missing.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    elif (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise InputError(
            f"{folder} lacks {missing[0] if missing else 'model.safetensors'}",
            why=f"{index.name} names it" if missing else "only safetensors weights are read",
            fix=f"save the model there: model.save_pretrained({str(folder)!r})",
        )
    return [folder / name for name in names]


def count_parameters(files: Sequence[Path], *, tied: bool) -> tuple[int, str]:
    """Parameters and their commonest dtype, from the headers of safetensors files.

    Args:
        files: safetensors files of one model.
        tied: the output projection shares the input embedding; when both are saved, one counts.

    Raises:
        InputError: a file is truncated or not safetensors.
    """
    tensors = {name: entry for path in files for name, entry in _safetensors_header(path).items()}
    if tied and any(name.endswith("embed_tokens.weight") for name in tensors):
        tensors.pop("lm_head.weight", None)
    elements: Counter[str] = Counter()
    for entry in tensors.values():
        elements[entry["dtype"]] += math.prod(entry["shape"])
    dtype = max(elements, key=lambda name: elements[name], default="")
    return elements.total(), SAFETENSORS_DTYPES.get(dtype, dtype.lower())


def hash_files(files: Sequence[Path]) -> bytes:
    """blake2b over the content of files in order; names and folders do not matter.

    Pieces of 64 MiB are hashed in threads (hashlib releases the interpreter's lock), then the
    hashes of the pieces, with each file's size, are hashed.
    """

    def digest(piece: tuple[Path, int]) -> bytes:
        path, start = piece
        piece_hash, left = hashlib.blake2b(), PIECE_BYTES
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while left and (block := file.read(min(left, READ_BYTES))):
                piece_hash.update(block)
                left -= len(block)
        return piece_hash.digest()

    def pieces() -> Iterator[tuple[Path, int]]:
        for path in files:
            yield from ((path, start) for start in range(0, path.stat().st_size, PIECE_BYTES))

    total = hashlib.blake2b()
    for path in files:
        total.update(path.stat().st_size.to_bytes(8, "little"))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for piece_digest in pool.map(digest, pieces()):
            total.update(piece_digest)
    return total.digest()


def _policy_id(config: dict[str, Any], files: Sequence[Path], fingerprint: str) -> str:
    canonical = json.dumps(_stable(config), sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(digest_size=ID_BYTES)
    for part in (canonical.encode(), hash_files(files), fingerprint.encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stable(v) for k, v in value.items() if k not in VOLATILE_CONFIG_KEYS}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise InputError(
            f"{folder} lacks config.json",
            why="it holds an adapter, not a whole model" if adapter else "it is no saved model",
            fix=("merge the adapter, then " if adapter else "save one there: ")
            + f"model.save_pretrained({str(folder)!r})",
        )
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON", why=str(error), fix="save it again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object", fix="save it again")
    return content


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def _tied(config: dict[str, Any]) -> bool:
    text = _text_config(config)
    return bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))


def _vocab_size(folder: Path, config: dict[str, Any]) -> int:
    size = _text_config(config).get("vocab_size", config.get("vocab_size"))
    if not isinstance(size, int):
        raise InputError(
            f"{folder / 'config.json'} has no vocab_size",
            why="the model is not a causal language model that s2d can use",
            fix="give a model saved by AutoModelForCausalLM.save_pretrained",
        )
    return size


def _safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """The header of a safetensors file: 8 bytes of little-endian length, then that much JSON."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length + 8 > size:
            raise _truncated(path, f"{size} bytes cannot hold its header")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise _truncated(path, str(error)) from error
    header.pop("__metadata__", None)
    end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end > size:
        raise _truncated(path, f"its tensors end at byte {end}, the file at {size}")
    tensors: dict[str, dict[str, Any]] = header
    return tensors


def _truncated(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a whole safetensors file", why=why, fix="copy, download or save it again"
    )
