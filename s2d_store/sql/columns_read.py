"""Which columns of which tables SQL reads, by DuckDB's own plan of it.

The plan is made over empty tables, so it costs no data. DuckDB has bound every name in it, expanded
views and macros, folded parameters into conditions, and dropped the columns that nothing uses: what
a scan still lists is read, however the SQL came by it (`*`, an alias, a macro, a join).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from s2d_store.schema import TABLES
from s2d_store.sql import connection
from s2d_store.sql.functions import create_functions

# Those that decide which columns a plan holds, without a look at statistics: of empty tables these
# would prove that nothing is selected.
_OPTIMIZERS = frozenset(
    ("expression_rewriter", "filter_pushdown", "unused_columns", "cte_inlining", "deliminator")
)
_TEXT = re.compile(r"'(?:[^']|'')*'")


def columns_read(
    text: str,
    values: Mapping[str, Any] | None,
    definitions: Mapping[str, str],
    opaque: Mapping[str, Sequence[tuple[str, str]]],
) -> dict[str, set[str]]:
    """The columns that a query reads, by table.

    Args:
        text: one SELECT.
        values: of its parameters; conditions that they decide are decided.
        definitions: CREATE statements of the views and macros that it reaches, in an order that
            works.
        opaque: views to be taken for tables, with their columns as (name, SQL type): what they read
            themselves is not looked at.

    Raises:
        duckdb.Error: it does not bind.
    """
    con = duckdb.connect()
    try:
        _create(con, text, definitions, opaque)
        disabled = con.sql("SELECT name FROM duckdb_optimizers()").fetchall()
        names = ",".join(sorted({name for (name,) in disabled} - _OPTIMIZERS))
        con.execute(f"SET disabled_optimizers = '{names}'")
        con.execute("SET enable_external_access = false")
        ((_, plan),) = con.execute(f"EXPLAIN (FORMAT JSON) {text}", values).fetchall()
    finally:
        con.close()
    found: dict[str, set[str]] = {}
    for table, words in _scans(json.loads(plan)):
        found.setdefault(table, set()).update(words)
    return found


def _create(
    con: duckdb.DuckDBPyConnection,
    text: str,
    definitions: Mapping[str, str],
    opaque: Mapping[str, Sequence[tuple[str, str]]],
) -> None:
    con.execute("CREATE SCHEMA raw")
    for table in TABLES.values():
        connection.create_raw(con, table, ())
    create_functions(con, "\n".join([text, *definitions.values()]))
    for name, statement in definitions.items():
        if name in opaque:
            columns = ", ".join(f'"{column}" {kind}' for column, kind in opaque[name])
            con.execute(f"CREATE TABLE {name} ({columns})")
        else:
            con.execute(statement)


def _scans(plan: Any) -> Iterator[tuple[str, set[str]]]:
    """Table and the words of its projections and conditions, of every scan in a plan."""
    if isinstance(plan, list):
        for part in plan:
            yield from _scans(part)
        return
    info = plan.get("extra_info", {})
    if isinstance(info, dict) and "Table" in info:
        words = set(_listed(info.get("Projections", [])))
        for condition in _listed(info.get("Filters", [])):
            words |= set(re.findall(r"\w+", _TEXT.sub("", condition)))
        yield info["Table"].rpartition(".")[2], words
    yield from _scans(plan.get("children", []))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
