"""s2d budget."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STORE, BudgetOption, FormatOption, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.accounting.budget_file import Budget
    from s2d_store.store import Store

app = typer.Typer(help="Budgets: declared, spent, left.", invoke_without_command=True)


@app.callback()
def budget(
    context: typer.Context,
    budget: BudgetOption = "",
    lineage: Annotated[
        str, typer.Option("--lineage", help="What this policy cost in all.", metavar="POLICY")
    ] = "",
    purpose: Annotated[
        str, typer.Option(help="train or any (evaluation too); default: the budget file's.")
    ] = "",
    format_: FormatOption = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show declared, spent and left; without a budget file, what each role and stage spent."""
    from dataclasses import replace

    from cli.output import check_format
    from s2d_store.accounting.budget_file import PURPOSES, Budget
    from s2d_store.errors import InputError

    check_format(format_)
    if purpose and purpose not in PURPOSES:
        raise InputError(f"--purpose {purpose!r} is unknown", f"purposes: {', '.join(PURPOSES)}")
    if context.invoked_subcommand:
        context.obj = (store, budget)
        return
    opened = open_store(store)
    declared = Budget.find(opened, budget)
    if purpose:
        declared = replace(declared, purpose=purpose)
    if lineage:
        _lineage(opened, lineage, declared.purpose, format_)
    else:
        _status(opened, declared, format_)


@app.command()
def check(
    context: typer.Context,
    budget: Annotated[
        str, typer.Option("--budget", help="As for s2d budget.", metavar="FILE")
    ] = "",
    store: Annotated[
        str, typer.Option("--store", help="As for s2d budget.", metavar="FOLDER")
    ] = "",
) -> None:
    """Exit with status 1 when more was spent than declared, and name what is over."""
    from s2d_store.accounting.budget_file import Budget
    from s2d_store.errors import NotFoundError

    # Without these two, s2d budget's own options and environment variables count.
    outer_store, outer_budget = context.obj
    opened = open_store(store or outer_store)
    declared = Budget.find(opened, budget or outer_budget)
    if declared.path is None:
        raise NotFoundError(
            "no budget to check",
            f"{opened.root} has no budget.toml",
            "write one, or pass --budget FILE",
        )
    declared.check(opened)
    print(f"within budget: {len(declared.limits)} limits of {declared.path}")


def _status(store: Store, budget: Budget, format_: str) -> None:
    import json

    from cli import budget_output as out
    from s2d_store.accounting.budget_file import METRICS, connect, spending

    lines = budget.status(store)
    if format_ != "json" and budget.limits:
        out.print_limits(lines, budget.purpose, format_)
        _say_unknown(store, format_)
        return
    spent = spending(connect(store), budget.purpose)
    if format_ == "json":
        limits = [
            {
                "scope": line.limit.scope,
                "name": line.limit.name,
                "metric": line.limit.metric,
                "declared": line.limit.declared,
                "spent": line.spent,
                "left": line.left,
                "over": line.over,
            }
            for line in lines
        ]
        path = str(budget.path) if budget.path else None
        result = {"budget": path, "purpose": budget.purpose, "limits": limits, "spent": spent}
        print(json.dumps(result, indent=2))
        return
    if format_ == "table":
        print(f"no budget declared; spent on {out.described(budget.purpose)}:")
    unnamed = {"experiment": "all", "stage": "(none)"}
    rows = [
        [row["scope"], row["name"] or unnamed[row["scope"]], *(row[m] for m in METRICS)]
        for row in spent
        if row["scope"] != "run"
    ]
    out.print_amounts(["scope", "name", *METRICS], rows, format_)
    _say_unknown(store, format_)


def _lineage(store: Store, policy: str, purpose: str, format_: str) -> None:
    import json

    import queries
    from cli import budget_output as out
    from s2d_store.accounting.budget_file import purpose_param
    from s2d_store.sql import connection, parameters

    query = queries.find("lineage")
    assert query is not None, "it ships with s2d"
    con = store.connect(text=queries.texts("lineage", "policy_names"))
    values = parameters.resolve(
        query, {"policy": policy, "purpose": purpose_param(purpose) or ""}, con
    )
    with connection.errors():
        relation = con.sql(query.sql, params=parameters.bind(query, values))
        columns, rows = relation.columns, relation.fetchall()
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    _, name = parameters.policy(con, policy)
    if format_ == "json":
        head = {"policy": name, "policy_id": values["policy"], "purpose": purpose}
        print(json.dumps(head | {"rows": records}, indent=2))
        return
    if format_ == "table":
        print(f"policy {name}, with all it was made from, on {out.described(purpose)}:")
    out.print_lineage(columns, records, format_)
    _say_unknown(store, format_)


def _say_unknown(store: Store, form: str) -> None:
    """Name what is not in the figures: imported tokens, FLOPs of policies of unknown size."""
    import queries

    ((rollouts, tokens),) = store.sql(queries.internal("imported_amounts")).fetchall()
    if rollouts:
        note = f"imported, and not counted: {rollouts:,} rollouts, {tokens:,} sampled tokens"
        print(note, file=sys.stdout if form == "table" else sys.stderr)
    found = store.sql(queries.internal("policies_of_unknown_size")).fetchall()
    if found:
        names = ", ".join(name for (name,) in found)
        note = f"FLOPs of {names} count 0: how many parameters it has is unknown"
        print(note, file=sys.stdout if form == "table" else sys.stderr)
