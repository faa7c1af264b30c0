"""Run a dataset query: bind its parameters, check its rows, and find where their tokens lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queries import Query
from queries.kinds import LOGPROBS
from s2d_store.datasets import replay_match
from s2d_store.datasets.query_contract import TOPK_COLUMNS, check_names, in_order, validate_rows
from s2d_store.errors import DatasetError
from s2d_store.sql import connection, read_only
from s2d_store.sql import parameters as query_params
from s2d_store.tables.fetch_rows import Source
from s2d_store.tables.snapshot import Snapshot

TOKENS = ("prompt_token_ids", "response_token_ids")


@dataclass(frozen=True)
class Plan:
    """A dataset before its tokens are fetched; light columns alone.

    Attributes:
        has_logprobs: whether the sampling policy's logprobs go into the rows.
        rows: the query's rows by `row`, with prompt_id, prompt_tokens and response_tokens joined
            on, and where the heavy columns lie: rollout_file (index) and rollout_position, with
            top-k also topk_file and topk_position.
        columns: the query's own columns, in its order.
        has_topk: whether rows name a top-k.
        tokenizer_fingerprint: that of every row's policy; null where it is not registered.
        files: Parquet files of the tables, which the indices refer to.
    """

    has_logprobs: bool
    rows: pa.Table
    columns: tuple[str, ...]
    has_topk: bool
    tokenizer_fingerprint: str | None
    files: Mapping[str, Sequence[str]]


def plan_dataset(
    con: duckdb.DuckDBPyConnection, snap: Snapshot, query: Query, values: Mapping[str, Any]
) -> Plan:
    """Run the query and locate its rows.

    Raises:
        QueryError: the SQL fails, or would write.
        DatasetError: columns lack or clash, rows are not 0..n-1, updates fall, rollouts or top-k
            that are not stored, or no rows at all; of a control, the treatment is not matched.
        NotFoundError: of a control, there is no such treatment.
    """
    read_only.only_reads(query.sql)
    with connection.errors():
        selected = con.sql(query.sql, params=query_params.bind(query, values)).to_arrow_table()
    check_names(query, tuple(selected.column_names))
    if query.traits.control:
        replay_match.check(con, query, values, selected)
    selected = validate_rows(query, values, selected)
    columns = tuple(selected.column_names)
    has_topk = "k" in columns
    located = locate(con, snap, selected, has_topk)
    _check_located(query, selected, located)
    fingerprint = _one_tokenizer(con, query, located)
    located = located.drop_columns(["row", "policy"])
    rows = {name: selected.column(name) for name in columns}
    rows |= {name: located.column(name) for name in located.column_names}
    logprobs = query.traits.has_logprobs
    return Plan(logprobs, pa.table(rows), columns, has_topk, fingerprint, snap.files)


def locate(
    con: duckdb.DuckDBPyConnection, snap: Snapshot, selected: pa.Table, has_topk: bool
) -> pa.Table:
    """Where the rows' rollouts (and top-k) lie, by `row`; rows that are not stored are left out.

    Args:
        con: a connection to the snapshot.
        snap: the snapshot.
        selected: row and rollout_id, with top-k also scorer_policy_id, support and k.
        has_topk: whether to find top-k too.

    Returns:
        row, prompt_id, policy (place among the policies by id), prompt_tokens, response_tokens,
        rollout_file, rollout_position, and with top-k topk_file, topk_position.
    """
    keys = ["row", "rollout_id", *(TOPK_COLUMNS if has_topk else ())]
    con.register("_selected", selected.select(keys))
    for name in ("rollouts", "topk"):
        paths = pa.array(snap.files[name], pa.string())
        con.register(f"_{name}_files", pa.table({"path": paths, "i": pa.array(range(len(paths)))}))
    with connection.errors():
        rows = con.sql(_locate_sql(snap, has_topk)).to_arrow_table()
    for name in ("_selected", "_rollouts_files", "_topk_files"):
        con.unregister(name)
    return in_order(rows)


def _scan(snap: Snapshot, name: str, columns: str) -> str:
    """A subquery over a table's files that gives columns, filename and file_row_number."""
    if not snap.files[name]:
        return f"(SELECT {columns}, '' AS filename, 0 AS file_row_number FROM raw.{name})"
    paths = ", ".join(connection.literal(file) for file in snap.files[name])
    return (
        f"(SELECT {columns}, filename, file_row_number FROM read_parquet([{paths}], "
        "filename = true, file_row_number = true, hive_partitioning = true, "
        "hive_types_autocast = false))"
    )


