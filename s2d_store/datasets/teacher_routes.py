"""Several teachers in one dataset: SQL names the policy whose scores are taken for each prompt.

A parameter of type ROUTE takes a policy, or an expression over the columns of table prompts whose
value is a policy's name or id, as `CASE source WHEN 'code' THEN 'coder' ELSE 'solver' END`. The
expression becomes view `prompt_teachers`, which macro `teachers_topk` reads. The lock holds the
view among its definitions, with the policies' ids, and so means the same for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from queries import Query
from s2d_store.errors import DatasetError
from s2d_store.sql import connection, parameters, read_only

VIEW = "prompt_teachers"


def routed(
    con: duckdb.DuckDBPyConnection,
    query: Query,
    values: Mapping[str, Any],
    definitions: Mapping[str, str],
) -> dict[str, str]:
    """What takes the place of view prompt_teachers; empty where no parameter is an expression.

    Args:
        con: a connection to the snapshot that the query will run on.
        query: a dataset query.
        values: its parameters.
        definitions: SQL of the views and macros that it reaches.

    Raises:
        DatasetError: several are expressions, the query takes no notice of them, or one names no
            policy for any prompt.
        NotFoundError: one names a policy that is not registered.
        QueryError: one is not a single expression, or fails.
    """
    texts = {
        param.name: str(values[param.name])
        for param in query.params
        if param.type == "ROUTE" and parameters.is_expression(values[param.name])
    }
    if not texts:
        return {}
    if len(texts) > 1 or VIEW not in definitions:
        raise DatasetError(
            f"query {query.name} cannot route teachers by {' and '.join(texts)}",
            "one parameter may be an expression"
            if len(texts) > 1
            else f"it does not read view {VIEW}",
            "give a policy, or take the scores by macro teachers_topk, as queries/datasets/opd.sql",
        )
    ((name, text),) = texts.items()
    # On lines of its own: it may end with a comment.
    named = f"SELECT prompt_id, (\n{text}\n)::VARCHAR AS named FROM raw.prompts"
    with connection.errors():
        read_only.check_condition(text)
        read_only.only_reads(named)
        found = con.sql(f"SELECT DISTINCT named FROM ({named}) WHERE named IS NOT NULL").fetchall()
    if not found:
        raise DatasetError(
            f"parameter {name} of query {query.name} names no policy for any prompt",
            text,
            "an expression over the columns of prompts whose value is a policy's name",
        )
    rows = ", ".join(
        f"({connection.literal(policy)}, {connection.literal(parameters.policy(con, policy)[0])})"
        for (policy,) in sorted(found)
    )
    view = (
        f"CREATE VIEW {VIEW} AS\n"
        f"SELECT p.prompt_id, n.policy_id AS teacher_policy_id\nFROM ({named}) AS p\n"
        f"INNER JOIN (VALUES {rows}) AS n(named, policy_id) ON p.named = n.named"
    )
    return {VIEW: view}
