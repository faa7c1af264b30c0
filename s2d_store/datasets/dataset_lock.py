"""Parse a dataset folder's `lock.json` and check what lies beside it; pyarrow alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.datasets.lock_file import check_parts, check_seal
from s2d_store.errors import DatasetError, NotFoundError
from s2d_store.storage.checked_parquet import check_footer

FORMAT_VERSION = 2
# Version 1: parts alone, a fingerprint over every byte, no views.
READABLE = (1, 2)
COUNTS = ("rows", "updates", "prompt_tokens", "response_tokens", "labels")


@dataclass(frozen=True)
class SourceFiles:
    """Files of the store that a dataset by reference reads.

    Attributes:
        columns: name in the dataset by name in the files.
        files: paths within the store.
        ranks: of top-k, the files with the rank tables of its ids.
        footers: hash of each file's footer; empty in locks from before these were kept.
    """

    columns: Mapping[str, str]
    files: tuple[str, ...]
    ranks: tuple[str, ...] = ()
    footers: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetLock:
    """What `lock.json` says; see `s2d dataset build`.

    Attributes:
        name: the dataset's name, also its folder's.
        kind: the query family that built it, e.g. `warmup`.
        fingerprint: hex digest over the ordered rows, the same in either form.
        tokenizer_fingerprint: hex digest that the student's tokenizer must have.
        counts: rows, updates, prompt_tokens, response_tokens, labels.
        files: `(path within the folder, rows, bytes)` of each part, in training order; by
            reference, of the one file with the light rows.
        sources: by reference, where the tokens lie, by the prefix of the rows' columns that say in
            which row; empty for a dataset in parts.
        raw: the whole document.
    """

    name: str
    kind: str
    fingerprint: str
    tokenizer_fingerprint: str
    counts: Mapping[str, int]
    files: tuple[tuple[str, int, int], ...]
    sources: Mapping[str, SourceFiles]
    raw: Mapping[str, Any] = field(repr=False)


def read_lock(folder: Path) -> DatasetLock:
    """Parse `folder/lock.json`.

    Raises:
        NotFoundError: there is none.
        DatasetError: it is not JSON, is of another format version, was edited or lacks a key.
    """
    path = folder / "lock.json"
    if not path.is_file():
        raise NotFoundError(
            f"no locked dataset in {folder}", "it has no lock.json", "s2d dataset build NAME ..."
        )
    fix = f"s2d dataset build {folder.name} ..."
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON", str(error), fix) from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version not in READABLE:
        raise DatasetError(
            f"{path} has format version {version!r}",
            f"this release reads versions {' and '.join(map(str, READABLE))}",
            "install the s2d release that wrote it, or rebuild the dataset",
        )
    check_seal(raw)
    check_parts(raw)
    try:
        return DatasetLock(
            name=raw["name"],
            kind=raw["kind"],
            fingerprint=raw["fingerprint"],
            tokenizer_fingerprint=raw["tokenizer_fingerprint"],
            counts={name: int(raw["counts"][name]) for name in COUNTS},
            files=tuple((f["path"], int(f["rows"]), int(f["bytes"])) for f in raw["files"]),
            sources={
                prefix: SourceFiles(
                    source["columns"],
                    tuple(source["files"]),
                    tuple(source.get("ranks", ())),
                    tuple(source.get("footers", ())),
                )
                for prefix, source in raw.get("sources", {}).items()
            },
            raw=raw,
        )
    except KeyError as error:
        raise DatasetError(f"{path} lacks the key {error}", fix=fix) from error


def check_files(folder: Path, lock: DatasetLock) -> tuple[str, ...]:
    """Check each part's presence, size and row count, and that files of the store are there.

    Returns:
        Names of the dataset's columns.

    Raises:
        DatasetError: one differs from the lock.
    """
    columns: tuple[str, ...] = ()
    footers = {file["path"]: file.get("footer") for file in lock.raw["files"]}
    for path, rows, size in lock.files:
        columns = _check_part(folder / path, rows, size, footers[path], lock.name, columns)
    if not lock.sources:
        return columns
    root = store_of(folder)
    for source in lock.sources.values():
        for file in (*source.files, *source.ranks):
            if not (root / file).is_file():
                raise DatasetError(
                    f"{root / file} is missing",
                    f"dataset {lock.name} is a lock by reference: it reads its tokens in the store "
                    f"two folders above it",
                    f"s2d dataset restore {lock.name}; for a folder that is read without its "
                    f"store, s2d dataset materialise {lock.name} there, then copy it",
                )
    return tuple(column.split(":")[0] for column in lock.raw["columns"])


def store_of(folder: Path) -> Path:
    """The store that a dataset's folder lies in."""
    return folder.resolve().parent.parent


def _check_part(
    path: Path, rows: int, size: int, footer: str | None, name: str, columns: tuple[str, ...]
) -> tuple[str, ...]:
    """Compare one part with its lock entry; returns its columns, equal to `columns` if any."""
    fix = f"s2d dataset verify {name}; rebuild it if that fails"
    if not path.is_file():
        raise DatasetError(f"{path} is missing", "the lock lists it", fix)
    actual = path.stat().st_size
    if actual != size:
        raise DatasetError(f"{path} has {actual} bytes", f"the lock says {size}", fix)
    try:
        check_footer(path, footer)
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path} is not the file that was locked", str(error), fix) from error
    if metadata.num_rows != rows:
        raise DatasetError(f"{path} has {metadata.num_rows} rows", f"the lock says {rows}", fix)
    found = tuple(metadata.schema.to_arrow_schema().names)
    if "update" not in found:
        raise DatasetError(f"{path} has no column update", f"it has {', '.join(found)}", fix)
    if columns and found != columns:
        raise DatasetError(
            f"{path} has columns {', '.join(found)}",
            f"the parts before it have {', '.join(columns)}",
            fix,
        )
    return found
