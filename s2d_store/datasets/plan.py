"""Run a dataset query: bind its parameters, check its rows, and find where their tokens lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queries import Query
from s2d_store import params as query_params
from s2d_store import sql
from s2d_store.datasets.gather import Source
from s2d_store.errors import DatasetError
from s2d_store.snapshot import Snapshot

REQUIRED = ("row", "update", "rollout_id")
TOPK_COLUMNS = ("scorer_policy_id", "support", "k")
_RESERVED = {
    "prompt_id",
    "prompt_token_ids",
    "response_token_ids",
    "response_logprobs",
    "topk_token_ids",
    "topk_logprobs",
    "sampled_logprobs",
}


@dataclass(frozen=True)
class Plan:
    """A dataset before its tokens are fetched.

    Attributes:
        rows: the query's rows by `row`, with prompt_id, prompt_tokens, response_tokens and
            tokenizer_fingerprint joined on, and where the heavy columns lie.
        columns: the query's own columns, in its order.
        has_topk: whether rows name a top-k.
    """

    rows: pa.Table
    columns: tuple[str, ...]
    has_topk: bool


def make(
    con: duckdb.DuckDBPyConnection, snap: Snapshot, query: Query, values: Mapping[str, Any]
) -> Plan:
    """Run the query and locate its rows.

    Raises:
        QueryError: the SQL fails.
        DatasetError: columns lack or clash, rows are not 0..n-1, updates fall, rollouts or top-k
            that are not stored, or no rows at all.
    """
    with sql.errors():
        selected = con.sql(query.sql, params=query_params.bound(query, values)).to_arrow_table()
    columns = tuple(selected.column_names)
    _check_columns(query, columns)
    has_topk = set(TOPK_COLUMNS) <= set(columns)
    selected = _cast(selected.sort_by("row"))
    _check_rows(query, values, selected)
    con.register("_selected", selected)
    with sql.errors():
        rows = con.sql(_locate(snap, has_topk)).to_arrow_table().sort_by("row")
    con.unregister("_selected")
    _check_located(query, selected, rows)
    return Plan(rows, columns, has_topk)


def _check_columns(query: Query, columns: tuple[str, ...]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    part = [name for name in TOPK_COLUMNS if name in columns]
    if part and len(part) < len(TOPK_COLUMNS):
        missing += [name for name in TOPK_COLUMNS if name not in columns]
    if missing:
        raise DatasetError(
            f"query {query.name} lacks the column{'s'[: len(missing) > 1]} {', '.join(missing)}",
            f"a dataset query gives {', '.join(REQUIRED)}, and for top-k "
            f"{', '.join(TOPK_COLUMNS)}; it gave {', '.join(columns)}",
            "add them to the SELECT, as queries/datasets/warmup.sql does",
        )
    clash = sorted(_RESERVED & set(columns))
    if clash:
        raise DatasetError(
            f"query {query.name} gives {', '.join(clash)}, which the builder adds itself",
            fix="leave them out of the SELECT",
        )


def _cast(table: pa.Table) -> pa.Table:
    types = {"row": pa.int64(), "update": pa.int32(), "k": pa.int32(), "labelled": pa.bool_()}
    for name, type_ in types.items():
        if name in table.column_names:
            index = table.column_names.index(name)
            table = table.set_column(index, name, table.column(name).cast(type_))
    return table


def _check_rows(query: Query, values: Mapping[str, Any], rows: pa.Table) -> None:
    if rows.num_rows == 0:
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        raise DatasetError(
            f"query {query.name} selects no rows",
            f"with {given}",
            "s2d query pass_rate shows what is stored; loosen a filter, or generate, verify and "
            "score first",
        )
    if not np.array_equal(rows.column("row").to_numpy(), np.arange(rows.num_rows)):
        raise DatasetError(
            f"query {query.name} does not number its rows 0 to {rows.num_rows - 1}",
            "`row` is the place in training order: no gaps, no row twice",
            "use row_number() OVER (ORDER BY ...) - 1 AS row",
        )
    updates = rows.column("update").to_numpy()
    if updates[0] != 1 or np.any((np.diff(updates) != 0) & (np.diff(updates) != 1)):
        raise DatasetError(
            f"query {query.name} does not count its updates 1, 1, .., 2, 2, ..",
            "in the order of `row`, `update` starts at 1 and never falls or skips",
            "use row // $rows_per_update + 1 AS update",
        )


def _locate(snap: Snapshot, has_topk: bool) -> str:
    def scan(name: str, columns: str) -> str:
        paths = ", ".join(sql.literal(file) for file in snap.files[name])
        return (
            f"(SELECT {columns}, filename, file_row_number FROM read_parquet([{paths}], "
            "filename = true, file_row_number = true, hive_partitioning = true, "
            "hive_types_autocast = false))"
        )

    light = "rollout_id, prompt_id, policy_id, prompt_tokens, response_tokens"
    text = (
        "SELECT s.*, r.prompt_id, r.prompt_tokens, r.response_tokens, o.tokenizer_fingerprint, "
        "r.filename AS rollout_file, r.file_row_number AS rollout_position"
    )
    if has_topk:
        text += ", t.filename AS topk_file, t.file_row_number AS topk_position"
    text += f" FROM _selected AS s JOIN {scan('rollouts', light)} AS r USING (rollout_id)"
    text += " LEFT JOIN policies AS o USING (policy_id)"
    if has_topk and snap.files["topk"]:
        topk = scan("topk", "rollout_id, " + ", ".join(TOPK_COLUMNS))
        text += f" JOIN {topk} AS t USING (rollout_id, {', '.join(TOPK_COLUMNS)})"
    return text


def _check_located(query: Query, selected: pa.Table, rows: pa.Table) -> None:
    if rows.num_rows < selected.num_rows:
        lost = pc.is_in(selected.column("row"), rows.column("row"))
        example = selected.filter(pc.invert(lost)).column("rollout_id")[0].as_py()
        raise DatasetError(
            f"{selected.num_rows - rows.num_rows} rows of query {query.name} name rollouts or "
            f"top-k that are not stored, e.g. rollout {example}",
            fix="s2d score --help, to score them first",
        )
    fingerprints = rows.column("tokenizer_fingerprint").unique().to_pylist()
    if len(fingerprints) > 1:
        raise DatasetError(
            f"query {query.name} mixes rollouts of {len(fingerprints)} tokenizers",
            f"fingerprints {', '.join(map(str, fingerprints))}",
            "select rollouts of policies that share one tokenizer",
        )


def sources(plan: Plan) -> list[Source]:
    """Where the heavy columns of each training row lie."""

    def source(prefix: str, columns: tuple[str, ...], rename: dict[str, str]) -> Source:
        encoded = plan.rows.column(f"{prefix}_file").combine_chunks().dictionary_encode()
        return Source(
            encoded.dictionary.to_pylist(),
            encoded.indices.to_numpy().astype(np.int64),
            plan.rows.column(f"{prefix}_position").to_numpy(),
            columns,
            rename,
        )

    tokens = ("prompt_token_ids", "response_token_ids", "response_logprobs")
    result = [source("rollout", tokens, {})]
    if plan.has_topk:
        result.append(
            source(
                "topk",
                ("token_ids", "logprobs", "sampled_logprobs"),
                {"token_ids": "topk_token_ids", "logprobs": "topk_logprobs"},
            )
        )
    return result
