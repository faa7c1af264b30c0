"""s2d policies."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store

app = typer.Typer(help="Policies: registered models, with their parents.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name that other commands take.")],
    location: Annotated[str, typer.Argument(help="Local folder or hub id.")],
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    parent: Annotated[str | None, typer.Option(help="The policy it was trained from.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Register a model under a name, by the fingerprint of its weights and tokenizer."""
    from s2d_store.policies import registry
    from s2d_store.sql import parameters

    opened = open_store(store)
    parent_id = parameters.policy(opened.connect(), parent)[0] if parent else None
    done = registry.register(opened, name, location, revision=revision, parent_policy_id=parent_id)
    print(f"policy {done.name} is {done.policy_id} ({done.n_parameters:,} parameters)")


@app.command("list")
def list_(store: StoreOption = DEFAULT_STORE) -> None:
    """Show every policy."""
    from cli.output import print_table

    print_table(
        open_store(store).sql(
            "SELECT p.name, p.policy_id, p.n_parameters, q.name AS parent, p.update, "
            "p.tokenizer_fingerprint AS tokenizer, p.location FROM policies AS p "
            "LEFT JOIN policies AS q ON p.parent_policy_id = q.policy_id ORDER BY p.created_at"
        )
    )
