"""The rows of one optimizer update: light columns at once, heavy ones when they are asked for.

Dimensions: R rows of an update, n chosen ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s2d_store.datasets.prefetch import prefetch

Int64 = NDArray[np.int64]
ListColumn = tuple[NDArray[Any], Int64]
# Reads columns of chosen rows, in the order in which these are named.
Fetch = Callable[[Sequence[str], Int64], Mapping[str, ListColumn]]


class DeferredLists(Mapping[str, ListColumn]):
    """List columns by name; one that is not read yet is read, in all rows, when asked for."""

    def __init__(
        self, read: Mapping[str, ListColumn], deferred: Sequence[str], n_rows: int, fetch: Fetch
    ) -> None:
        """Columns that are there, names of those that are not, and how to get them."""
        self._read, self._deferred = dict(read), tuple(deferred)
        self._n_rows, self.fetch = n_rows, fetch

    @property
    def waiting(self) -> tuple[str, ...]:
        """Names of the columns that are not read yet."""
        return tuple(name for name in self._deferred if name not in self._read)

    def __getitem__(self, name: str) -> ListColumn:
        if name in self.waiting:
            self._read |= self.fetch([name], np.arange(self._n_rows))
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._read, *self._deferred)))

    def __len__(self) -> int:
        return len(set(self._read) | set(self._deferred))

    def __contains__(self, name: object) -> bool:
        return name in self._read or name in self._deferred


@dataclass(frozen=True)
class UpdateRows:
    """The rows of one optimizer update, as NumPy arrays; views of the Arrow buffers where possible.

    Attributes:
        update: 1-based number of the update.
        n_rows: rows R in it, at least 1.
        lists: column -> (values, offsets): row r holds `values[offsets[r]:offsets[r + 1]]`;
            offsets int64 (R + 1,), the first is 0. A heavy column is read when it is asked for,
            all rows of it: `parts` reads a few rows at a time.
        scalars: column -> (R,) array; strings as objects, a null among floats as NaN.
        known_lengths: entries per row of list columns that need not be read to know them.
    """

    update: int
    n_rows: int
    lists: Mapping[str, ListColumn]
    scalars: Mapping[str, NDArray[Any]]
    known_lengths: Mapping[str, Int64] = field(default_factory=dict)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Names of the list columns that are not read yet."""
        return self.lists.waiting if isinstance(self.lists, DeferredLists) else ()

    def __repr__(self) -> str:
        """Its number, rows and columns; never the arrays themselves."""
        columns = ", ".join([*self.scalars, *self.lists])
        return f"UpdateRows(update={self.update}, n_rows={self.n_rows}, columns: {columns})"

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows, a record each; lists as NumPy arrays."""
        lists = {name: self.lists[name] for name in self.lists}
        for i in range(self.n_rows):
            row: dict[str, Any] = {"update": self.update}
            row |= {name: values[i : i + 1].tolist()[0] for name, values in self.scalars.items()}
            for name, (values, offsets) in lists.items():
                row[name] = values[offsets[i] : offsets[i + 1]]
            yield row

    def arrow(self, columns: Sequence[str]) -> pa.Table:
        """Columns of the rows as an Arrow table."""
        found = {}
        for name in columns:
            if name in self.lists:
                values, offsets = self.lists[name]
                found[name] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
            elif name in self.scalars:
                found[name] = pa.array(self.scalars[name])
            else:
                found[name] = pa.array(np.full(self.n_rows, self.update, np.int32))
        return pa.table(found)

    def lengths(self, column: str) -> Int64:
        """Entries per row of a list column, int64 (R,)."""
        if column in self.known_lengths and column in self.waiting:
            return self.known_lengths[column]
        return np.diff(self.lists[column][1])

    def parts(self, choices: Iterable[Int64]) -> Iterator[tuple[Int64, UpdateRows]]:
        """Yield each choice of rows with these rows alone, all columns read, in the order given.

        Arrays are copies that may be written to. A thread reads one choice ahead where columns are
        waiting, so memory is bounded by the two largest choices.

        Args:
            choices: int64 (n,) each, at least one row number within the update.
        """
        made = self._parts(choices)
        return prefetch(made, "read-ahead-rows") if self.waiting else made

    def _parts(self, choices: Iterable[Int64]) -> Generator[tuple[Int64, UpdateRows], None, None]:
        waiting = self.waiting
        for chosen in choices:
            lists = {
                name: take_lists(self.lists[name], chosen)
                for name in self.lists
                if name not in waiting
            }
            if waiting:
                assert isinstance(self.lists, DeferredLists)
                lists |= self.lists.fetch(waiting, chosen)
            scalars = {name: values[chosen] for name, values in self.scalars.items()}
            yield chosen, UpdateRows(self.update, len(chosen), lists, scalars)


def take_lists(column: ListColumn, chosen: Int64) -> ListColumn:
    """Chosen rows of a list column, always a copy."""
    values, offsets = column
    first, last = offsets[chosen], offsets[chosen + 1]
    if len(chosen) and (first[1:] == last[:-1]).all():
        taken = values[first[0] : last[-1]].copy()
    else:
        pieces = [values[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        taken = np.concatenate(pieces) if pieces else values[:0].copy()
    return taken, offsets_of(last - first)


def offsets_of(lengths: Int64) -> Int64:
    """Offsets int64 (n + 1,) of lists of these lengths, from 0."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def concatenate(pieces: Sequence[UpdateRows]) -> UpdateRows:
    """Join the pieces of one update that lay in several row groups; their lists are all read."""
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
    return np.concatenate([values for values, _ in columns]), offsets_of(lengths)
