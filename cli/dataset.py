"""s2d dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import complete, dataset_contents, dataset_export
from cli.complete import DatasetArgument
from cli.options import (
    DEFAULT_STORE,
    BudgetOption,
    FormatOption,
    ParamOption,
    StoreOption,
    open_store,
    pairs,
)

if TYPE_CHECKING:
    from s2d_store.store import Store

app = typer.Typer(help="Locked datasets, built by queries.", no_args_is_help=True)
SpillOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for rows that wait for their place; without it, under the store.",
        metavar="DIR",
    ),
]


@app.command()
def build(
    name: DatasetArgument,
    query: Annotated[
        str,
        typer.Option(
            help="Named query or .sql file (s2d query --list).", autocompletion=complete.queries
        ),
    ],
    param: ParamOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the training order.")] = 0,
    budget: BudgetOption = "",
    copy_rows: Annotated[
        bool,
        typer.Option(
            "--materialise",
            help="Copy the rows' tokens to parts in place of naming where they lie.",
        ),
    ] = False,
    spill: SpillOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Run a dataset query on a pinned snapshot and lock the result in training order."""
    import queries
    from cli.query import find
    from s2d_store.datasets.build import build as run_build
    from s2d_store.errors import InputError

    asked = find(query)
    if not isinstance(asked, queries.Query):
        raise InputError(
            f"--query {query!r} has no header",
            "a dataset query declares its parameters, so that its lock can be rebuilt",
            "start the file as queries/datasets/warmup.sql does",
        )
    given = pairs(param, "--param")
    opened = open_store(store)
    lock = run_build(opened, name, asked, given, seed, budget, copy_rows, spill)
    counts = lock["counts"]
    _say_mixed_k(opened, name)
    print(f"dataset {name} locked: kind {lock['kind']}, fingerprint {lock['fingerprint']}")
    print(
        f"  {counts['rows']:,} rows in {counts['updates']:,} updates, "
        f"{counts['prompt_tokens']:,} prompt and {counts['response_tokens']:,} response tokens, "
        f"{counts['labels']:,} labels"
    )


def _say_mixed_k(store: Store, name: str) -> None:
    """Say so where the rows have top-k of several k: a loss then sees other tails in each."""
    import pyarrow.compute as pc

    from cli.progress import say
    from s2d_store.datasets.open import open_dataset

    dataset = open_dataset(store, name)
    if "k" not in dataset.columns:
        return
    found = pc.value_counts(dataset.light(["k"]).column("k")).to_pylist()
    counts = sorted((row["values"], row["counts"]) for row in found if row["values"])
    if len(counts) > 1:
        told = ", ".join(f"k = {k}: {count:,} rows" for k, count in counts)
        say(f"dataset {name} mixes top-k of several sizes ({told}); -p k={counts[0][0]} takes one")


@app.command()
def materialise(
    name: DatasetArgument, spill: SpillOption = None, store: StoreOption = DEFAULT_STORE
) -> None:
    """Copy a dataset's tokens to parts beside its lock: to read faster, or without the store."""
    from s2d_store.datasets.build import materialise as run_materialise

    lock = run_materialise(open_store(store), name, spill)
    size = sum(file["bytes"] for file in lock["files"])
    print(f"dataset {name} has its rows in {len(lock['files'])} parts, {size / 1e6:,.1f} MB")


@app.command()
def verify(name: DatasetArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Rebuild a dataset from the store at its pinned versions and compare fingerprints."""
    from s2d_store.datasets.verify import verify as run_verify

    found = run_verify(open_store(store), name)
    print(f"locked   {found.locked}\nfiles    {found.files}\nrebuilt  {found.rebuilt}")
    if not found.matches:
        print(f"dataset {name} does not match its lock")
        if found.hint:
            print(f"  {found.hint}")
        if found.hint:
            print(f"  {found.hint}")
        if found.hint:
            print(f"  {found.hint}")
        if found.hint:
            print(f"  {found.hint}")
        if found.hint:
            print(f"  {found.hint}")
        raise typer.Exit(1)
    print(f"dataset {name} matches its lock")


@app.command("list")
def list_(format_: FormatOption = "table", store: StoreOption = DEFAULT_STORE) -> None:
    """Show the datasets whose files are there."""
    from cli.output import check_format, print_rows
    from s2d_store.datasets.lock_file import list_built, read_lock

    check_format(format_)
    opened = open_store(store)
    locks = [read_lock(opened, name) for name in list_built(opened)]
    columns = ["rows", "updates", "response_tokens", "labels"]
    rows = [
        (k["name"], k["kind"], *(k["counts"][c] for c in columns), k["fingerprint"]) for k in locks
    ]
    print_rows(["name", "kind", *columns, "fingerprint"], rows, format_)


@app.command()
def restore(name: DatasetArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Make a damaged dataset whole again from the store: the locked rows, or an error."""
    from s2d_store.maintenance.restore_dataset import restore as run_restore

    done = run_restore(open_store(store), name)
    print(f"dataset {name} holds its locked rows" + "".join(f"\n  {line}" for line in done))


@app.command()
def drop(name: DatasetArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Delete a dataset's files; the record of what it held stays."""
    from s2d_store.datasets.build import drop as run_drop

    run_drop(open_store(store), name)
    print(f"dataset {name} dropped; its record stays in the tables datasets and dataset_rows")


app.command("show")(dataset_contents.show)
app.command("diff")(dataset_contents.diff)
app.command("export")(dataset_export.export)
