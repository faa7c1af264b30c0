"""s2d audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STORE, ParamOption, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.audits import AuditResult


def audit(
    names: Annotated[
        list[str] | None, typer.Argument(help="Audits, or .sql files; none: all of them.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", help="Look at this dataset alone. May be repeated."),
    ] = None,
    param: ParamOption = None,
    sample: Annotated[int, typer.Option(min=0, help="Offending rows to show of each.")] = 5,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where an audit has nothing to look at, too.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the audits, or one's parameters.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Ask whether the store's facts hold together; exit 1 where one of the audits fails."""
    from cli.options import pairs
    from s2d_store.audits import audit as run_audits
    from s2d_store.errors import InputError

    if format_ not in ("table", "json"):
        raise InputError(f"output format {format_!r} is unknown", "formats: table, json")
    if list_:
        _list(names or [])
        return
    results = run_audits(
        open_store(store),
        names or None,
        datasets=dataset or (),
        params=pairs(param, "--param"),
        sample=sample,
    )
    if format_ == "json":
        _print_json(results)
    else:
        _print(results)
    bad = ("failed", "skipped") if strict else ("failed",)
    if any(result.status in bad for result in results):
        raise typer.Exit(1)


def _print_json(results: list[AuditResult]) -> None:
    import dataclasses
    import json

    rows = [dataclasses.asdict(result) for result in results]
    print(json.dumps(rows, indent=2, default=str, ensure_ascii=False))


def _print(results: list[AuditResult]) -> None:
    from cli.output import print_rows

    for result in results:
        words = {"passed": "pass", "failed": "FAIL", "skipped": "skip"}
        print(f"{words[result.status]}  {result.name}: {_summary(result)}")
        if result.status == "failed":
            print(f"  {result.question}")
            if result.sample:
                columns = list(result.sample[0])
                print_rows(columns, [tuple(row.values()) for row in result.sample])
    counts = {s: sum(r.status == s for r in results) for s in ("passed", "failed", "skipped")}
    print(", ".join(f"{n} {status}" for status, n in counts.items()))


def _summary(result: AuditResult) -> str:
    """What was found and looked at: in one line, or one per row of figures where there are more."""
    if result.status == "skipped":
        return result.reason
    parts = [f"{result.offending:,} offending rows"] if result.offending else []
    lines = [
        ", ".join(f"{name} {_figure(value)}" for name, value in row.items())
        for row in result.figures
    ]
    if len(lines) < 2:
        return "; ".join(parts + lines)
    return "\n      ".join(["; ".join([*parts, f"{len(lines)} looked at"]), *lines])


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _list(names: list[str]) -> None:
    from cli.output import print_rows
    from s2d_store.audits import catalog, find

    if not names:
        print_rows(["audit", "question"], [(n, a.query.question) for n, a in catalog().items()])
        return
    for query in (find(name).query for name in names):
        print(f"{query.name}: {query.question}\ngrain: {query.grain}")
        print(f"columns: {', '.join(query.columns)}")
        for p in query.params:
            default = "required" if p.default is None else f"default {p.default}"
            print(f"  --param {p.name}=  {p.type}, {default}: {p.doc}")
