"""Rows of Parquet files by their numbers, a few row groups in memory at a time.

Dimensions: n chosen rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
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

CACHE_BYTES = 32 << 20
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
        self._tables: OrderedDict[tuple[int, int, tuple[str, ...]], pa.Table] = OrderedDict()
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
        # Rows of the store may hold nulls and are encoded: the chosen ones alone are looked at.
        alone = response_tokens is not None
        for table, inside, rows in self._decoded(wanted, file, position, alone):
            table = table.select(wanted).rename_columns(list(pieces))
            if response_tokens is not None:
                table = fill_unknown(table, response_tokens[rows])
            for name, lists in pieces.items():
                values, offsets = self._flat(table, name)
                firsts, lasts = offsets[inside].tolist(), offsets[inside + 1].tolist()
                for row, first, last in zip(rows.tolist(), firsts, lasts, strict=True):
                    lists[row] = values[first:last]
        return {name: _joined(lists) for name, lists in pieces.items()}

    def _decoded(
        self, wanted: Sequence[str], file: Int64, position: Int64, alone: bool
    ) -> Iterator[tuple[pa.Table, Int64, Int64]]:
        """Tables, which of their rows are chosen, and these rows' numbers among the chosen."""
        order = np.lexsort((position, file))
        for one in _runs(file[order]):
            rows = order[one]
            index = int(file[rows[0]])
            starts = self._footer(index)[1]
            groups = np.searchsorted(starts, position[rows], side="right") - 1
            for run in _runs(groups):
                group = int(groups[run.start])
                table = self._group(index, group, wanted, run.stop - run.start)
                inside = position[rows[run]] - starts[group]
                if alone and len(inside) < table.num_rows:
                    table, inside = take(table, inside), np.arange(len(inside))
                yield pad_to_k(topk_codec.decode(table, self._ranks)), inside, rows[run]

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

    def _group(self, index: int, group: int, wanted: Sequence[str], chosen: int) -> pa.Table:
        """One row group with what the wanted columns are decoded from.

        It is kept for the next rows that are asked for, unless all of its rows are chosen now: its
        memory then serves the next row group.
        """
        metadata, _ = self._footer(index)
        key = index, group, tuple(wanted)
        with self._lock:
            if key not in self._tables:
                names = metadata.schema.to_arrow_schema().names
                try:
                    with open_checked(self._paths[index], metadata=metadata) as file:
                        columns = topk_codec.stored_columns(wanted, names)
                        table = file.read_row_group(group, columns=columns).combine_chunks()
                except (OSError, pa.ArrowInvalid, KeyError) as error:
                    raise self._unreadable(index, error) from error
                if chosen >= table.num_rows:
                    return table
                self._tables[key] = table
                self._bytes += table.nbytes
                while self._bytes > CACHE_BYTES and len(self._tables) > 1:
                    self._bytes -= self._tables.popitem(last=False)[1].nbytes
            self._tables.move_to_end(key)
            return self._tables[key]

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


def _runs(values: NDArray[np.int64]) -> Iterator[slice]:
    """Ranges of equal values."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    yield from (slice(a, b) for a, b in pairwise(cuts) if a < b)


def _joined(lists: Sequence[NDArray[Any]]) -> ListColumn:
    lengths = np.array([len(values) for values in lists], np.int64)
    return np.concatenate(lists), offsets_of(lengths)
