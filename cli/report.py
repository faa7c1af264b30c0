"""s2d report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store

if TYPE_CHECKING:
    from viewer.claims import Claim

SUFFIXES = {".html": "html", ".md": "md", ".tex": "latex"}


def report(
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write; - prints it.")
    ] = "report.html",
    form: Annotated[
        Literal["html", "md", "latex"] | None,
        typer.Option("--format", help="Default: by the file's ending, else html."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe whose [claim.NAME] tables are tested."),
    ] = None,
    title: Annotated[str, typer.Option(help="Default: the recipes' names.")] = "",
    seed: Annotated[int, typer.Option(help="Of the rollouts that are drawn.")] = 0,
    rollouts: Annotated[int, typer.Option(min=0, max=200, help="Rollouts to draw.")] = 10,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write one page with results, claims, books, audits and locks; it needs no network to read.

    Example: s2d report --store runs/quickstart/store -o report.html
    """
    from viewer.report import opened, save, write

    chosen = form or SUFFIXES.get(Path(output).suffix, "html")
    made = _claims(recipe) if recipe is not None else []
    text = write(
        opened(open_store(store)), chosen, made, title=title, seed=seed, n_rollouts=rollouts
    )
    if output == "-":
        print(text)
        return
    save(text, Path(output))
    print(f"{output}: {len(text.encode()):,} bytes")


def _claims(recipe: Path) -> list[Claim]:
    from cli.recipes.parse import read_recipe

    return list(read_recipe(recipe).claim.values())
