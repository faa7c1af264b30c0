"""A dataset's rows in training order: its columns streamed, and what the store knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

import queries
from s2d_store.datasets.parts import tables
from s2d_store.datasets.read import LockedDataset
from s2d_store.datasets.verify import plan_of
from s2d_store.errors import DatasetError
from s2d_store.sql import connection
from s2d_store.store import Store


def dataset_tables(store: Store, dataset: LockedDataset) -> Iterator[pa.Table]:
    """Every column of each row, in training order; each file is read once."""
    if dataset.lock.sources:
        made = plan_of(store, dataset.lock.raw, dataset.lock.raw["versions"])
        yield from tables(made)
        return
    for path, _, _ in dataset.lock.files:
        with pq.ParquetFile(dataset.folder / path) as part:
            for group in range(part.num_row_groups):
                yield part.read_row_group(group)


def facts(store: Store, dataset: LockedDataset) -> pa.Table:
    """What the store knows of each row, in training order.

    Returns:
        row, rollout_id, prompt_id, run_id, finish_reason, response_tokens, sampled_tokens.

    Raises:
        DatasetError: the store lacks a rollout of the dataset.
    """
    text = queries.internal("export_rows")
    with connection.errors():
        found = (
            store.connect(text=text)
            .sql(text, params={"dataset_id": dataset.lock.raw["dataset_id"]})
            .to_arrow_table()
        )
    check_complete(dataset, found.num_rows)
    return found


def check_complete(dataset: LockedDataset, rows: int) -> None:
    """Refuse a dataset of which the store has not every row.

    Raises:
        DatasetError: says how many it has.
    """
    if rows < dataset.lock.counts["rows"]:
        raise DatasetError(
            f"the store lacks rollouts of dataset {dataset.lock.name}",
            f"it has {rows} of {dataset.lock.counts['rows']} rows",
            f"s2d dataset verify {dataset.lock.name}",
        )


def with_facts(stream: Iterator[pa.Table], known: pa.Table, *names: str) -> Iterator[pa.Table]:
    """Tables of a stream with further columns, which `known` has for all rows in training order."""
    first = 0
    for table in stream:
        for name in names:
            table = table.append_column(name, known.column(name).slice(first, table.num_rows))
        first += table.num_rows
        yield table


def side_by_side(left: Iterator[pa.Table], right: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Two streams of the same rows, cut differently, as one; of a name both have, the left's."""
    waiting = next(right, None)
    for table in left:
        first = 0
        while first < table.num_rows:
            assert waiting is not None, "both streams have the same rows"
            n = min(table.num_rows - first, waiting.num_rows)
            pair = (waiting.slice(0, n), table.slice(first, n))
            yield pa.table({name: part[name] for part in pair for name in part.column_names})
            first += n
            waiting = waiting.slice(n) if n < waiting.num_rows else next(right, None)


def rows_per_update(dataset: LockedDataset) -> tuple[int, int]:
    """Fewest and most rows of an update."""
    updates = dataset.light(["update"]).column("update").to_numpy()
    cuts = [0, *((updates[1:] != updates[:-1]).nonzero()[0] + 1).tolist(), len(updates)]
    sizes = [b - a for a, b in pairwise(cuts)]
    return min(sizes), max(sizes)
