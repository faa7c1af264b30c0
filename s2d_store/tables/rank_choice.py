"""Rank tables of a store: which one a writer's ids are written with, and those of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2d_store.encoding import topk_ranks
from s2d_store.encoding.topk_ranks import IDENTITY, RankTable
from s2d_store.schema import TABLES, TIMESTAMP
from s2d_store.storage.backend import parquet_source
from s2d_store.storage.location import Place
from s2d_store.tables import table_state
from s2d_store.tables.rank_tables import NAME, RankTables


def of_files(files: Sequence[str]) -> RankTables:
    """Those in some files of table token_ranks, on a disk or in an object store."""
    return RankTables(files, parquet_source)


def of_store(root: Place) -> RankTables:
    """Those of the newest version."""
    folder = root / "tables" / NAME
    return of_files(table_state.file_paths(folder, table_state.newest(folder)))


class RankChoice:
    """Which rank table the ids of a scorer's rows are written with.

    It is the newest of the scorer's tokenizer. Where there is none yet, one is built from the rows
    at hand, and has to be stored with them: `new`, and `keep` once that is done. Rows of a scorer
    whose tokenizer is not known are written without any.
    """

    def __init__(self, root: Place) -> None:
        """Nothing is read yet."""
        self._root = root
        self._known: dict[str, RankTable] = {}
        self._built: dict[str, RankTable] = {}
        self._tokenizers: dict[str, tuple[str, int | None]] = {}
        self._policies: pa.Table | None = None

    def beside(self, policies: pa.Table | None) -> RankChoice:
        """The choice for one commit, told policies that are committed together with the rows."""
        made = RankChoice(self._root)
        made._known, made._tokenizers, made._policies = self._known, self._tokenizers, policies
        return made

    def __call__(self, scorer_policy_id: str, token_ids: pa.ChunkedArray) -> RankTable:
        """The table for some rows of one scorer.

        Args:
            scorer_policy_id: the scorer.
            token_ids: list<int32>, the rows' ids.
        """
        fingerprint, vocab_size = self._tokenizer(scorer_policy_id)
        if fingerprint is None:
            return IDENTITY
        for known in (self._known, self._built):
            if fingerprint in known:
                return known[fingerprint]
        stored = self._newest(fingerprint)
        if stored is not None:
            self._known[fingerprint] = stored
            return stored
        largest = pc.max(pc.list_flatten(token_ids)).as_py()
        if largest is None:  # rows without entries
            return IDENTITY
        self._built[fingerprint] = topk_ranks.build([token_ids], vocab_size or largest + 1)
        return self._built[fingerprint]

    def new(self) -> pa.Table | None:
        """Rows of table token_ranks to store with those that were asked about; None for none."""
        rows = [topk_ranks.to_rows(ranks, name) for name, ranks in self._built.items()]
        if not rows:
            return None
        table = pa.concat_tables(rows)
        now = pa.scalar(datetime.now(UTC), TIMESTAMP)
        table = table.append_column("created_at", pa.repeat(now, table.num_rows))
        return table.cast(TABLES[NAME].schema)

    def keep(self) -> None:
        """Say that `new` is stored."""
        self._known.update(self._built)
        self._built = {}

    def _tokenizer(self, policy_id: str) -> tuple[str | None, int | None]:
        """Fingerprint of a policy's tokenizer and the size of its vocabulary, where known."""
        if policy_id not in self._tokenizers:
            fingerprint, vocab_size = self._read_tokenizer(policy_id)
            if fingerprint is None:
                return None, None
            self._tokenizers[policy_id] = fingerprint, vocab_size
        return self._tokenizers[policy_id]

    def _read_tokenizer(self, policy_id: str) -> tuple[str | None, int | None]:
        columns = ["policy_id", "tokenizer_fingerprint", "vocab_size"]
        if self._policies is not None:
            given = [name for name in columns if name in self._policies.column_names]
            for row in self._policies.select(given).to_pylist():
                if row.get("policy_id") == policy_id:
                    return row.get("tokenizer_fingerprint"), row.get("vocab_size")
        for path in _files(self._root, "policies", "policy_id", policy_id):
            for row in pq.read_table(parquet_source(path), columns=columns).to_pylist():
                if row["policy_id"] == policy_id:
                    return row["tokenizer_fingerprint"], row["vocab_size"]
        return None, None

    def _newest(self, fingerprint: str) -> RankTable | None:
        found: tuple[datetime, RankTable] | None = None
        for path in _files(self._root, NAME, "tokenizer_fingerprint", fingerprint):
            table = pq.read_table(parquet_source(path))
            rows = table.filter(pc.equal(table.column("tokenizer_fingerprint"), fingerprint))
            tables = topk_ranks.from_rows(rows)
            for row in rows.select(["ranks_id", "created_at"]).to_pylist():
                if found is None or row["created_at"] > found[0]:
                    found = row["created_at"], tables[row["ranks_id"]]
        return found[1] if found else None


Choose = Callable[[str, pa.ChunkedArray], RankTable]


def _files(root: Place, name: str, column: str, value: str) -> list[str]:
    """Files of a table's newest version that may hold a value of a key column."""
    folder = root / "tables" / name
    state = table_state.newest(folder)
    paths = table_state.file_paths(folder, state)
    found = []
    for path, file in zip(paths, (state.files[p] for p in state.paths), strict=True):
        low, high = file.bounds(column)
        if low is None or high is None or low <= value <= high:
            found.append(path)
    return found
