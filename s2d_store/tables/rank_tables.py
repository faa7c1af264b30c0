"""Rank tables that rows of table topk name; needs pyarrow and numpy alone, as by reference
datasets are read without the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.encoding import topk_ranks
from s2d_store.encoding.topk_ranks import IDENTITY, RankTable
from s2d_store.errors import StoreError
from s2d_store.storage.checked_parquet import open_checked
from s2d_store.storage.content_hash import hash_in_name, hash_of

NAME = "token_ranks"


class RankTables(dict[str | None, RankTable]):
    """Rank tables by name; the files are read at the first row that names one."""

    def __init__(
        self, files: Sequence[str], source: Callable[[str], Any] = str, *, checked: bool = False
    ) -> None:
        """Nothing is read yet.

        Args:
            files: Parquet files of table token_ranks.
            source: what pyarrow opens of a file: the path, or an object to seek in.
            checked: compare each file's bytes with the hash in its name; needs local paths.
        """
        super().__init__({None: IDENTITY})
        self._files, self._source, self._checked = tuple(files), source, checked

    def __missing__(self, name: str | None) -> RankTable:
        """Read the files.

        Raises:
            StoreError: none has that table, or one is damaged.
        """
        try:
            for file in self._files:
                # pq.read_table would import pandas.
                if self._checked and hash_in_name(file) not in (None, hash_of(Path(file))):
                    raise OSError(f"{file}: its bytes are not those that were written")
                with open_checked(self._source(file)) as opened:
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
