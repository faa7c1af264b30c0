"""What a dataset query must give, by kind of dataset: columns, types, no nulls, rows in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queries import Query, kinds
from s2d_store.errors import DatasetError

REQUIRED = ("row", "update", "rollout_id")
# What a dataset's rows begin with.
LEAD = ("row", "update", "rollout_id", "prompt_id")
TOPK_COLUMNS = ("scorer_policy_id", "support", "k")
TYPES = {
    "row": pa.int64(),
    "update": pa.int32(),
    "rollout_id": pa.string(),
    "scorer_policy_id": pa.string(),
    "support": pa.string(),
    "k": pa.int32(),
    "ref_policy_id": pa.string(),
    "labelled": pa.bool_(),
    "advantage": pa.float64(),
}
# Names that the builder itself gives, in the files or while it works.
ADDED = (
    "prompt_id",
    "prompt_token_ids",
    "response_token_ids",
    "response_logprobs",
    "topk_token_ids",
    "topk_logprobs",
    "sampled_logprobs",
    "response_mask",
    "ref_logprobs",
    "topk_counts",
    "prompt_tokens",
    "response_tokens",
    "rollout_file",
    "rollout_position",
    "topk_file",
    "topk_position",
    "ref_file",
    "ref_position",
    "rollout_created_at",
    "topk_created_at",
    "ref_created_at",
)


def validate_rows(
    query: Query, values: Mapping[str, Any], rows: pa.Table, *, may_be_empty: bool = False
) -> pa.Table:
    """The query's rows by `row`, with the types that datasets have.

    Args:
        query: the dataset query.
        values: its parameters, for messages.
        rows: what it gave.
        may_be_empty: take no rows for an answer.

    Raises:
        DatasetError: columns lack, clash, hold nulls or have types that do not fit; no rows; `row`
            is not 0..n-1; `update` does not count 1, 1, .., 2, 2, ..; an advantage is not finite.
    """
    check_names(query, tuple(rows.column_names))
    if rows.num_rows == 0 and not may_be_empty:
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        raise DatasetError(
            f"query {query.name} selects no rows",
            f"with {given}",
            "s2d query pass_rate shows what is stored; loosen a filter, or generate, verify and "
            "score first",
        )
    rows = pa.table({name: _typed(query, name, rows.column(name)) for name in rows.column_names})
    if not rows.num_rows:
        return rows
    rows = in_order(rows)
    _check_order(query, rows)
    _check_values(query, rows)
    return rows


def check_names(query: Query, columns: tuple[str, ...]) -> None:
    """Refuse a query that lacks a column of its kind, or gives one that the builder adds.

    Raises:
        DatasetError: naming the columns.
    """
    wanted = dict.fromkeys(REQUIRED + query.traits.columns)
    if set(TOPK_COLUMNS) & set(columns):
        wanted |= dict.fromkeys(TOPK_COLUMNS)
    missing = [name for name in wanted if name not in columns]
    if missing:
        example = query.kind if query.kind in kinds.shipped() else "warmup"
        own = ", ".join(query.traits.columns)
        raise DatasetError(
            f"query {query.name} lacks the column{'s'[: len(missing) > 1]} {', '.join(missing)}",
            f"a dataset query gives {', '.join(REQUIRED)}, for top-k {', '.join(TOPK_COLUMNS)}"
            f"{f', and of kind {query.kind} {own}' if own else ''}; it gave {', '.join(columns)}",
            f"add them to the SELECT, as queries/datasets/{example}.sql does",
        )
    clash = sorted(set(ADDED) & set(columns))
    if clash:
        raise DatasetError(
            f"query {query.name} gives {', '.join(clash)}, which the builder adds itself",
            fix="leave them out of the SELECT",
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DatasetError(
            f"query {query.name} gives {', '.join(twice)} twice", fix="name each column once"
        )


def in_order(rows: pa.Table) -> pa.Table:
    """Rows by `row`; those in order already are not copied."""
    numbers = rows.column("row").to_numpy()
    return rows if np.all(numbers[1:] >= numbers[:-1]) else rows.sort_by("row")


def _typed(query: Query, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    wanted = TYPES.get(name)
    if wanted is None and pa.types.is_decimal(column.type):
        wanted = pa.float64()
    if wanted is None:
        _check_storable(query, name, column.type)
        return column
    if column.null_count:
        null = pc.index(column.is_null(), True).as_py()
        raise DatasetError(
            f"query {query.name} gives null in column {name}, first in row {null} of its result",
            "of the columns that datasets rely on, each row has a value",
            "leave those rows out, or use coalesce",
        )
    try:
        if pa.types.is_string(wanted) != pa.types.is_string(column.type):
            raise pa.ArrowInvalid(f"{column.type} is not {wanted}")
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetError(
            f"column {name} of query {query.name} is {column.type}, which does not fit {wanted}",
            str(error),
            f"cast it in the SELECT, e.g. CAST({name} AS ...)",
        ) from error


def _check_storable(query: Query, name: str, type_: pa.DataType) -> None:
    in_list = pa.types.is_list(type_)
    value = type_.value_type if in_list else type_
    number = pa.types.is_integer(value) or pa.types.is_floating(value)
    single = not in_list and (pa.types.is_boolean(value) or pa.types.is_string(value))
    if not (number or single):
        raise DatasetError(
            f"column {name} of query {query.name} is {type_}",
            "datasets hold numbers, booleans, text and lists of numbers",
            f"cast it in the SELECT, e.g. {name}::VARCHAR, or leave it out",
        )


def _check_order(query: Query, rows: pa.Table) -> None:
    numbers = rows.column("row").to_numpy()
    if not np.array_equal(numbers, np.arange(rows.num_rows)):
        wrong = int(np.argmax(numbers != np.arange(rows.num_rows)))
        raise DatasetError(
            f"query {query.name} does not number its rows 0 to {rows.num_rows - 1}",
            f"`row` is the place in training order: no gaps, no row twice; where {wrong} should "
            f"be, it has {numbers[wrong]}",
            "use row_number() OVER (ORDER BY ...) - 1 AS row",
        )
    updates = rows.column("update").to_numpy()
    steps = np.diff(updates)
    if updates[0] != 1 or np.any((steps != 0) & (steps != 1)):
        wrong = 0 if updates[0] != 1 else int(np.argmax((steps != 0) & (steps != 1))) + 1
        raise DatasetError(
            f"query {query.name} does not count its updates 1, 1, .., 2, 2, ..",
            "in the order of `row`, `update` starts at 1 and never falls or skips; "
            f"row {wrong} has update {updates[wrong]}",
            "use row // $rows_per_update + 1 AS update",
        )


def _check_values(query: Query, rows: pa.Table) -> None:
    if "advantage" in rows.column_names:
        finite = np.isfinite(rows.column("advantage").to_numpy())
        if not finite.all():
            wrong = int(np.argmin(finite))
            raise DatasetError(
                f"query {query.name} gives an advantage that is not finite, first in row {wrong}",
                f"{rows.column('advantage')[wrong].as_py()}; a group without spread divides by 0",
                "add an epsilon to the deviation, as queries/datasets/grpo.sql does",
            )
    if "support" in rows.column_names:
        unknown = set(rows.column("support").unique().to_pylist()) - {"own", "policy", "union"}
        if unknown:
            raise DatasetError(
                f"query {query.name} gives support {', '.join(sorted(unknown))}",
                "own: the scorer's top k; policy: its logprobs at the sampling policy's top k; "
                "union: both (s2d score --support union)",
                "'own' AS support, 'policy' AS support, or 'union' AS support",
            )
