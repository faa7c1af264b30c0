"""Rank tables that rows of table topk name; needs pyarrow and numpy alone, as by reference
datasets are read without the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.encoding import topk_ranks
from s2d_store.encoding.topk_ranks import IDENTITY, RankTable
from s2d_store.errors import StoreError

NAME = "token_ranks"


class RankTables(dict[str | None, RankTable]):
    """Rank tables by name; the files are read at the first row that names one."""

    def __init__(self, files: Sequence[str], source: Callable[[str], Any] = str) -> None:
        """Nothing is read yet.

        Args:
            files: Parquet files of table token_ranks.
            source: what pyarrow opens of a file: the path, or an object to seek in.
        """
        super().__init__({None: IDENTITY})
        self._files, self._source = tuple(files), source

    def __missing__(self, name: str | None) -> RankTable:
        """Read the files.

        Raises:
            StoreError: none has that table, or one is damaged.
        """
        try:
            for file in self._files:
                # pq.read_table would import pandas.
                with pq.ParquetFile(self._source(file)) as opened:
                    rows = opened.read(columns=["ranks_id", "token_ids"])
                self.update(topk_ranks.from_rows(rows))
        except (OSError, pa.ArrowInvalid, ValueError) as error:
            raise StoreError(
                "a file of table token_ranks cannot be read",
                f"{error}; the ids of top-k are written with it",
                "s2d doctor, which says what is damaged; restore the file from a copy",
            ) from error
        if name not in self:
            raise StoreError(
                f"table token_ranks lacks the rank table {name}",
                "rows of table topk were written with it",
                "s2d doctor, which says what is damaged; restore the table's files from a copy",
            )
        return self[name]
