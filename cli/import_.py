"""s2d import."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, QuietOption, StoreOption, open_store
from s2d_store.importers.settings import ImportConfig


def _import(given: dict[str, Any]) -> None:
    from cli import import_output
    from cli.output import check_format
    from cli.progress import progress_bar
    from s2d_store.importers.import_dump import import_dump

    check_format(given["shown_as"])
    config = ImportConfig(**settings(ImportConfig, given))
    opened = open_store(given["store"])
    with progress_bar("import", given["quiet"]) as progress:
        done = import_dump(opened, config, progress)
    if config.plan:
        import_output.print_plan(done, given["shown_as"])
    else:
        import_output.print_done(done)


_FORMAT = Annotated[str, typer.Argument(help="A format's name, map, or auto.", metavar="FORMAT")]
_SHOWN_AS = Annotated[
    str,
    typer.Option("--format", help="How --plan is printed.", metavar="table|json|csv|md|latex"),
]
_PATHS = Annotated[list[str], typer.Argument(help="Files and folders.", metavar="PATH...")]

import_ = command(
    _import,
    {
        "format": Option(_FORMAT),
        "paths": Option(_PATHS),
        **options(ImportConfig, skip=("format", "paths")),
        "shown_as": Option(_SHOWN_AS, "table"),
        "quiet": Option(QuietOption, False),
        "store": Option(StoreOption, DEFAULT_STORE),
    },
    """Import rollouts that other systems wrote. Importing them again adds nothing.

    docs/import.md has every format: what is kept, and what is not.

    Example:
        s2d import auto dumps/rollout --policy run7 --plan
        s2d import map math.parquet --map prompt=problem --map text=generations --policy r1
    """,
)
