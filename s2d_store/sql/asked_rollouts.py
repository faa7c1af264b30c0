"""Which rollouts a statement asks for by id, where that is plain to see in how DuckDB parses it.

`SELECT ... FROM rollouts WHERE rollout_id = '...'` needs the files that may hold that rollout, and
the log knows them (tables/rollout_files.py); DuckDB would open every footer. Whatever is not
certain, as a join, a subquery, a sample or an OR around the condition, is not taken for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import queries
from s2d_store.schema import TABLES
from s2d_store.sql.syntax_tree import Node, nodes, serialized

# Views of which each row is made of one rollout's rows of these tables, and of tables without
# rollouts. Not verdicts: which version is newest is known from every reward.
VIEWS: Mapping[str, tuple[str, ...]] = {
    "rollouts": ("rollouts",),
    "rewards": ("rewards",),
    "topk": ("topk",),
    "tokens": ("rollouts", "topk"),
    "graded_rollouts": ("rollouts",),
}
_COLUMN = "rollout_id"
_CONDITION = re.compile(rf"\bWHERE\b.*\b{_COLUMN}\b", re.IGNORECASE | re.DOTALL)


class Asked(NamedTuple):
    """Ids of the only rollouts that can be in a result, and the tables of which that is true."""

    ids: tuple[str, ...]
    tables: tuple[str, ...]


def asked(text: str, params: Mapping[str, Any]) -> Asked | None:
    """The rollouts that a statement asks for, or None where it may ask for others.

    Args:
        text: SQL of any kind.
        params: values of its parameters.
    """
    if not _CONDITION.search(text):
        return None
    node = _parsed(text)
    if node is None:
        return None
    source = node["from_table"]
    view = str(source.get("table_name", "")).lower()
    if not _is_plain(node, source, view) or _names_more(text, view):
        return None
    columns = {(_COLUMN,), (view, _COLUMN), (str(source["alias"]).lower(), _COLUMN)}
    for condition in _all_of(node["where_clause"]):
        ids = _ids(condition, columns, params)
        if ids is not None:
            return Asked(ids, VIEWS[view])
    return None


def _parsed(text: str) -> Node | None:
    """The root of one SELECT as DuckDB parses it; None for anything else."""
    parsed = json.loads(serialized(text))
    statements = parsed.get("statements", [])
    if parsed.get("error") or len(statements) != 1:
        return None
    node: Node = statements[0]["node"]
    return node if node["type"] == "SELECT_NODE" else None


def _is_plain(node: Node, source: Node, view: str) -> bool:
    """Whether it reads one view row by row, through nothing but conditions."""
    return (
        not node["cte_map"]["map"]
        and not node["sample"]
        and source["type"] == "BASE_TABLE"
        and view in VIEWS
        and str(source["schema_name"]).lower() in ("", "main")
        and not source["catalog_name"]
        and not source["sample"]
        and not source["at_clause"]
        and not source["column_name_alias"]
        and all(inner is node or inner.get("type") not in _READING for inner in nodes(node))
        # An alias of that name would be another column.
        and all(str(inner.get("alias", "")).lower() != _COLUMN for inner in nodes(node))
    )


# What reads rows somewhere inside a statement.
_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "SUBQUERY"}


def _names_more(text: str, view: str) -> bool:
    """Whether the text names another view or macro of the store, which could read other rows."""
    tables = tuple(TABLES)
    return queries.named_in(text, tables) != queries.named_in(view, tables)


def _all_of(condition: Node | None) -> Iterator[Node]:
    """The conditions that every row meets."""
    if condition is None:
        return
    if condition["type"] == "CONJUNCTION_AND":
        for part in condition["children"]:
            yield from _all_of(part)
    else:
        yield condition


def _ids(
    condition: Node, columns: set[tuple[str, ...]], params: Mapping[str, Any]
) -> tuple[str, ...] | None:
    """Ids that a condition compares the column with; None where it is another condition."""
    if condition["type"] == "COMPARE_EQUAL":
        sides = [condition["left"], condition["right"]]
        if not _is_column(sides[0], columns):
            sides.reverse()
    elif condition["type"] == "COMPARE_IN":
        sides = condition["children"]
    else:
        return None
    values = [_value(side, params) for side in sides[1:]]
    if not _is_column(sides[0], columns) or not all(isinstance(value, str) for value in values):
        return None
    return tuple(str(value) for value in values)


def _is_column(node: Node, columns: set[tuple[str, ...]]) -> bool:
    names = tuple(str(name).lower() for name in node.get("column_names", ()))
    return node["type"] == "COLUMN_REF" and names in columns


def _value(node: Node, params: Mapping[str, Any]) -> Any:
    """The value of a text literal or a parameter; None where it is neither."""
    if node["type"] == "VALUE_PARAMETER":
        return params.get(node["identifier"])
    if node["type"] == "VALUE_CONSTANT" and node["literal"].get("kind") == "STRING":
        return node["literal"]["text"]
    return None
