"""Run audits: each asks one question of one snapshot and gives the rows that answer it badly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import duckdb

import queries
from queries import Query
from s2d_store.audits import locks_rebuild, server_agrees, topk_consistency
from s2d_store.audits.base import Found, Scope
from s2d_store.errors import InputError, NotFoundError, QueryError, did_you_mean
from s2d_store.sql import connection, read_only
from s2d_store.sql import parameters as query_params
from s2d_store.store import Store

_FETCH_ROWS = 100_000
# Parameters that name datasets, comma-separated.
_DATASETS = ("datasets", "treatment")


@dataclass(frozen=True)
class Audit:
    """An audit: its header, what runs it, when it has nothing to look at, and the SQL it runs."""

    query: Query
    run: Callable[[Scope], Found]
    skipped_when: str
    text: str


@dataclass(frozen=True)
class AuditResult:
    """What one audit found.

    Attributes:
        name: the audit.
        question: what it asks.
        status: `passed`, `failed`, or `skipped` where there was nothing to look at.
        reason: why it was skipped, else empty.
        offending: number of offending rows.
        sample: the first of them, by column.
        figures: what was looked at and the numbers behind the verdict.
        params: the parameters it ran with; dataset names as given, policies by id.
        seconds: wall time.
    """

    name: str
    question: str
    status: Literal["passed", "failed", "skipped"]
    reason: str
    offending: int
    sample: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    params: dict[str, Any]
    seconds: float


def catalog() -> dict[str, Audit]:
    """Every audit that ships with s2d, by name."""
    audits = [_from_sql(q) for q in queries.catalog().values() if q.folder == "audits"]
    audits += [
        Audit(
            topk_consistency.CONSISTENCY,
            topk_consistency.consistency,
            "no top-k is stored",
            f"{topk_consistency.TEXT}\n{queries.texts('policy_vocabularies')}\nrollouts",
        ),
        Audit(
            locks_rebuild.REBUILD, locks_rebuild.rebuild, "no dataset is built", locks_rebuild.TEXT
        ),
        Audit(
            server_agrees.SERVER_AGREES,
            server_agrees.agreement,
            "no server gave logprobs of a policy whose weights are here",
            server_agrees.TEXT,
        ),
    ]
    return {a.query.name: a for a in sorted(audits, key=lambda a: a.query.name)}


def find(name: str) -> Audit:
    """An audit by name, or of a user's own .sql file.

    Raises:
        NotFoundError: there is none; names the nearest.
        InputError: the file has no header.
    """
    known = catalog()
    if name in known:
        return known[name]
    if name.endswith(".sql"):
        path = Path(name)
        if not path.is_file():
            raise NotFoundError(f"no SQL file {name}", fix="s2d audit --list shows the audits")
        try:
            return _from_sql(queries.parse(path.stem, "user", path.read_text()))
        except ValueError as error:
            raise InputError(
                str(error), fix="start the file as queries/audits/label_splits.sql does"
            ) from error
    raise NotFoundError(
        f"no audit named {name!r}{did_you_mean(name, known)}",
        fix="s2d audit --list shows them",
    )


def audit(
    store: Store,
    names: Sequence[str] | None = None,
    *,
    datasets: Sequence[str] = (),
    params: Mapping[str, object] | None = None,
    sample: int = 5,
) -> list[AuditResult]:
    """Run audits over one snapshot of a store.

    Args:
        store: the store.
        names: audits by name, or .sql files; None runs all, with `datasets` all that take datasets.
        datasets: look at these datasets alone, by name or id.
        params: values by parameter, for every audit that takes it, or by `audit.parameter`.
        sample: offending rows to keep of each.

    Returns:
        One result an audit, in the order of `names`, or of their own names.

    Raises:
        NotFoundError: an audit, dataset or policy that does not exist.
        InputError: a parameter that is unknown, missing or of the wrong type.
        QueryError: an audit's SQL fails.
    """
    chosen = [find(name) for name in names] if names is not None else list(catalog().values())
    if datasets and names is None:
        chosen = [a for a in chosen if _takes(a, "datasets")]
    given = _given(chosen, datasets, params or {})
    snap = store.snapshot()
    texts = [f"{a.text}\n{query_params.lookups(a.query)}" for a in chosen]
    texts.append(queries.texts("dataset_ids", "datasets_trained"))
    shipped = all(a.query.name in catalog() for a in chosen)
    # A user's own file may misspell a view: a connection with all of them names what is close.
    con = connection.connect(store.root, snap, text="\n".join(texts) if shipped else None)
    connection.prepare(con, "\n".join(texts))
    locks_rebuild.set_in_use(store, con)
    plans = [(a, *_resolve(store, con, a, given[a.query.name])) for a in chosen]
    return [_run(a, Scope(store, snap, con, values, sample), shown) for a, values, shown in plans]


def _takes(audit: Audit, param: str) -> bool:
    return any(p.name == param for p in audit.query.params)


def _given(
    chosen: Sequence[Audit], datasets: Sequence[str], params: Mapping[str, object]
) -> dict[str, dict[str, str]]:
    """Parameters as text, by audit; those that name no audit go to every audit that takes them.

    Raises:
        InputError: no chosen audit takes a parameter, or takes datasets.
    """
    given: dict[str, dict[str, str]] = {a.query.name: {} for a in chosen}
    values = dict(params)
    if datasets:
        values["datasets"] = ",".join(datasets)
    # Those for one audit come last, so that they win.
    for key, value in sorted(values.items(), key=lambda item: "." in item[0]):
        name, _, param = key.rpartition(".")
        takers = [a for a in chosen if name in ("", a.query.name) and _takes(a, param)]
        if not takers:
            raise _no_taker(chosen, name, param)
        for taker in takers:
            given[taker.query.name][param] = "" if value is None else str(value)
    return given


def _no_taker(chosen: Sequence[Audit], name: str, param: str) -> InputError:
    names = [a.query.name for a in chosen]
    if name and name not in names:
        return InputError(
            f"parameter {name}.{param} is for an audit that is not run{did_you_mean(name, names)}",
            f"audits of this call: {', '.join(names)}",
        )
    known = sorted({p.name for a in chosen if name in ("", a.query.name) for p in a.query.params})
    return InputError(
        f"{f'audit {name}' if name else 'no audit of this call'} "
        f"{'has no' if name else 'has a'} parameter {param!r}{did_you_mean(param, known)}",
        f"parameters: {', '.join(known) or 'none'}",
        "s2d audit --list NAME shows an audit's parameters",
    )


def _resolve(
    store: Store, con: duckdb.DuckDBPyConnection, audit: Audit, given: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Typed values to bind, and the same as the user would write them."""
    values = query_params.resolve(audit.query, given, con)
    shown = dict(values)
    for param in _DATASETS:
        if values.get(param) is not None:
            values[param] = locks_rebuild.choose(store, con, str(values[param]).split(","))
    return values, shown


