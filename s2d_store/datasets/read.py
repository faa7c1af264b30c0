"""Read a locked dataset, one optimizer update at a time; needs only pyarrow and numpy.

A locked dataset is a folder: `lock.json` and Parquet parts in training order. Every row carries
`update`, the optimizer update that it feeds, so a schedule is read and never computed here.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from s2d_store.datasets.lock_file import check_parts, check_seal
from s2d_store.datasets.prefetch import prefetch
from s2d_store.errors import DatasetError, InputError, NotFoundError

FORMAT_VERSION = 1
COUNTS = ("rows", "updates", "prompt_tokens", "response_tokens", "labels")
ListColumn = tuple[NDArray[Any], NDArray[np.int64]]


@dataclass(frozen=True)
class DatasetLock:
    """What `lock.json` says; see `s2d dataset build`.

    Attributes:
        name: the dataset's name, also its folder's.
        kind: the query family that built it, e.g. `warmup`.
        fingerprint: hex digest over the ordered rows.
        tokenizer_fingerprint: hex digest that the student's tokenizer must have.
        counts: rows, updates, prompt_tokens, response_tokens, labels.
        files: `(path within the folder, rows, bytes)` of each part, in training order.
        raw: the whole document.
    """

    name: str
    kind: str
    fingerprint: str
    tokenizer_fingerprint: str
    counts: Mapping[str, int]
    files: tuple[tuple[str, int, int], ...]
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class UpdateRows:
    """The rows of one optimizer update, as NumPy arrays; views of the Arrow buffers where possible.

    Attributes:
        update: 1-based number of the update.
        n_rows: rows R in it, at least 1.
        lists: column -> (values, offsets): row r holds `values[offsets[r]:offsets[r + 1]]`;
            offsets int64 (R + 1,), the first is 0; a null list of booleans has no entries.
        scalars: column -> (R,) array; strings as objects, a null among floats as NaN.
    """

    update: int
    n_rows: int
    lists: Mapping[str, ListColumn]
    scalars: Mapping[str, NDArray[Any]]

    def lengths(self, column: str) -> NDArray[np.int64]:
        """Entries a row of a list column, int64 (R,)."""
        return np.diff(self.lists[column][1])


class LockedDataset:
    """A dataset whose files have been checked against its lock.

    Attributes:
        folder: where it lies.
        lock: what it must contain.
        columns: names of the columns that its files hold.
    """

    def __init__(self, folder: Path, lock: DatasetLock, columns: tuple[str, ...]) -> None:
        self.folder = folder
        self.lock = lock
        self.columns = columns

    @classmethod
    def open(cls, folder: str | Path) -> LockedDataset:
        """Parse the lock and check each part's presence, size and row count.

        Raises:
            NotFoundError: no lock there.
            DatasetError: a lock that cannot be read, or a part that differs from it.
        """
        folder = Path(folder)
        lock = read_lock(folder)
        columns: tuple[str, ...] = ()
        for path, rows, size in lock.files:
            columns = _check_part(folder / path, rows, size, lock.name, columns)
        return cls(folder, lock, columns)

    def updates(self, start: int = 1, columns: Sequence[str] | None = None) -> Iterator[UpdateRows]:
        """Yield the rows of each update from `start` on, in training order.

        Parts and row groups that end before `start` are skipped by their statistics, so any start
        is as quick as the first. A thread reads one row group ahead, another assembles one update
        ahead: memory is bounded by three row groups and three updates, whatever the dataset's size.

        Every process of a run reads all rows of an update, and makes batches of its own share only
        (`trainers.batches.deal`). Shares are balanced by length, so their rows lie anywhere in the
        update, and Parquet decodes whole row groups: reading less would need shares that follow the
        files, whose ranks would wait for the one with the longest rows.

        Args:
            start: first update wanted, 1-based.
            columns: columns to read; None reads all. `update` is read in any case.

        Raises:
            InputError: a column that the dataset lacks, or `start` below 1.
            DatasetError: updates out of order, or nulls.
        """
        if start < 1:
            raise InputError(f"start is {start}", "updates are numbered from 1", "start at 1")
        names = list(self.columns if columns is None else columns)
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise InputError(
                f"dataset {self.lock.name} has no column {', '.join(missing)}",
                f"it has {', '.join(self.columns)}",
                "rebuild it with a query that selects the column",
            )
        return prefetch(self._assembled(start, names), "read-ahead-update")

    def _assembled(self, start: int, names: list[str]) -> Generator[UpdateRows, None, None]:
        """The updates from `start` on, each joined from the row groups that it lies in."""
        groups = self._row_groups(start, sorted({*names, "update"}))
        pieces: list[UpdateRows] = []
        for table in prefetch(groups, "read-ahead-group"):
            for piece in _split(table, names, self.lock.name):
                if pieces and piece.update != pieces[-1].update:
                    if piece.update < pieces[-1].update:
                        raise _corrupt(
                            self.lock.name,
                            f"update {piece.update} follows update {pieces[-1].update}",
                        )
                    yield _concatenate(pieces)
                    pieces = []
                if piece.update >= start:
                    pieces.append(piece)
        if pieces:
            yield _concatenate(pieces)

    def _row_groups(self, start: int, columns: list[str]) -> Generator[pa.Table, None, None]:
        """Read the row groups that can hold an update >= start."""
        paths = [self.folder / path for path, _, _ in self.lock.files]
        for path in paths[bisect_left(paths, float(start), key=_last_update) :]:
            with pq.ParquetFile(path) as file:
                for index, last in enumerate(_last_updates(file.metadata)):
                    if last >= start:
                        yield file.read_row_group(index, columns=columns)


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
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {version!r}",
            f"this release reads version {FORMAT_VERSION}",
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
            raw=raw,
        )
    except KeyError as error:
        raise DatasetError(f"{path} lacks the key {error}", fix=fix) from error


def _check_part(
    path: Path, rows: int, size: int, name: str, columns: tuple[str, ...]
) -> tuple[str, ...]:
    """Compare one part with its lock entry; returns its columns, equal to `columns` if any."""
    fix = f"s2d dataset verify {name}; rebuild it if that fails"
    if not path.is_file():
        raise DatasetError(f"{path} is missing", "the lock lists it", fix)
    actual = path.stat().st_size
    if actual != size:
        raise DatasetError(f"{path} has {actual} bytes", f"the lock says {size}", fix)
    try:
        metadata = pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{path} is not a Parquet file", str(error), fix) from error
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


def _last_update(path: Path) -> float:
    """Last update of a part, at least."""
    return max(_last_updates(pq.read_metadata(path)), default=math.inf)


def _last_updates(metadata: pq.FileMetaData) -> list[float]:
    """Last update of each row group by its statistics; infinity where it has none."""
    leaf = _leaf_index(metadata, "update")
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    statistics = [group.column(leaf).statistics for group in groups]
    return [s.max if s is not None and s.has_min_max else math.inf for s in statistics]


def _leaf_index(metadata: pq.FileMetaData, name: str) -> int:
    """Position of a scalar column among the Parquet leaves (list columns have one leaf each)."""
    for index in range(metadata.num_columns):
        if metadata.schema.column(index).path == name:
            return index
    raise DatasetError(f"column {name} is not a scalar", "", "rebuild the dataset")


def _split(table: pa.Table, names: Sequence[str], dataset: str) -> Iterator[UpdateRows]:
    """Cut one row group where `update` changes; lists and numbers stay views."""
    if table.num_rows == 0:
        return
    update = _scalar(table, "update", dataset)
    is_list = {name: pa.types.is_list(table.schema.field(name).type) for name in names}
    lists = {name: _list(table, name, dataset) for name in names if is_list[name]}
    scalars = {name: _scalar(table, name, dataset) for name in names if not is_list[name]}
    cuts = [0, *(np.flatnonzero(np.diff(update)) + 1).tolist(), table.num_rows]
    for first, last in pairwise(cuts):
        yield UpdateRows(
            update=int(update[first]),
            n_rows=last - first,
            lists={name: _cut(column, first, last) for name, column in lists.items()},
            scalars={name: column[first:last] for name, column in scalars.items()},
        )


def _cut(column: ListColumn, first: int, last: int) -> ListColumn:
    values, offsets = column
    low, high = offsets[first], offsets[last]
    return values[low:high], offsets[first : last + 1] - low


def _one_chunk(table: pa.Table, name: str, dataset: str, nullable: bool = False) -> pa.Array:
    column = table.column(name)
    array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    if array.null_count and not nullable:
        raise _corrupt(dataset, f"column {name} has nulls")
    return array


def _scalar(table: pa.Table, name: str, dataset: str) -> NDArray[Any]:
    # A float may be unknown, as the reward of a row that nothing graded; ids and counts may not.
    nullable = pa.types.is_floating(table.schema.field(name).type)
    chunk = _one_chunk(table, name, dataset, nullable)
    array: NDArray[Any] = chunk.to_numpy(zero_copy_only=False)
    return array


def _list(table: pa.Table, name: str, dataset: str) -> ListColumn:
    # A mask may be null, as a row's that masks nothing: Parquet reads it as a list of no entries.
    nullable = pa.types.is_boolean(table.schema.field(name).type.value_type)
    array = _one_chunk(table, name, dataset, nullable)
    if array.values.null_count:
        raise _corrupt(dataset, f"column {name} has nulls")
    offsets = array.offsets.to_numpy().astype(np.int64)
    return array.values.to_numpy(zero_copy_only=False), offsets


def _concatenate(pieces: list[UpdateRows]) -> UpdateRows:
    """Join the parts of one update that lay in several row groups."""
    if len(pieces) == 1:
        return pieces[0]
    first = pieces[0]
    return UpdateRows(
        update=first.update,
        n_rows=sum(piece.n_rows for piece in pieces),
        lists={name: _join_lists([piece.lists[name] for piece in pieces]) for name in first.lists},
        scalars={
            name: np.concatenate([piece.scalars[name] for piece in pieces])
            for name in first.scalars
        },
    )


def _join_lists(columns: list[ListColumn]) -> ListColumn:
    lengths = np.concatenate([np.diff(offsets) for _, offsets in columns])
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.concatenate([values for values, _ in columns]), offsets


def _corrupt(dataset: str, why: str) -> DatasetError:
    return DatasetError(
        f"dataset {dataset} is damaged", why, f"s2d dataset verify {dataset}; rebuild it"
    )
