"""s2d policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import complete
from cli.options import DEFAULT_STORE, FormatOption, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.policies.registry import Registered

app = typer.Typer(help="Policies: registered models, with their parents.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name that other commands take.")],
    location: Annotated[
        str, typer.Argument(help="Local folder or hub id; none with --outside or --served.")
    ] = "",
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    parent: Annotated[str | None, typer.Option(help="The policy it was trained from.")] = None,
    outside: Annotated[
        bool,
        typer.Option("--outside", help="Known by name alone: its rollouts come from elsewhere."),
    ] = False,
    served: Annotated[
        bool, typer.Option("--served", help="Behind an endpoint: used with --engine server.")
    ] = False,
    tokenizer: Annotated[
        str, typer.Option(help="Folder or hub id of a served policy's tokenizer.")
    ] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Register a model under a name, by the fingerprint of its weights and tokenizer.

    A served policy has no weights here: s2d policies add judge --served --tokenizer org/model.
    Without a tokenizer its prompts go as messages and its responses are text alone.
    """
    import queries
    from s2d_store.errors import InputError
    from s2d_store.policies import registry
    from s2d_store.sql import parameters

    opened = open_store(store)
    if bool(location) + outside + served != 1:
        raise InputError(
            f"policy {name!r} needs a folder, a hub id, --outside or --served, and no two of them",
            fix=f"s2d policies add {name} FOLDER, or: s2d policies add {name} --outside",
        )
    if tokenizer and not served:
        raise InputError(
            f"--tokenizer {tokenizer} is given for a policy that is not served",
            "weights come with their own; of a policy known by name nothing is used",
            f"s2d policies add {name} --served --tokenizer {tokenizer}",
        )
    parent_id = None
    if parent:
        con = opened.connect(text=queries.internal("policy_names"))
        parent_id, _ = parameters.policy(con, parent)
    if outside:
        known = registry.register_without_weights(opened, name, parent_policy_id=parent_id)
        print(f"policy {known.name} is {known.policy_id} (outside: known by name alone)")
        return
    if served:
        known = registry.register_without_weights(
            opened, name, kind="served", parent_policy_id=parent_id, tokenizer=tokenizer
        )
        print(f"policy {known.name} is {known.policy_id} (served)")
        return
    before = opened.sql("SELECT policy_id FROM policies").fetchall()
    done = registry.register(opened, name, location, revision=revision, parent_policy_id=parent_id)
    print(f"policy {done.name} is {done.policy_id} ({_parameters(done)})")
    if (done.policy_id,) in before:
        kept = registry.recorded(opened, done.policy_id).location
        print(f"  it was registered before; its files are taken from {kept}")
        if kept != done.location:
            print(f"  s2d policies move {name} {location} takes them from there")


@app.command()
def move(
    name: Annotated[
        str, typer.Argument(help="Registered name or id.", autocompletion=complete.policies)
    ],
    location: Annotated[str, typer.Argument(help="Where its files are now.")],
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Record a policy's new place, once the fingerprint there is found to be its own."""
    from s2d_store.policies import registry

    done = registry.move(open_store(store), name, location, revision)
    print(f"policy {done.name} ({done.policy_id}) is at {done.location}")


@app.command("list")
def list_(format_: FormatOption = "table", store: StoreOption = DEFAULT_STORE) -> None:
    """Show every policy."""
    import queries
    from cli.output import check_format, print_table

    check_format(format_)
    listed = open_store(store).sql(queries.internal("policies_listed"))
    print_table(listed, max_rows=10_000, form=format_)


def _parameters(policy: Registered) -> str:
    active = policy.active_parameters
    routed = f", {active:,} per token" if active and active != policy.n_parameters else ""
    return f"{policy.n_parameters:,} parameters{routed}"
