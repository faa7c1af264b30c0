"""Batches of rows: made to fit their table's schema, split by its partition columns."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from s2d_store.encoding import topk_codec
from s2d_store.errors import InputError
from s2d_store.schema import FILES_ALONE, Table, without_encoding
from s2d_store.tables.rank_choice import Choose


def conform(kind: Table, table: pa.Table) -> pa.Table:
    """Select, order and cast a batch to a table's schema; a nullable column may be left out.

    Raises:
        InputError: a column is missing, unknown, of another type, or null where none may be.
    """
    for column in kind.columns:
        if column.nullable and column.name not in table.column_names:
            table = table.append_column(column.name, pa.nulls(table.num_rows, column.type))
    missing = set(kind.column_names) - set(table.column_names)
    unknown = set(table.column_names) - set(kind.column_names)
    if missing or unknown:
        raise InputError(
            f"rows for table {kind.name} have the wrong columns",
            f"missing: {sorted(missing) or 'none'}, unknown: {sorted(unknown) or 'none'}",
        )
    try:
        return table.select(kind.column_names).cast(kind.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise InputError(f"rows do not fit table {kind.name}", str(error)) from error


def as_stored(kind: Table, table: pa.Table, choose: Choose) -> pa.Table:
    """A batch as its table's files hold it: checked, and top-k encoded.

    Args:
        kind: the table.
        table: its rows, in columns that callers have.
        choose: of top-k, the rank table for the rows of a scorer.

    Raises:
        InputError: see `conform`.
    """
    if kind.name not in FILES_ALONE:
        return conform(kind, table)
    # Checked first, so that what does not fit is told in the caller's own columns.
    plain = conform(without_encoding(kind), table)
    scorers = plain.column("scorer_policy_id")
    parts = []
    distinct = scorers.unique().to_pylist()
    for scorer in distinct:
        # One scorer, as in most commits: filtering would copy every list.
        same = plain if len(distinct) == 1 else plain.filter(pc.equal(scorers, scorer))
        parts.append(topk_codec.encode(same, choose(scorer, same.column("token_ids"))))
    return conform(kind, pa.concat_tables(parts) if parts else topk_codec.encode(plain))


def partitions(rows: pa.Table, by: tuple[str, ...]) -> Iterator[tuple[dict[str, str], pa.Table]]:
    """Split rows by their partition values; the parts no longer hold the partition columns."""
    if not by or rows.num_rows == 0:
        if rows.num_rows:
            yield {}, rows
        return
    parts = rows.select(list(by)).group_by(list(by)).aggregate([]).to_pylist()
    if len(parts) == 1:  # as most commits: filtering would copy every list
        yield parts[0], rows.drop_columns(list(by))
        return
    for values in parts:
        mask = pa.scalar(True)
        for name, value in values.items():
            mask = pc.and_(mask, pc.equal(rows.column(name), value))
        yield values, rows.filter(mask).drop_columns(list(by))
