"""A saved model's weights: which files they are, their parameters, and a hash of their bytes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError

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
_FLOATS = ("F64", "F32", "F16", "BF16")
# Routed experts; those that every token passes (shared_experts) are not among them.
_EXPERT = re.compile(r"(?:^|\.)experts\.")
# Rows of these are the ids of the vocabulary.
_BY_TOKEN = re.compile(r"(?:^|\.)(?:embed_tokens|wte|lm_head|word_embeddings|embed_in)\.weight$")
_LOOKUP = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in)\.weight$")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.weight$")
_OTHER_TOWER = re.compile(r"vision|visual|audio|speech|image")

Tensors = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Parameters:
    """What the headers of weight files say.

    Attributes:
        count: elements of all tensors, a tied output projection counted once.
        in_experts: of those, elements of routed experts.
        dtype: the dtype that most parameters are saved in, as PyTorch spells it.
        vocabulary_rows: rows of the embedding or output projection, None where none is known.
        in_lookup: elements of an input embedding that the output projection does not share.
        in_head: elements of the output projection, be it the input embedding.
    """

    count: int
    in_experts: int
    dtype: str
    vocabulary_rows: int | None
    in_lookup: int = 0
    in_head: int = 0


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model, in name order.

    Raises:
        InputError: there are none, or the index names one that is missing.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_index(index).get("weight_map", {}).values()))
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


def _index(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON", why=str(error), fix="save it again"
        ) from error
    return content


def count_parameters(files: Sequence[Path], *, tied: bool) -> Parameters:
    """Parameters by the headers of safetensors files.

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
    in_experts = 0
    for name, entry in tensors.items():
        size = math.prod(entry["shape"])
        elements[entry["dtype"]] += size
        in_experts += size if _EXPERT.search(name) else 0
    dtype = max(elements, key=lambda name: elements[name], default="")
    spelled = SAFETENSORS_DTYPES.get(dtype, dtype.lower())
    lookup, head = _size_of(_LOOKUP, tensors), _size_of(_HEAD, tensors)
    if not head and tied:
        lookup, head = 0, lookup
    rows = _vocabulary_rows(tensors)
    return Parameters(elements.total(), in_experts, spelled, rows, lookup, head)


def _size_of(name: re.Pattern[str], tensors: Tensors) -> int:
    """Elements of the first tensor of that name, of no other tower; 0 if there is none."""
    found = (key for key in tensors if name.search(key) and not _OTHER_TOWER.search(key))
    return next((math.prod(tensors[key]["shape"]) for key in found), 0)


def _vocabulary_rows(tensors: Tensors) -> int | None:
    for name, entry in tensors.items():
        if _BY_TOKEN.search(name) and not _OTHER_TOWER.search(name) and entry["dtype"] in _FLOATS:
            return int(entry["shape"][0])
    return None


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
