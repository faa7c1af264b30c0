"""A locked dataset as a torch Dataset, for the training loops of others.

    rows = LockedRows("datasets/bridge", topk=True)
    loader = DataLoader(rows, batch_sampler=rows.batches(), collate_fn=...)

gives one batch per optimizer update, in the dataset's order, as examples/trl and examples/verl do.
Heavy columns are read for the rows that are asked for, and rows are asked for in order: memory is
bounded by one batch. Dimensions: L prompt and response tokens, T response tokens, K top-k entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import InputError
from trainers.batches import RESPONSE_MASK
from trainers.update import TOKEN_COLUMNS, TOPK_COLUMNS

IGNORED = -100
Row = dict[str, Any]


class LockedRows(Dataset[Row]):
    """Rows of a locked dataset in training order.

    A row has `input_ids` and `labels`, int64 (L,), labels IGNORED where the policy did not sample;
    `update` and `row`, ints; with a top-k `topk_ids`, int64 (T, K), -1 where there is no entry, and
    `topk_logprobs`, float32 (T, K), both aligned with the last T of `labels`; and the scalar
    columns that were asked for.

    Attributes:
        dataset: what is read.
        column_names: names of a row's fields.
    """

    def __init__(
        self,
        dataset: LockedDataset | str | Path,
        *,
        topk: bool = False,
        scalars: Sequence[str] = (),
    ) -> None:
        """Open it.

        Args:
            dataset: an opened one, or its folder.
            topk: whether rows have the scorer's top-k.
            scalars: further columns, such as advantage.

        Raises:
            InputError: a column that the dataset lacks.
            S2DError: as `LockedDataset.open`.
        """
        opened = dataset if isinstance(dataset, LockedDataset) else LockedDataset.open(dataset)
        self.dataset, self._scalars = opened, tuple(scalars)
        wanted = [*(TOPK_COLUMNS if topk else TOKEN_COLUMNS), *scalars]
        missing = [name for name in wanted if name not in opened.columns]
        if missing:
            raise InputError(
                f"dataset {opened.lock.name} ({opened.lock.kind}) has no {', '.join(missing)}",
                f"it has {', '.join(opened.columns)}",
                "build one whose query gives it",
            )
        masked = (RESPONSE_MASK,) if RESPONSE_MASK in opened.columns else ()
        self._columns, self._topk = (*wanted, *masked), topk
        self._updates = opened.light(["update"]).column("update").to_numpy()
        cuts = np.flatnonzero(np.diff(self._updates)) + 1
        self._firsts = np.array([0, *cuts.tolist(), len(self._updates)], np.int64)
        self._ahead: Iterator[UpdateRows] = iter(())
        self._current: UpdateRows | None = None
        names = ("topk_ids", "topk_logprobs") if topk else ()
        self.column_names = ["input_ids", "labels", "row", "update", *names, *scalars]

    def __len__(self) -> int:
        """Rows of the dataset."""
        return len(self._updates)

    def batches(self, pieces: int = 1, rank: int = 0, processes: int = 1) -> list[list[int]]:
        """Row numbers of each batch: every update's rows, in order, cut into equal pieces.

        Args:
            pieces: batches that one update is cut into: the loop's gradient accumulation.
            rank: which process asks.
            processes: how many there are; each gets its own pieces.

        Raises:
            InputError: an update with fewer rows than pieces.
        """
        found = []
        for first, last in pairwise(self._firsts.tolist()):
            if last - first < pieces * processes:
                raise InputError(
                    f"update {self._updates[first]} of dataset {self.dataset.lock.name} has "
                    f"{last - first} rows",
                    f"they do not make {pieces * processes} batches",
                    "accumulate fewer, or train on fewer processes",
                )
            parts = np.array_split(np.arange(first, last), pieces * processes)
            found += [part.tolist() for part in parts[rank::processes]]
        return found

    def __getitem__(self, index: int) -> Row:
        """One row; rows asked for together are read at once."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Several rows, in the order asked for."""
        wanted = np.asarray(indices, np.int64)
        made: dict[int, Row] = {}
        for update in np.unique(self._updates[wanted]).tolist():
            first = int(self._firsts[np.searchsorted(self._updates[self._firsts[:-1]], update)])
            numbers = np.unique(wanted[self._updates[wanted] == update])
            ((_, part),) = self._rows_of(update).parts([numbers - first])
            rows = zip(numbers.tolist(), self._rows(part, numbers.tolist()), strict=True)
            made |= dict(rows)
        return [made[index] for index in wanted.tolist()]

    def _rows_of(self, update: int) -> UpdateRows:
        """An update; the next ones are read on, an earlier one from the start."""
        if self._current is None or self._current.update > update:
            self._ahead = self.dataset.updates(update, self._columns)
            self._current = next(self._ahead)
        while self._current.update < update:
            self._current = next(self._ahead)
        return self._current

    def _rows(self, part: UpdateRows, numbers: Sequence[int]) -> Iterator[Row]:
        lists = {name: _split(*part.lists[name]) for name in part.lists}
        for at, number in enumerate(numbers):
            prompt, response = (lists[name][at] for name in TOKEN_COLUMNS)
            mask = lists[RESPONSE_MASK][at] if RESPONSE_MASK in lists else ()
            kept = np.where(mask, response, IGNORED) if len(mask) else response
            row: Row = {
                "input_ids": _int64(np.concatenate([prompt, response])),
                "labels": _int64(np.concatenate([np.full(len(prompt), IGNORED), kept])),
                "row": number,
                "update": part.update,
            }
            if self._topk:
                k = int(part.scalars["k"][at])
                row["topk_ids"] = _int64(lists["topk_token_ids"][at]).view(-1, k)
                logprobs = np.ascontiguousarray(lists["topk_logprobs"][at], np.float32)
                row["topk_logprobs"] = torch.from_numpy(logprobs).view(-1, k)
            yield row | {name: part.scalars[name][at].item() for name in self._scalars}


def _split(values: Any, offsets: Any) -> list[Any]:
    return [values[a:b] for a, b in pairwise(offsets.tolist())]


def _int64(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int64))
