"""s2d verifiers."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STORE, FormatOption, StoreOption, open_store

app = typer.Typer(
    help="Verifiers: what they have judged, and whose verdicts no longer count.",
    no_args_is_help=True,
)


@app.command("list")
def list_(format_: FormatOption = "table", store: StoreOption = DEFAULT_STORE) -> None:
    """Show the verifiers that can be named, and every version that has verdicts in the store."""
    import queries
    from cli.output import check_format, print_table
    from s2d_store.verifiers.registry import available

    check_format(format_)
    if format_ == "table":
        print(f"available: {', '.join(sorted(available()))}")
    print_table(open_store(store).sql(queries.internal("verifier_versions")), form=format_)


@app.command()
def withdraw(
    verifier: Annotated[str, typer.Argument(help="Name of the verifier.")],
    version: Annotated[str, typer.Argument(help="Its version, as `s2d verifiers list` has it.")],
    reason: Annotated[str, typer.Option(help="Why its verdicts do not count.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say that a verifier version's verdicts do not count; nothing is deleted."""
    from s2d_store.rollouts import withdraw as withdrawals

    count = withdrawals.withdraw(open_store(store), verifier, version, reason)
    if not count:
        print(f"{verifier} {version} was withdrawn before")
        return
    print(f"{verifier} {version} is withdrawn: {count} verdicts no longer count")
    print("  s2d audit withdrawn_verdicts names the datasets that took rewards from it")
