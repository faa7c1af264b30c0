"""Refuse rollouts that were not plain samples of their policy, where a loss assumes that they are.

Stored logprobs are at temperature 1 over the whole vocabulary. Importance ratios (GRPO) and losses
on sampled tokens (OPD, and its continuation) take them for the distribution that the tokens were
drawn from; at another temperature, or with top-p or top-k, their gradients are biased.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

import queries
from queries import Query
from s2d_store.errors import DatasetError
from s2d_store.sql import connection

PARAM = "any_sampling"
GROUPED = ("grpo", "replay")
KINDS = (*GROUPED, "opd", "fresh_opd", "bridge_continuation")
_SHOWN = 3


def check_sampling(
    con: duckdb.DuckDBPyConnection, query: Query, values: Mapping[str, Any], rows: pa.Table
) -> None:
    """Refuse a dataset of rollouts drawn otherwise than its losses assume.

    Args:
        con: a connection to the snapshot that the query ran on.
        query: the dataset query; only its kinds in KINDS are looked at.
        values: its parameters; `any_sampling` takes rollouts of any sampling.
        rows: the dataset's rows, with rollout_id.

    Raises:
        DatasetError: a temperature other than 1, top-p or top-k, or none known, unless
            `any_sampling`; or, of a kind in GROUPED, groups whose rollouts were drawn differently.
    """
    if query.kind not in KINDS:
        return
    con.register("_selected", rows.select(["rollout_id"]))
    with connection.errors():
        others = con.execute(queries.internal("other_sampling")).fetchall()
        mixed = con.execute(queries.internal("mixed_groups")).fetchall()
    con.unregister("_selected")
    if query.kind in GROUPED and mixed:
        group, settings, example = mixed[0]
        raise DatasetError(
            f"{len(mixed)} groups of query {query.name} mix rollouts of different sampling",
            f"group {group} has {settings} settings of temperature, top-p, top-k and others, e.g. "
            f"rollout {example}; advantages compare rollouts that were drawn alike",
            "leave those groups out, e.g. with --param runs=...",
        )
    if others and not values.get(PARAM):
        raise _other_sampling(query, others, rows)


def _other_sampling(query: Query, others: list[tuple[Any, ...]], rows: pa.Table) -> DatasetError:
    of = len(rows.column("rollout_id").unique())
    shown = "; ".join(_described(*row) for row in others[:_SHOWN])
    more = f"; and {len(others) - _SHOWN} other settings" if len(others) > _SHOWN else ""
    way_out = f"--param {PARAM}=true takes them"
    if all(param.name != PARAM for param in query.params):
        way_out = f"declare `{PARAM}: BOOLEAN = false` in the query's header to take them"
    return DatasetError(
        f"{sum(row[-1] for row in others):,} of the {of:,} rollouts that query {query.name} "
        "selects were not drawn from their policy's own distribution",
        f"{shown}{more}; stored logprobs are at temperature 1 without top-p and top-k, so ratios "
        "and losses on sampled tokens would be biased",
        f"select others with --param runs=..., sample anew at temperature 1, or {way_out}",
    )


def _described(temperature: float | None, top_p: float | None, top_k: int | None, n: int) -> str:
    values = {"temperature": temperature, "top-p": top_p, "top-k": top_k}
    known = (f"{name} {'unknown' if v is None else f'{v:g}'}" for name, v in values.items())
    return f"{n:,} at {', '.join(known)}"
