"""Parameters of named queries: text from the command line to checked, typed, bound values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

import queries
from queries import NULL, Param, Query
from s2d_store.errors import InputError, NotFoundError, did_you_mean, listed

_LEAST = {"BIGINT": -(2**63), "COUNT": 1}
# What a parameter of a type may be is looked up in the store; and where a user finds it.
_LOOKED_UP = {
    "POLICY": ("policy_names", ""),
    "ROUTE": ("policy_names", ""),
    "ROLLOUT": ("rollouts_named", "s2d sample shows some"),
    "STAGE": ("stage_names", "s2d runs shows what ran"),
    "RUN": ("run_ids", "s2d runs shows what ran"),
    "DATASET": ("dataset_keys", "s2d dataset list"),
}
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def resolve(
    query: Query, given: Mapping[str, str], con: duckdb.DuckDBPyConnection
) -> dict[str, Any]:
    """Check and type a query's parameters; defaults fill what is not given.

    None is SQL's null: of a parameter whose default is NULL and that is not given, and of one that
    may be null and is given as empty text.

    Raises:
        InputError: unknown, missing or of the wrong type.
        NotFoundError: a POLICY that is not registered.
    """
    names = [p.name for p in query.params]
    for name in given:
        if name not in names:
            raise InputError(
                f"query {query.name} has no parameter {name!r}{did_you_mean(name, names)}",
                f"it takes {', '.join(names) or 'none'}",
                f"s2d query --list {query.name}",
            )
    values: dict[str, Any] = {}
    for param in query.params:
        text = given.get(param.name)
        if text is None and param.default is None:
            raise InputError(
                f"query {query.name} needs parameter {param.name!r}",
                f"{param.doc} ({param.type})",
                f"--param {param.name}=...",
            )
        if text is None:
            text = "" if param.default == NULL else param.default
        null = param.nullable and not text
        values[param.name] = None if null else _typed(query, param, str(text), con)
    return values


def defaults(query: Query) -> dict[str, Any]:
    """Typed defaults of the parameters that have one, but policies."""
    return {
        param.name: None
        if param.default == NULL
        else _typed(query, param, param.default, duckdb.default_connection())
        for param in query.params
        if param.default is not None and param.type not in ("POLICY", "ROUTE")
    }


def bind(query: Query, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values that the SQL text really uses; DuckDB refuses others."""
    return bind_text(query.sql, values)


def bind_text(text: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Those of the values that SQL uses, by name; None for none."""
    return {name: value for name, value in values.items() if queries.uses(text, name)} or None


def _typed(query: Query, param: Param, text: str, con: duckdb.DuckDBPyConnection) -> Any:
    try:
        if param.type in _LEAST:
            number = int(text)
            if not _LEAST[param.type] <= number < 2**63:
                raise _wrong_type(query, param, text)
            return number
        if param.type == "DOUBLE":
            return float(text)
    except ValueError as error:
        raise _wrong_type(query, param, text) from error
    if param.choices and text not in param.choices:
        raise _wrong_type(query, param, text)
    if param.type == "BOOLEAN":
        if text.lower() not in _TRUE + _FALSE:
            raise _wrong_type(query, param, text)
        return text.lower() in _TRUE
    if param.type == "ROUTE" and is_expression(text):
        return text
    if param.type in ("POLICY", "ROUTE"):
        return policy(con, text)[0]
    if param.type == "ROLLOUT":
        return rollout(con, text)
    if param.type in _LOOKED_UP:
        return _known(param.type, text, con)
    return text


def lookups(query: Query) -> str:
    """The SQL that `resolve` runs: a connection has to make what it names."""
    names = dict.fromkeys(_LOOKED_UP[p.type][0] for p in query.params if p.type in _LOOKED_UP)
    return "\n".join(queries.internal(name) for name in names)


def _known(kind: str, text: str, con: duckdb.DuckDBPyConnection) -> str:
    statement, fix = _LOOKED_UP[kind]
    names = [name for (name,) in con.sql(queries.internal(statement)).fetchall()]
    if text not in names:
        raise NotFoundError(
            f"no {kind.lower()} {text!r} in this store{did_you_mean(text, names)}",
            listed(names, f"{kind.lower()}s"),
            fix,
        )
    return text


def rollout(con: duckdb.DuckDBPyConnection, prefix: str) -> str:
    """The id of the rollout whose id begins so.

    Raises:
        NotFoundError: there is none.
        InputError: there are several.
    """
    statement, fix = _LOOKED_UP["ROLLOUT"]
    found = con.execute(queries.internal(statement), {"prefix": prefix}).fetchall()
    ids: list[str] = [name for (name,) in found]
    if prefix in ids or len(ids) == 1:
        return prefix if prefix in ids else ids[0]
    if not ids:
        raise NotFoundError(f"no rollout {prefix!r} in this store", fix=fix)
    raise InputError(
        f"several rollouts begin with {prefix!r}",
        ", ".join(ids[:5]) + (" and more" if len(ids) > 5 else ""),
        "give more of the id",
    )


def is_expression(text: object) -> bool:
    """Whether the value of a ROUTE is SQL, and not a policy's name or id."""
    return isinstance(text, str) and re.search(r"[\s()|']", text) is not None


def _wrong_type(query: Query, param: Param, text: str) -> InputError:
    wanted = f"a {param.type}"
    hint_at = ""
    if param.choices:
        wanted = f"one of {', '.join(param.choices)}"
        hint_at = did_you_mean(text, param.choices)
    elif param.type == "COUNT":
        wanted = "a whole number of at least 1"
    hint = f"--param {param.name}={param.default or '...'}"
    if param.nullable:
        hint = f"--param {param.name}=..., or nothing after the = for NULL"
    return InputError(
        f"parameter {param.name}={text!r} of query {query.name} is not {wanted}{hint_at}",
        param.doc,
        hint,
    )


def policy(con: duckdb.DuckDBPyConnection, name_or_id: str) -> tuple[str, str]:
    """Look up a policy by name or id; returns `(policy_id, name)`.

    Raises:
        NotFoundError: none is registered under it; names the nearest.
    """
    rows: Sequence[tuple[str, str]] = con.sql(queries.internal("policy_names")).fetchall()
    for policy_id, name in rows:
        if name_or_id in (policy_id, name):
            return policy_id, name
    names = [name for _, name in rows]
    raise NotFoundError(
        f"no policy {name_or_id!r} in this store{did_you_mean(name_or_id, names)}",
        listed(names),
        "s2d policies list, or s2d policies add NAME LOCATION",
    )
