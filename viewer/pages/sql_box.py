"""A box for SQL: the views' columns beside it, results as table and chart, and the shipped queries.

The sandbox is that of `s2d query`: statements that only read, over one snapshot, without other
files; and a limit on time and rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

import queries
from s2d_store.errors import InputError, S2DError, did_you_mean
from s2d_store.sql import parameters, read_only
from viewer.page import Page
from viewer.params import Params
from viewer.snapshots import View

MOST_ROWS = 1_000
CHARTS = ("line", "bars", "none")
PREFIX = "p."


def load(view: View, params: Params) -> dict[str, Any]:
    """The result of `sql`, or of the shipped query `name` with its parameters as `p.NAME`.

    What does not run, would write or takes too long is `error`.

    Raises:
        InputError: there is no shipped query of that name.
    """
    name, text = params.text("name"), params.text("sql")
    shipped = {q.name: q for q in queries.catalog().values() if q.folder != "datasets"}
    if name and name not in shipped:
        raise InputError(f"no query named {name!r}{did_you_mean(name, shipped)}")
    query = shipped.get(name)
    given = {p.name: params.text(PREFIX + p.name) for p in query.params} if query else {}
    needs = (
        [p.name for p in query.params if p.default is None and not given[p.name]] if query else []
    )
    data = {
        "sql": _without_header(query.sql) if query else text,
        "name": name,
        "query": _described(query, given) if query else None,
        "shipped": [_described(q, {}) for q in shipped.values()],
        "views": view.kept(("views",), lambda: _views(view)),
        "result": None,
        "error": None,
    }
    if needs:
        return data
    if query or text.strip():
        try:
            data["result"] = _result(view, query, given, text, params)
        except S2DError as error:  # said beside the SQL, which its reader wants to change
            data["error"] = {"what": error.what, "why": error.why, "fix": error.fix}
    return data


def _result(
    view: View,
    query: queries.Query | None,
    given: Mapping[str, str],
    text: str,
    params: Params,
) -> dict[str, Any]:
    statement = read_only.only_reads(query.sql if query else text)
    begun = time.perf_counter()
    needed = f"{statement}\n{queries.internal('policy_names')}"
    con = view.store.connect(view.snap, text=needed)
    values = None
    if query:
        asked = {key: value for key, value in given.items() if value}
        values = parameters.bind(query, parameters.resolve(query, asked, con))
    try:
        columns, rows = _run(view, con, statement, values)
    except duckdb.CatalogException:
        # What it misses here, a connection with everything has, or names what is close to it.
        columns, rows = _run(view, view.store.connect(view.snap), statement, values)
    return {
        "columns": columns,
        "rows": rows[:MOST_ROWS],
        "more": len(rows) > MOST_ROWS,
        "seconds": time.perf_counter() - begun,
        "chart": _chart(columns, rows[:MOST_ROWS], params),
    }


def _run(
    view: View,
    con: duckdb.DuckDBPyConnection,
    statement: str,
    values: Mapping[str, Any] | None,
) -> tuple[list[str], list[tuple[Any, ...]]]:
    return view.table(con, statement, values, limit=MOST_ROWS + 1)


def _chart(
    columns: Sequence[str], rows: Sequence[tuple[Any, ...]], params: Params
) -> dict[str, Any]:
    """What is drawn: by default the first column along x, and the first column of numbers as y."""
    numbers = [
        name
        for i, name in enumerate(columns)
        if any(_is_number(row[i]) for row in rows) and all(_fits(row[i]) for row in rows)
    ]
    x = params.choice("x", tuple(columns), "".join(columns[:1]))
    y = params.choice("y", tuple(numbers), "".join([name for name in numbers if name != x][:1]))
    default = "line" if x in numbers else "bars"
    kind = params.choice("chart", CHARTS, default if y and len(rows) > 1 else "none")
    return {"kind": kind, "x": x, "y": y, "numbers": numbers, "kinds": list(CHARTS)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(value: Any) -> bool:
    return value is None or _is_number(value)


def _described(query: queries.Query, given: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": query.name,
        "folder": query.folder,
        "question": query.question,
        "grain": query.grain,
        "params": [
            {
                "name": p.name,
                "type": p.type,
                "choices": list(p.choices),
                "default": p.default,
                "doc": p.doc,
                "value": given.get(p.name, ""),
            }
            for p in query.params
        ],
    }


def _without_header(sql: str) -> str:
    lines = sql.strip().splitlines()
    while lines and lines[0].startswith("--"):
        lines.pop(0)
    return "\n".join(lines)


def _views(view: View) -> list[dict[str, Any]]:
    """Views and tables by name, with their columns."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in view.rows("views_and_columns"):
        found.setdefault(row["name"], []).append({"name": row["column"], "type": row["type"]})
    return [{"name": name, "columns": columns} for name, columns in found.items()]


PAGE = Page("sql", "/sql", "SQL", ("views_and_columns",), load)
