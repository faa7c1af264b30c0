"""Read a locked dataset, one optimizer update at a time; needs only pyarrow and numpy.

A locked dataset is a folder with `lock.json` and Parquet files in training order. Either these are
parts that hold everything, or one file with the light columns of each row and where its tokens lie
in the store around it. Every row carries `update`, the optimizer update that it feeds, so a
schedule is read and never computed here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from s2d_store.datasets.dataset_lock import (
    COUNTS,
    FORMAT_VERSION,
    DatasetLock,
    check_files,
    read_lock,
)
from s2d_store.datasets.heavy_columns import heavy_columns
from s2d_store.datasets.prefetch import prefetch
from s2d_store.datasets.update_rows import (
    DeferredLists,
    Int64,
    ListColumn,
    UpdateRows,
    concatenate,
)
from s2d_store.encoding.list_columns import to_numpy
from s2d_store.errors import DatasetError, InputError
from s2d_store.storage.checked_parquet import open_checked

__all__ = [
    "COUNTS",
    "FORMAT_VERSION",
    "DatasetLock",
    "ListColumn",
    "LockedDataset",
    "UpdateRows",
    "read_lock",
]


class LockedDataset:
    """A dataset whose files have been checked against its lock.

    Attributes:
        folder: where it lies.
        lock: what it must contain.
        columns: names of the columns that its rows have.
    """

    def __init__(self, folder: Path, lock: DatasetLock, columns: tuple[str, ...]) -> None:
        self.folder = folder
        self.lock = lock
        self.columns = columns
        self._heavy = heavy_columns(folder, lock, columns)

    @classmethod
    def open(cls, folder: str | Path) -> LockedDataset:
        """Parse the lock and check each part's presence, size and row count.

        Raises:
            NotFoundError: no lock there.
            DatasetError: a lock that cannot be read, a part that differs from it, or a file of the
                store that is missing.
        """
        folder = Path(folder)
        lock = read_lock(folder)
        return cls(folder, lock, check_files(folder, lock))

    def __len__(self) -> int:
        """Rows."""
        return int(self.lock.counts["rows"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows in training order, a record each; lists as NumPy arrays.

        Example:
            >>> row = next(iter(dataset))
            >>> row["update"], len(row["response_token_ids"]) == row["response_tokens"]
            (1, True)
        """
        for update in self.updates():
            yield from update.records()

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows as one Arrow table, in training order; it has to fit in memory.

        Args:
            columns: columns to read; None reads all, the tokens too.

        Raises:
            InputError: a column that the dataset lacks.
        """
        wanted = list(self.columns if columns is None else columns)
        return pa.concat_tables([rows.arrow(wanted) for rows in self.updates(columns=wanted)])

    def pl(self, columns: Sequence[str] | None = None) -> Any:
        """All rows as a Polars frame, see `arrow`.

        Raises:
            InputError: a column that the dataset lacks, or Polars is not installed.
        """
        try:
            # Trainers read datasets with pyarrow and numpy alone: this is for who asks for it.
            polars = import_module("polars")
        except ModuleNotFoundError as error:
            raise InputError(
                "polars is not installed",
                "a dataset becomes a Polars frame with it",
                "pip install polars, or use .arrow()",
            ) from error
        return polars.from_arrow(self.arrow(columns))

    def __repr__(self) -> str:
        """Name, kind and counts on one line."""
        counts = self.lock.counts
        return (
            f"LockedDataset({self.lock.name!r}, {self.lock.kind}, {counts['rows']:,} rows in "
            f"{counts['updates']:,} updates)"
        )

    def _repr_html_(self) -> str:
        from s2d_store.reading import html

        shown = [("kind", self.lock.kind), *self.lock.counts.items()]
        shown += [("fingerprint", self.lock.fingerprint), ("columns", ", ".join(self.columns))]
        return html.rows(["what", "value"], shown, f"dataset {self.lock.name}")

    def light(self, columns: Sequence[str]) -> pa.Table:
        """Columns of all rows that the dataset's own files hold, in training order."""
        parts = [
            pq.read_table(self.folder / path, columns=columns) for path, _, _ in self.lock.files
        ]
        return pa.concat_tables(parts)

    def updates(self, start: int = 1, columns: Sequence[str] | None = None) -> Iterator[UpdateRows]:
        """Yield the rows of each update from `start` on, in training order.

        Parts and row groups that end before `start` are skipped by their statistics, so any start
        is as quick as the first. A thread reads one row group ahead, another assembles one update
        ahead, of all but the heavy columns: a top-k, and by reference every token. Those are read
        when they are asked for, of a few rows at a time (`UpdateRows.parts`). So memory is bounded
        by the light columns of three updates, the row groups of `row_groups.CACHE_BYTES`, and the
        rows that were asked for, whatever the size of dataset and update; and of a run's processes,
        each reads the heavy columns of its own share only.

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
        heavy = [name for name in names if name in self._heavy.names]
        light = [name for name in names if name not in heavy]
        scanned = [*light, *(c for c in self._heavy.needs(heavy) if c not in light)]
        groups = self._row_groups(start, sorted({*scanned, "update"}))
        pieces: list[tuple[int, UpdateRows]] = []
        for first_row, table in prefetch(groups, "read-ahead-group"):
            for first, piece in _split(table, scanned, self.lock.name):
                if pieces and piece.update != pieces[-1][1].update:
                    if piece.update < pieces[-1][1].update:
                        raise _corrupt(
                            self.lock.name,
                            f"update {piece.update} follows update {pieces[-1][1].update}",
                        )
                    yield self._whole(pieces, light, heavy)
                    pieces = []
                if piece.update >= start:
                    pieces.append((first_row + first, piece))
        if pieces:
            yield self._whole(pieces, light, heavy)

    def _whole(
        self, pieces: list[tuple[int, UpdateRows]], light: list[str], heavy: list[str]
    ) -> UpdateRows:
        """One update, its heavy columns still to be read."""
        rows = concatenate([piece for _, piece in pieces])
        if not heavy:
            return rows
        fetch, known = self._heavy.fetch, self._heavy.lengths(rows, heavy)
        places = self._heavy.places(rows, pieces[0][0])

        def chosen_of(wanted: Sequence[str], chosen: Int64) -> Mapping[str, ListColumn]:
            return fetch(wanted, {name: place[chosen] for name, place in places.items()})

        read = {name: column for name, column in rows.lists.items() if name in light}
        return replace(
            rows,
            lists=DeferredLists(read, heavy, rows.n_rows, chosen_of),
            scalars={name: column for name, column in rows.scalars.items() if name in light},
            known_lengths=known,
        )

    def _row_groups(
        self, start: int, columns: list[str]
    ) -> Generator[tuple[int, pa.Table], None, None]:
        """Read the row groups that can hold an update >= start, each with its first row."""
        paths = [self.folder / path for path, _, _ in self.lock.files]
        skipped = bisect_left(paths, float(start), key=_last_update)
        first = sum(rows for _, rows, _ in self.lock.files[:skipped])
        for path in paths[skipped:]:
            with open_checked(path) as file:
                for index, last in enumerate(_last_updates(file.metadata)):
                    if last >= start:
                        yield first, self._group(file, index, columns, path)
                    first += file.metadata.row_group(index).num_rows

    def _group(self, file: pq.ParquetFile, index: int, columns: list[str], path: Path) -> pa.Table:
        try:
            return file.read_row_group(index, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise _corrupt(self.lock.name, f"{path}: {error}") from error


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


def _split(table: pa.Table, names: Sequence[str], dataset: str) -> Iterator[tuple[int, UpdateRows]]:
    """Cut one row group where `update` changes, each piece with its first row in the group; lists
    and numbers stay views.
    """
    if table.num_rows == 0:
        return
    update = _scalar(table, "update", dataset)
    is_list = {name: pa.types.is_list(table.schema.field(name).type) for name in names}
    lists = {name: _list(table, name, dataset) for name in names if is_list[name]}
    scalars = {name: _scalar(table, name, dataset) for name in names if not is_list[name]}
    cuts = [0, *(np.flatnonzero(np.diff(update)) + 1).tolist(), table.num_rows]
    for first, last in pairwise(cuts):
        yield (
            first,
            UpdateRows(
                update=int(update[first]),
                n_rows=last - first,
                lists={name: _cut(column, first, last) for name, column in lists.items()},
                scalars={name: column[first:last] for name, column in scalars.items()},
            ),
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
    return to_numpy(chunk)


def _list(table: pa.Table, name: str, dataset: str) -> ListColumn:
    # A mask may be null, as a row's that masks nothing: Parquet reads it as a list of no entries.
    nullable = pa.types.is_boolean(table.schema.field(name).type.value_type)
    array = _one_chunk(table, name, dataset, nullable)
    if array.values.null_count:
        raise _corrupt(dataset, f"column {name} has nulls")
    return to_numpy(array.values), to_numpy(array.offsets).astype(np.int64)


def _corrupt(dataset: str, why: str) -> DatasetError:
    return DatasetError(
        f"dataset {dataset} is damaged", why, f"s2d dataset verify {dataset}; rebuild it"
    )