def _locate_sql(snap: Snapshot, has_topk: bool) -> str:
    light = "rollout_id, prompt_id, policy_id, prompt_tokens, response_tokens"
    select = (
        "SELECT s.row, r.prompt_id, o.i AS policy, r.prompt_tokens, r.response_tokens, "
        "f.i AS rollout_file, r.file_row_number AS rollout_position"
    )
    join = (
        f" FROM _selected AS s JOIN {_scan(snap, 'rollouts', light)} AS r USING (rollout_id) "
        "JOIN _rollouts_files AS f ON r.filename = f.path "
        "LEFT JOIN (SELECT policy_id, row_number() OVER (ORDER BY policy_id) - 1 AS i "
        "FROM policies) AS o USING (policy_id)"
    )
    if has_topk:
        topk = _scan(snap, "topk", "rollout_id, " + ", ".join(TOPK_COLUMNS))
        select += ", g.i AS topk_file, t.file_row_number AS topk_position"
        join += (
            f" JOIN {topk} AS t USING (rollout_id, {', '.join(TOPK_COLUMNS)}) "
            "JOIN _topk_files AS g ON t.filename = g.path"
        )
    return select + join


def locate_prompts(con: duckdb.DuckDBPyConnection, snap: Snapshot, selected: pa.Table) -> pa.Table:
    """Where the prompts of rows lie: row, prompt_file, prompt_position, by `row`.

    Args:
        con: a connection to the snapshot.
        snap: the snapshot.
        selected: row and prompt_id.
    """
    con.register("_selected", selected)
    paths = pa.array(snap.files["prompts"], pa.string())
    con.register("_prompts_files", pa.table({"path": paths, "i": pa.array(range(len(paths)))}))
    with connection.errors():
        rows = con.sql(
            "SELECT s.row, f.i AS prompt_file, p.file_row_number AS prompt_position "
            f"FROM _selected AS s JOIN {_scan(snap, 'prompts', 'prompt_id')} AS p "
            "USING (prompt_id) JOIN _prompts_files AS f ON p.filename = f.path"
        ).to_arrow_table()
    con.unregister("_selected")
    con.unregister("_prompts_files")
    return in_order(rows)


def _check_located(query: Query, selected: pa.Table, located: pa.Table) -> None:
    if located.num_rows < selected.num_rows:
        found = pc.is_in(selected.column("row"), located.column("row"))
        example = selected.filter(pc.invert(found)).column("rollout_id")[0].as_py()
        raise DatasetError(
            f"{selected.num_rows - located.num_rows} rows of query {query.name} name rollouts or "
            f"top-k that are not stored, e.g. rollout {example}",
            fix="s2d score --help, to score them first",
        )


def _one_tokenizer(con: duckdb.DuckDBPyConnection, query: Query, located: pa.Table) -> str | None:
    with connection.errors():
        stored = con.sql("SELECT tokenizer_fingerprint FROM policies ORDER BY policy_id").fetchall()
    used = located.column("policy").unique().to_pylist()
    fingerprints = {None if i is None else str(stored[i][0]) for i in used}
    if len(fingerprints) > 1:
        raise DatasetError(
            f"query {query.name} mixes rollouts of {len(fingerprints)} tokenizers",
            f"fingerprints {', '.join(sorted(map(str, fingerprints)))}",
            "select rollouts of policies that share one tokenizer",
        )
    return fingerprints.pop()


def source(
    rows: pa.Table,
    table: str,
    files: Sequence[str],
    columns: Sequence[str],
    rename: dict[str, str] | None = None,
) -> Source:
    """Where heavy columns of located rows lie.

    Args:
        rows: with TABLE_file and TABLE_position.
        table: prefix of those two.
        files: what TABLE_file indexes.
        columns: heavy columns to fetch.
        rename: new names by column, where they differ.
    """
    return Source(
        files,
        rows.column(f"{table}_file").to_numpy().astype(np.int64, copy=False),
        rows.column(f"{table}_position").to_numpy().astype(np.int64, copy=False),
        columns,
        rename or {},
    )


def sources(plan: Plan) -> list[Source]:
    """Where the heavy columns of each training row lie."""
    tokens = (*TOKENS, LOGPROBS) if plan.has_logprobs else TOKENS
    result = [source(plan.rows, "rollout", plan.files["rollouts"], tokens)]
    if plan.has_topk:
        rename = {"token_ids": "topk_token_ids", "logprobs": "topk_logprobs"}
        columns = ("token_ids", "logprobs", "sampled_logprobs")
        result.append(source(plan.rows, "topk", plan.files["topk"], columns, rename))
    return result
