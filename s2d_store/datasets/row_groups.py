"""Rows of Parquet files by their numbers, a few row groups in memory at a time.

Dimensions: n chosen rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from s2d_store.datasets.token_columns import fill_unknown
from s2d_store.datasets.update_rows import Int64, ListColumn, offsets_of
from s2d_store.encoding import topk_codec
from s2d_store.encoding.list_columns import flat_lists
from s2d_store.encoding.list_take import take
from s2d_store.encoding.topk_codec import RankTables
from s2d_store.encoding.topk_ragged import pad_to_k
from s2d_store.encoding.topk_ranks import IDENTITY
from s2d_store.errors import DatasetError
from s2d_store.storage.checked_parquet import check_footer, open_checked

# What a window of packing reaches over, of rows so short that several share a row group.
CACHE_BYTES = 64 << 20
KEPT_FOOTERS = 256


class RowGroups:
    """List columns of some Parquet files; the row groups that were read last stay in memory."""

    def __init__(
        self,
        paths: Sequence[Path],
        columns: Mapping[str, str],
        dataset: str,
        fix: str,
        ranks: RankTables | None = None,
        footers: Sequence[str] = (),
    ) -> None:
        """Nothing is read yet.

        Args:
            paths: the files.
            columns: name in the dataset by name in the files.
            dataset: its name, for messages.
            fix: what to do where a file cannot be read.
            ranks: rank tables by name, where the files are table topk's.
            footers: hash of each file's footer, where these are known and not compared yet.
        """
        self._ranks: RankTables = {None: IDENTITY} if ranks is None else ranks
        self.columns = dict(columns)
        self._paths, self._dataset, self._fix = paths, dataset, fix
        self._footer_hashes = tuple(footers)
        self._footers: OrderedDict[int, tuple[pq.FileMetaData, Int64]] = OrderedDict()
        self._kept: OrderedDict[tuple[int, int, tuple[str, ...]], _Group] = OrderedDict()
        self._open: tuple[int, pq.ParquetFile] | None = None
        self._bytes = 0
        self._lock = Lock()

    def fetch(
        self, names: Sequence[str], file: Int64, position: Int64, response_tokens: Int64 | None
    ) -> dict[str, ListColumn]:
        """Columns of chosen rows in the order given, as copies that may be written to.

        Args:
            names: of the dataset's columns.
            file: int64 (n,), index into the files.
            position: int64 (n,), row number in that file.
            response_tokens: int64 (n,), T of each row, where a column may hold nulls.

        Raises:
            DatasetError: a file cannot be read, or holds nulls.
        """
        wanted = [stored for stored, name in self.columns.items() if name in names]
        pieces: dict[str, list[Any]] = {self.columns[s]: [None] * len(file) for s in wanted}
        for group, inside, rows in self._groups(wanted, file, position):
            if response_tokens is None:
                columns = self._flat_columns(group)
            else:
                # Rows of the store may hold nulls and are encoded: the chosen ones are decoded.
                columns, inside = self._decoded(group.table, inside, response_tokens[rows])
            if len(rows) == len(file) and _is_whole(rows, inside, columns):
                return {name: _writeable(column) for name, column in columns.items()}
            for name, lists in pieces.items():
                values, offsets = columns[name]
                firsts, lasts = offsets[inside].tolist(), offsets[inside + 1].tolist()
                for row, first, last in zip(rows.tolist(), firsts, lasts, strict=True):
                    lists[row] = values[first:last]
        return {name: _joined(lists) for name, lists in pieces.items()}

    def _groups(
        self, wanted: Sequence[str], file: Int64, position: Int64
    ) -> Iterator[tuple[_Group, Int64, Int64]]:
        """Row groups, which of their rows are chosen, and these rows' numbers among the chosen."""
        order = np.lexsort((position, file))
        for one in _runs(file[order]):
            rows = order[one]
            index = int(file[rows[0]])
            starts = self._footer(index)[1]
            groups = np.searchsorted(starts, position[rows], side="right") - 1
            for run in _runs(groups):
                group = int(groups[run.start])
                found = self._group(index, group, wanted, run.stop - run.start)
                yield found, position[rows[run]] - starts[group], rows[run]

    def _decoded(
        self, table: pa.Table, inside: Int64, response_tokens: Int64
    ) -> tuple[dict[str, ListColumn], Int64]:
        """Chosen rows of the store as columns of the dataset, and where they stand in these."""
        if not np.array_equal(inside, np.arange(table.num_rows)):
            table, inside = take(table, inside), np.arange(len(inside))
        plain = pad_to_k(topk_codec.decode(table, self._ranks))
        known = [name for name in plain.column_names if name in self.columns]
        plain = plain.select(known).rename_columns([self.columns[name] for name in known])
        plain = fill_unknown(plain, response_tokens)
        return {name: self._flat(plain, name) for name in plain.column_names}, inside

    def _footer(self, index: int) -> tuple[pq.FileMetaData, Int64]:
        """A file's metadata and the first row of each of its row groups."""
        with self._lock:
            if index not in self._footers:
                try:
                    if self._footer_hashes:
                        check_footer(self._paths[index], self._footer_hashes[index])
                    metadata = pq.read_metadata(self._paths[index])
                except (OSError, pa.ArrowInvalid) as error:
                    raise self._unreadable(index, error) from error
                rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
                self._footers[index] = metadata, offsets_of(np.array(rows, np.int64))[:-1]
                if len(self._footers) > KEPT_FOOTERS:
                    self._footers.popitem(last=False)
            self._footers.move_to_end(index)
            return self._footers[index]

    def _group(self, index: int, group: int, wanted: Sequence[str], chosen: int) -> _Group:
        """One row group with what the wanted columns are decoded from.

        It is kept for the next rows that are asked for, unless all of its rows are chosen now: its
        memory then serves the caller.
        """
        metadata, _ = self._footer(index)
        key = index, group, tuple(wanted)
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                found = _Group(self._read(index, metadata, group, wanted))
                self._bytes += found.table.nbytes
            self._kept[key] = found
            if chosen >= found.table.num_rows:
                self._drop(key)
            while self._bytes > CACHE_BYTES and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))
            return found

    def _drop(self, key: tuple[int, int, tuple[str, ...]]) -> None:
        self._bytes -= self._kept.pop(key).table.nbytes

    def _read(
        self, index: int, metadata: pq.FileMetaData, group: int, wanted: Sequence[str]
    ) -> pa.Table:
        names = metadata.schema.to_arrow_schema().names
        try:
            if self._open is None or self._open[0] != index:
                # The file that is read stays open: its next row group is mostly the next one.
                self._open = index, open_checked(self._paths[index], metadata=metadata)
            columns = topk_codec.stored_columns(wanted, names)
            return self._open[1].read_row_group(group, columns=columns).combine_chunks()
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise self._unreadable(index, error) from error

    def _flat_columns(self, group: _Group) -> dict[str, ListColumn]:
        """Columns of a part, which hold neither nulls nor anything encoded."""
        if not group.flat:
            names = [name for name in group.table.column_names if name in self.columns]
            group.flat |= {self.columns[name]: self._flat(group.table, name) for name in names}
        return group.flat

    def _flat(self, table: pa.Table, name: str) -> ListColumn:
        values, offsets = flat_lists(table.column(name))
        if table.column(name).null_count or table.column(name).chunk(0).flatten().null_count:
            raise DatasetError(
                f"dataset {self._dataset} is damaged", f"column {name} has nulls", self._fix
            )
        return values, offsets

    def _unreadable(self, index: int, error: Exception) -> DatasetError:
        return DatasetError(
            f"a file that dataset {self._dataset} reads cannot be read",
            f"{self._paths[index]}: {error}",
            self._fix,
        )


@dataclass
class _Group:
    """A row group as it was read, and its columns by their names in the dataset once they are flat;
    those of a part alone.
    """

    table: pa.Table
    flat: dict[str, ListColumn] = field(default_factory=dict)


def _is_whole(rows: Int64, inside: Int64, columns: Mapping[str, ListColumn]) -> bool:
    """Whether these rows are all that is asked for and all that the columns hold, in this order."""
    n = len(next(iter(columns.values()))[1]) - 1
    return np.array_equal(rows, np.arange(n)) and np.array_equal(inside, np.arange(n))


def _writeable(column: ListColumn) -> ListColumn:
    values, offsets = column
    return values if values.flags.writeable else values.copy(), offsets


def _runs(values: NDArray[np.int64]) -> Iterator[slice]:
    """Ranges of equal values."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    yield from (slice(a, b) for a, b in pairwise(cuts) if a < b)


def _joined(lists: Sequence[NDArray[Any]]) -> ListColumn:
    lengths = np.array([len(values) for values in lists], np.int64)
    return np.concatenate(lists), offsets_of(lengths)
