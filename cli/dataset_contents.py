"""s2d dataset show and diff: what locked datasets hold."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import complete
from cli.complete import DatasetArgument
from cli.options import DEFAULT_STORE, FormatOption, StoreOption, open_store


def show(
    name: DatasetArgument,
    updates: Annotated[
        str, typer.Option(help="Rows of the table by update: a number, or all.")
    ] = "10",
    format_: FormatOption = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show a dataset's counts, lengths, rewards, and what each update consumes."""
    import json

    from cli.output import check_format
    from s2d_store.datasets.lock_file import read_lock
    from s2d_store.datasets.stats import describe

    limit = _limit(updates)
    check_format(format_)
    opened = open_store(store)
    lock = read_lock(opened, name)
    stats = describe(opened, name)
    if format_ == "json":
        print(json.dumps({"lock": lock, "stats": stats}, indent=2))
        return
    if format_ == "table":
        _print_lock(lock, stats)
        print()
    _print_figures(stats, format_)
    _print_updates(stats["updates"], limit, format_)


def _limit(updates: str) -> int:
    """Rows of the table by update; -1 for all.

    Raises:
        InputError: neither a number nor `all`.
    """
    from s2d_store.errors import InputError

    if updates == "all":
        return -1
    if not updates.isdigit():
        raise InputError(f"--updates {updates!r} is not a number", fix="--updates 20, or all")
    return int(updates)


def _print_lock(lock: dict[str, Any], stats: dict[str, Any]) -> None:
    counts, distinct = lock["counts"], stats["distinct"]
    print(
        f"dataset {lock['name']}: kind {lock['kind']}, query {lock['query']}, id "
        f"{lock['dataset_id']}"
    )
    print(f"  built {lock['built_at']} by s2d {lock['code_version']}, seed {lock['seed']}")
    print(f"  fingerprint {lock['fingerprint']}")
    for name, value in lock["params"].items():
        if value is None:
            continue
        print(f"  --param {name}={str(value).lower() if isinstance(value, bool) else value}")
    print(
        f"{counts['rows']:,} rows in {counts['updates']:,} updates: {distinct['rollouts']:,} "
        f"rollouts of {distinct['prompts']:,} prompts, {counts['prompt_tokens']:,} prompt and "
        f"{counts['response_tokens']:,} response tokens, {counts['labels']:,} labels"
    )


def _print_figures(stats: dict[str, Any], format_: str) -> None:
    from cli.output import print_rows
    from s2d_store.datasets.stats import QUANTILES

    shown = ["mean", *QUANTILES, "nulls"]
    rows = [
        (name, *(stats[name][column] for column in shown))
        for name in stats
        if name not in ("distinct", "updates")
    ]
    print_rows(["per row", *shown], rows, format_)


def _print_updates(updates: list[dict[str, Any]], limit: int, format_: str) -> None:
    """The first and last updates; all where there are no more than the limit."""
    import sys

    from cli.output import print_rows

    shown = updates
    if 0 <= limit < len(updates):
        shown = updates[: limit - limit // 2] + updates[len(updates) - limit // 2 :]
    if shown:
        print()
        print_rows(list(shown[0]), [tuple(record.values()) for record in shown], format_)
    if len(shown) < len(updates):
        note = f"{len(shown)} of {len(updates)} updates, the first and the last; --updates all"
        print(note, file=sys.stdout if format_ == "table" else sys.stderr)


def diff(
    first: Annotated[
        str, typer.Argument(help="A dataset's name.", autocompletion=complete.datasets)
    ],
    second: Annotated[str, typer.Argument(help="Another's.", autocompletion=complete.datasets)],
    format_: FormatOption = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Compare two datasets: rows, prompts, tokens, labels, and the settings that differ."""
    import json

    from cli.output import check_format, print_rows
    from s2d_store.datasets.stats import diff as run_diff

    check_format(format_)
    found = run_diff(open_store(store), first, second)
    if format_ == "json":
        measures = {
            m["measure"]: {k: m[k] for k in ("first", "second", "shared")} for m in found.measures
        }
        settings = {k: {"first": a, "second": b} for k, (a, b) in found.settings.items()}
        print(
            json.dumps({"same": found.same, "measures": measures, "settings": settings}, indent=2)
        )
        return
    measured = [tuple(m.values()) for m in found.measures]
    print_rows(["measure", first, second, "shared"], measured, format_)
    if found.settings:
        print()
        rows = [(name, _short(a), _short(b)) for name, (a, b) in found.settings.items()]
        print_rows(["setting that differs", first, second], rows, format_)
    if format_ == "table":
        print(f"\nthe rows are {'the same' if found.same else 'not the same'} (by fingerprint)")


def _short(value: Any) -> str:
    """A setting on one line; SQL text by its length."""
    if value is None:
        return "-"
    text = str(value)
    return f"({len(text.splitlines())} lines)" if "\n" in text else text
