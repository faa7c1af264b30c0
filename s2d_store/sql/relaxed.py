"""Queries made from a query: what one of its parts holds, or what it would hold without conditions.

Both work on DuckDB's own syntax tree (json_serialize_sql), and give SQL again.
"""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

import duckdb

from s2d_store.sql.syntax_tree import Node, deserialized, nodes, serialized

# Joins whose sides both may hold more rows, and the result then does too.
_MONOTONE = ("INNER", "SEMI")


class _GivesUpError(Exception):
    """The query is of a form that cannot be relaxed."""


def rollouts_of(text: str, part: str) -> str:
    """SQL of the rollout_id that a CTE of a query holds.

    Raises:
        duckdb.Error: the query does not parse.
    """
    node, chosen = _tree(text), _tree(f'SELECT rollout_id FROM "{part}"')
    chosen["node"]["cte_map"] = node["node"]["cte_map"]
    return f"SELECT DISTINCT rollout_id FROM ({_sql(chosen)})"


def without_conditions(text: str, columns: Set[str]) -> str | None:
    """SQL of the rollout_id that a query could choose from: without its conditions on some columns.

    Conditions are left out where they name such a column, or something computed from one, or a part
    of the query that lost a condition; limits and orders are left out altogether. The result holds
    every rollout of the query's own, and those that it would hold with other values in them.

    Args:
        text: one SELECT with a column rollout_id.
        columns: names of columns, lower case.

    Returns:
        The SQL; None where leaving conditions out might take rows away (an anti join, EXCEPT).

    Raises:
        duckdb.Error: the query does not parse.
    """
    tree = _tree(text)
    try:
        _Relaxed(tree["node"], columns).node(tree["node"])
    except _GivesUpError:
        return None
    return f"SELECT DISTINCT rollout_id FROM ({_sql(tree)})"


class _Relaxed:
    """Takes conditions out of a tree, in place."""

    def __init__(self, tree: Node, columns: Set[str]) -> None:
        self._names = set(columns)
        # Parts of the query that lost a condition.
        self._parts: set[str] = set()
        known = 0
        while known < len(self._names):
            known = len(self._names)
            self._names |= {
                part["alias"].lower()
                for part in nodes(tree)
                if part.get("alias") and "class" in part and self._named(part)
            }

    def node(self, node: Node) -> bool:
        """Relax a query node; whether it lost a condition."""
        lost = False
        for entry in (node.get("cte_map") or {}).get("map", []):
            if self.node(entry["value"]["query_node"]):
                self._parts.add(entry["key"].lower())
                lost = True
        if node["type"] == "SET_OPERATION_NODE":
            lost |= self._set_operation(node)
        elif node["type"] == "SELECT_NODE":
            lost |= self._select(node)
        elif self._concerned(node):
            raise _GivesUpError
        node["modifiers"] = []
        return lost

    def _set_operation(self, node: Node) -> bool:
        sides = [side for key in ("left", "right", "children") for side in _several(node.get(key))]
        if node.get("setop_type") not in ("UNION", "UNION_BY_NAME"):
            if self._concerned(node):
                raise _GivesUpError
            return False
        return any([self.node(side) for side in sides])

    def _select(self, node: Node) -> bool:
        lost = self._from(node.get("from_table"))
        for clause in ("where_clause", "having", "qualify"):
            kept = self._condition(node.get(clause))
            lost |= kept is not node.get(clause)
            node[clause] = kept
        if node.get("sample"):
            raise _GivesUpError
        return lost

    def _from(self, table: Node | None) -> bool:
        if not table:
            return False
        if table["type"] == "SUBQUERY":
            return self.node(table["subquery"]["node"])
        if table["type"] != "JOIN":
            if table["type"] != "BASE_TABLE" and self._concerned(table):
                raise _GivesUpError
            return table.get("table_name", "").lower() in self._parts
        lost = self._from(table["left"])
        if table["join_type"] in _MONOTONE:
            lost |= self._from(table["right"])
            kept = self._condition(table.get("condition"))
            if kept is not table.get("condition"):
                table["condition"], lost = kept or _true(), True
        elif self._loses(table["right"]) or self._concerned(table.get("condition")):
            raise _GivesUpError
        return lost

    def _loses(self, table: Node) -> bool:
        """Whether a side of a join would lose a condition, or is a part that did."""
        return self._from(json.loads(json.dumps(table)))

    def _condition(self, condition: Node | None) -> Node | None:
        """What is left of a condition; the same object where nothing was taken out."""
        if condition is None or not self._concerned(condition):
            return condition
        if condition["type"] != "CONJUNCTION_AND":
            return None
        kept = [part for part in condition["children"] if not self._concerned(part)]
        if len(kept) > 1:
            return condition | {"children": kept}
        return kept[0] if kept else None

    def _concerned(self, part: Any) -> bool:
        return part is not None and (
            self._named(part)
            or any(p.get("table_name", "").lower() in self._parts for p in nodes(part))
        )

    def _named(self, part: Any) -> bool:
        return any(
            str(name).lower() in self._names
            for p in nodes(part)
            if p.get("class") == "COLUMN_REF"
            for name in p["column_names"][-1:]
        )


def _several(value: Any) -> list[Node]:
    return [value] if isinstance(value, dict) else list(value or [])


def _true() -> Node:
    node: Node = _tree("SELECT true")["node"]["select_list"][0]
    return node


def _tree(text: str) -> Node:
    found = serialized(text)
    statements = json.loads(found).get("statements") or []
    if len(statements) != 1:
        raise duckdb.ParserException("not one SELECT")
    statement: Node = statements[0]
    return statement


def _sql(statement: Node) -> str:
    document = json.dumps({"error": False, "statements": [statement]})
    return deserialized(document)
