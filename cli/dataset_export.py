"""s2d dataset export: locked datasets as other trainers take them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import complete
from cli.complete import DatasetArgument
from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, StoreOption, open_store
from s2d_store.datasets.exports import registry
from s2d_store.datasets.exports.base import REASONS, Options

_OUTPUT = Annotated[
    Path, typer.Option("--output", "-o", help="The file or folder to write.", metavar="PATH")
]
_FORMAT = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        help=f"{', '.join(registry.names())}; see docs/export.md.",
        autocompletion=complete.exports,
    ),
]


def _export(given: dict[str, Any]) -> None:
    from s2d_store.datasets.exports.run import export as run_export
    from s2d_store.datasets.exports.sidecar import beside

    output = given["output"]
    opened = open_store(given["store"])
    written = run_export(opened, given["name"], given["format_"], output, settings(Options, given))
    print(f"{output}: {written.rows:,} rows of dataset {given['name']} as {given['format_']}")
    for reason, rows in written.dropped.items():
        print(f"  {rows:,} left out ({reason}): {REASONS.get(reason, reason)}")
    if written.facts.get("wrong"):
        print(
            f"  {written.facts['wrong']:,} rows have a reward of 0 or less, and this format trains "
            "on them as on the right ones: dataset query sft takes correct rollouts, trl-kto both"
        )
    counted = written.facts.get("retokenised")
    if counted:
        changed = sum(counted.values()) - counted["same"]
        print(
            f"  {changed:,} of {sum(counted.values()):,} rows become other tokens than were "
            "sampled, once they are tokenized again; format tokens keeps them"
        )
    print(f"  settings that keep order and tokens: {beside(output)}")


_UNSET = {field.name: None for field in fields(Options)}
export = command(
    _export,
    {
        "name": Option(DatasetArgument),
        "output": Option(_OUTPUT),
        "format_": Option(_FORMAT, "tokens"),
        **options(Options, defaults=_UNSET),
        "store": Option(StoreOption, DEFAULT_STORE),
    },
    "Write a dataset for another trainer, all of it or nothing: s2d dataset export w -f tokens -o "
    "w.parquet.",
)
