"""Where a dataset's heavy columns lie, in its parts or in the store's files, and reading them.

Dimensions: R rows of an update, n chosen ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2d_store.datasets.dataset_lock import DatasetLock, store_of
from s2d_store.datasets.row_groups import RowGroups
from s2d_store.datasets.update_rows import Int64, ListColumn, UpdateRows
from s2d_store.tables.rank_tables import RankTables

# Nearly all bytes of a dataset: read a micro-batch at a time.
TOPK = ("topk_token_ids", "topk_logprobs")


@dataclass(frozen=True)
class InParts:
    """Heavy columns in the parts themselves: the top-k."""

    names: tuple[str, ...]
    groups: RowGroups
    first_rows: Int64

    def needs(self, heavy: Sequence[str]) -> list[str]:
        """Other columns that the heavy ones cannot be read without: none."""
        return []

    def lengths(self, rows: UpdateRows, heavy: Sequence[str]) -> dict[str, Int64]:
        """Entries per row where these are known without reading them."""
        if "k" not in rows.scalars or "response_token_ids" not in rows.lists:
            return {}
        return dict.fromkeys(heavy, rows.lengths("response_token_ids") * rows.scalars["k"])

    def places(self, rows: UpdateRows, first_row: int) -> dict[str, Int64]:
        """Number in the whole dataset of each row of an update."""
        return {"row": np.arange(first_row, first_row + rows.n_rows)}

    def fetch(self, names: Sequence[str], places: Mapping[str, Int64]) -> dict[str, ListColumn]:
        """Columns of the rows at some places."""
        part = np.searchsorted(self.first_rows, places["row"], side="right") - 1
        return self.groups.fetch(names, part, places["row"] - self.first_rows[part], None)


@dataclass(frozen=True)
class ByReference:
    """Heavy columns in the store's own files: every list of tokens."""

    names: tuple[str, ...]
    groups: Mapping[str, RowGroups]

    def needs(self, heavy: Sequence[str]) -> list[str]:
        """Columns of the light rows that say where the heavy ones lie and how long they are."""
        used = [p for p, g in self.groups.items() if set(g.columns.values()) & set(heavy)]
        places = [f"{prefix}_{what}" for prefix in used for what in ("file", "position")]
        k = ["k"] if set(TOPK) & set(heavy) else []
        return [*places, "prompt_tokens", "response_tokens", *k]

    def lengths(self, rows: UpdateRows, heavy: Sequence[str]) -> dict[str, Int64]:
        """Entries per row, from the light rows."""
        response = rows.scalars["response_tokens"].astype(np.int64)
        known = {name: response for name in heavy if name not in TOPK}
        if "prompt_token_ids" in known:
            known["prompt_token_ids"] = rows.scalars["prompt_tokens"].astype(np.int64)
        return known | {n: response * rows.scalars["k"] for n in heavy if n in TOPK}

    def places(self, rows: UpdateRows, first_row: int) -> dict[str, Int64]:
        """File and row of each row's tokens, and T."""
        names = [f"{prefix}_{what}" for prefix in self.groups for what in ("file", "position")]
        return {
            name: rows.scalars[name].astype(np.int64)
            for name in (*names, "response_tokens")
            if name in rows.scalars
        }

    def fetch(self, names: Sequence[str], places: Mapping[str, Int64]) -> dict[str, ListColumn]:
        """Columns of the rows at some places."""
        found: dict[str, ListColumn] = {}
        for prefix, groups in self.groups.items():
            here = [name for name in names if name in groups.columns.values()]
            if here:
                file, position = places[f"{prefix}_file"], places[f"{prefix}_position"]
                found |= groups.fetch(here, file, position, places["response_tokens"])
        return found


def heavy_columns(folder: Path, lock: DatasetLock, columns: Sequence[str]) -> InParts | ByReference:
    """How the heavy columns of a dataset are read."""
    if not lock.sources:
        names = tuple(name for name in columns if name in TOPK)
        fix = f"s2d dataset verify {lock.name}; rebuild it"
        groups = RowGroups(
            [folder / path for path, _, _ in lock.files], {n: n for n in names}, lock.name, fix
        )
        rows = [rows for _, rows, _ in lock.files]
        return InParts(names, groups, np.cumsum([0, *rows[:-1]], dtype=np.int64))
    root, fix = store_of(folder), f"s2d dataset verify {lock.name}"
    return ByReference(
        tuple(name for source in lock.sources.values() for name in source.columns.values()),
        {
            prefix: RowGroups(
                [root / f for f in source.files],
                source.columns,
                lock.name,
                fix,
                RankTables([str(root / f) for f in source.ranks], checked=True),
                source.footers,
            )
            for prefix, source in lock.sources.items()
        },
    )
