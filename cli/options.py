"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2d_store.errors import InputError, NotFoundError
from s2d_store.redact import redacted

if TYPE_CHECKING:
    from s2d_store.store import Store

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="S2D_STORE",
        help="The store: a folder, or s3://, gs://, az://.",
        metavar="STORE",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the summary only.")]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", help="A query's parameter. May be repeated.", metavar="NAME=VALUE"
    ),
]
FormatOption = Annotated[
    str,
    typer.Option("--format", help="How rows are printed.", metavar="table|json|csv|md|latex"),
]
BudgetOption = Annotated[
    str,
    typer.Option(
        "--budget",
        envvar="S2D_BUDGET",
        help="Budget file; default: the store's own budget.toml, if any.",
        metavar="FILE",
    ),
]
DEFAULT_STORE = "s2d-store"


# The stores of this process, for errors that come up where no store is at hand.
opened: list[Store] = []


def open_store(folder: str) -> Store:
    """Open the store that a command works on."""
    from s2d_store.store import Store

    opened.append(Store.open(folder))
    return opened[-1]


def pairs(items: Iterable[str] | None, option: str) -> dict[str, str]:
    """Read repeated NAME=VALUE options.

    Raises:
        InputError: one has no `=`, or a name is given twice.
    """
    result: dict[str, str] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise InputError(f"{option} {item!r} is not NAME=VALUE", fix=f"{option} NAME=VALUE")
        if name in result:
            first, second = redacted(result[name], name), redacted(value, name)
            raise InputError(f"{option} {name} is given twice", f"{first!r} and {second!r}")
        result[name] = value
    return result


def engine_args(items: Iterable[str] | None) -> tuple[tuple[str, object], ...]:
    """Engine arguments with JSON values where they parse as such, else text."""
    import json

    result: list[tuple[str, object]] = []
    for name, text in pairs(items, "--engine-arg").items():
        try:
            result.append((name.replace("-", "_"), json.loads(text)))
        except json.JSONDecodeError:
            result.append((name.replace("-", "_"), text))
    return tuple(result)


def template_kwargs(text: str) -> tuple[tuple[str, object], ...]:
    """Variables of the chat template, from the JSON of an object.

    Raises:
        InputError: it is no JSON object.
    """
    import json

    try:
        given = json.loads(text) if text else {}
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise InputError(
            f"--chat-template-kwargs {text!r} is no JSON object",
            fix="""--chat-template-kwargs '{"enable_thinking": false}'""",
        )
    return tuple(given.items())


def workers(asked: int) -> int:
    """Grading processes: as asked, or one a core."""
    import os

    return asked if asked > 0 else len(os.sched_getaffinity(0))


def read_template(path: Path | None) -> str:
    """A chat template file's text; empty without a file.

    Raises:
        NotFoundError: there is no such file.
    """
    if path is None:
        return ""
    if not path.is_file():
        raise NotFoundError(f"no chat template file {path}")
    return path.read_text()
