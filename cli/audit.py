"""s2d audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import complete
from cli.options import DEFAULT_STORE, FormatOption, ParamOption, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.audits import AuditResult


def audit(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Audits, or .sql files; none: all of them.", autocompletion=complete.audits
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="Look at this dataset alone. May be repeated.",
            autocompletion=complete.datasets,
        ),
    ] = None,
    param: ParamOption = None,
    sample: Annotated[int, typer.Option(min=0, help="Offending rows to show of each.")] = 5,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where an audit has nothing to look at, too.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the audits, or one's parameters.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the figures behind each verdict.")
    ] = False,
    format_: FormatOption = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Ask whether the store's facts hold together; exit 1 where one of the audits fails."""
    from cli.options import pairs
    from cli.output import check_format
    from s2d_store.audits import audit as run_audits

    check_format(format_)
    if list_:
        _list(names or [], format_)
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
    elif format_ == "table":
        _print(results, verbose)
    else:
        _print_rows(results, format_)
    bad = ("failed", "skipped") if strict else ("failed",)
    if any(result.status in bad for result in results):
        raise typer.Exit(1)


def _print_json(results: list[AuditResult]) -> None:
    import dataclasses
    import json

    rows = [dataclasses.asdict(result) for result in results]
    print(json.dumps(rows, indent=2, default=str, ensure_ascii=False))


_WORDS = {"passed": "pass", "failed": "FAIL", "skipped": "skip"}


def _print_rows(results: list[AuditResult], form: str) -> None:
    from cli.output import print_rows

    columns = ["audit", "result", "examined", "offending", "reason"]
    rows = [
        (r.name, _WORDS[r.status], _examined(r), r.offending, r.reason or None) for r in results
    ]
    print_rows(columns, rows, form)


def _print(results: list[AuditResult], verbose: bool) -> None:
    """A line each; of one that failed its question, figures and rows as well."""
    from cli.output import print_rows

    for result in results:
        print(f"{_WORDS[result.status]}  {result.name}: {_summary(result)}")
        failed = result.status == "failed"
        if failed:
            print(f"  {result.question}")
        if failed or verbose:
            for row in result.figures:
                print("  " + ", ".join(f"{name} {_figure(v)}" for name, v in row.items()))
        if failed and result.sample:
            columns = list(result.sample[0])
            print_rows(columns, [tuple(row.values()) for row in result.sample])
    counts = {s: sum(r.status == s for r in results) for s in ("passed", "failed", "skipped")}
    print(", ".join(f"{n} {status}" for status, n in counts.items()))


def _summary(result: AuditResult) -> str:
    """What was found, or how much was looked at."""
    if result.status == "skipped":
        return result.reason
    if result.offending:
        return f"{result.offending:,} offending rows"
    examined = _examined(result)
    return "no offending rows" if examined is None else f"{examined:,} examined"


def _examined(result: AuditResult) -> int | None:
    """How many things it looked at; None where it does not say."""
    counts = {row["examined"] for row in result.figures if "examined" in row}
    return max(counts) if counts else None


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _list(names: list[str], form: str) -> None:
    from cli.output import print_rows
    from s2d_store.audits import catalog, find

    if not names:
        rows = [(name, found.query.question) for name, found in catalog().items()]
        print_rows(["audit", "question"], rows, form)
        return
    for query in (find(name).query for name in names):
        print(f"{query.name}: {query.question}\ngrain: {query.grain}")
        print(f"columns: {', '.join(query.columns)}")
        for p in query.params:
            default = "required" if p.default is None else f"default {p.default}"
            print(f"  --param {p.name}=  {p.type}, {default}: {p.doc}")