def _run(audit: Audit, scope: Scope, shown: dict[str, Any]) -> AuditResult:
    began = time.perf_counter()
    try:
        found = audit.run(scope)
    except QueryError as error:
        raise QueryError(f"audit {audit.query.name}: {error.what}", error.why, error.fix) from error
    skipped = found.examined == 0 and not found.offending
    return AuditResult(
        name=audit.query.name,
        question=audit.query.question,
        status="failed" if found.offending else "skipped" if skipped else "passed",
        reason=audit.skipped_when if skipped else "",
        offending=found.offending,
        sample=_plain(found.rows),
        figures=_plain(found.figures),
        params=shown,
        seconds=time.perf_counter() - began,
    )


def _plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose numbers JSON can hold: infinities and NaN as text."""
    return [
        {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]


def _from_sql(query: Query) -> Audit:
    return Audit(query, partial(_run_sql, query), query.skipped_when, query.sql + query.figures)


def _run_sql(query: Query, scope: Scope) -> Found:
    read_only.only_reads(query.sql)
    bound = query_params.bind(query, scope.values)
    with connection.errors():
        # Not a relation: Ctrl-C stops an execute, and a relation's fetch does not notice it.
        cursor = scope.con.execute(query.sql, bound)
        names = [column[0] for column in cursor.description or ()]
        sample = [dict(zip(names, row, strict=True)) for row in cursor.fetchmany(scope.sample)]
        offending = len(sample)
        while more := cursor.fetchmany(_FETCH_ROWS):
            offending += len(more)
    if not query.figures:
        return Found(offending, sample, [], None)
    figures = _figures(query, scope)
    return Found(offending, sample, figures, sum(row["examined"] for row in figures))


def _figures(query: Query, scope: Scope) -> list[dict[str, Any]]:
    read_only.only_reads(query.figures)
    with connection.errors():
        cursor = scope.con.execute(
            query.figures, query_params.bind_text(query.figures, scope.values)
        )
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if "examined" not in names:
        raise QueryError(
            "its figures have no column examined",
            f"they have {', '.join(names)}",
            "count what was looked at: SELECT count(*) AS examined, ...",
        )
    return rows
