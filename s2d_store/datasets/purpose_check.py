"""Refuse rollouts that were sampled to evaluate: trained on, they measure nothing any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

import queries
from queries import Query
from s2d_store.errors import DatasetError
from s2d_store.sql import connection

PARAM = "any_purpose"


def check_purpose(
    con: duckdb.DuckDBPyConnection, query: Query, values: Mapping[str, Any], rows: pa.Table
) -> None:
    """Refuse a dataset that holds evaluation rollouts, unless its parameter `any_purpose` is true.

    Args:
        con: a connection to the snapshot that the query ran on.
        query: the dataset query.
        values: its parameters.
        rows: the dataset's rows, with rollout_id.

    Raises:
        DatasetError: with how many there are, and how to leave them out or take them.
    """
    if str(values.get(PARAM)).lower() == "true":
        return
    con.register("_selected", rows.select(["rollout_id"]))
    with connection.errors():
        ((of, n, example),) = con.execute(queries.internal("eval_selected")).fetchall()
    con.unregister("_selected")
    if not n:
        return
    take = f"--param {PARAM}=true takes them"
    if all(param.name != PARAM for param in query.params):
        take = f"declare `{PARAM}: BOOLEAN = false` in the query's header, then {take}"
    raise DatasetError(
        f"{n:,} of the {of:,} rollouts that query {query.name} selects were sampled to evaluate",
        f"e.g. rollout {example}; figures on prompts that were trained on measure nothing",
        f"leave them out with WHERE purpose = 'train'; or {take}",
    )
