"""s2d doctor."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_STORE, QuietOption, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.maintenance.report import DamagedFile


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes and footers only; a flipped bit goes unseen.")
    ] = False,
    drop_damaged: Annotated[
        bool,
        typer.Option(
            "--drop-damaged",
            help="Take damaged files out of their tables, so that the commands named can write "
            "their rows again.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Drop without asking.")] = False,
    quiet: QuietOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Find damaged files: what is lost with them, and the commands that make it again.

    Reads every file of the newest snapshot and of every locked dataset. Exits 1 when one is
    damaged.
    """
    from s2d_store.maintenance import report
    from s2d_store.maintenance.drop_damaged import drop_damaged as drop
    from s2d_store.maintenance.examine import examine
    from s2d_store.maintenance.repair_log import repair_logs

    opened = open_store(store)
    found = examine(opened, full=not quick, on_file=None if quiet else _show())
    patients = report.damaged_files(opened, found)
    suffix = "" if store == DEFAULT_STORE else f" --store {store}"
    print("\n".join(report.lines(opened, found, patients, suffix)))
    repairable = any("--drop-damaged" in fault for fault in found.faults)
    if drop_damaged and (repairable or any(p.damage.file.live for p in patients)):
        _confirm(patients, yes)
        for line in repair_logs(opened) if repairable else ():
            print(line)
        dropped = drop(opened, found.damages, lost=repairable)
        rows = ", ".join(f"{count:,} of {name}" for name, count in sorted(dropped.rows.items()))
        print(f"\n{dropped.files} files dropped from their tables; rows: {rows}")
        print("now run, in this order:")
        for line in report.commands(patients):
            print(f"  {report.for_store(line, suffix)}")
        return
    if not found.healthy:
        raise typer.Exit(1)


def _show() -> Callable[[int, int], None]:
    """Print how many files are examined, now and then."""
    from cli.progress import LINE_EVERY_S

    last = time.monotonic()

    def show(done: int, files: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            print(f"doctor {done}/{files} files", file=sys.stderr, flush=True)

    return show


def _confirm(patients: list[DamagedFile], yes: bool) -> None:
    from s2d_store.errors import InputError

    if yes:
        return
    rows = sum(p.damage.file.rows for p in patients if p.damage.file.live)
    try:
        agreed = typer.confirm(f"\ndrop them, {rows:,} rows in all?", err=True)
    except typer.Abort as error:
        raise InputError(
            "nobody answered whether to drop the damaged files",
            "nothing was dropped",
            "s2d doctor --drop-damaged --yes",
        ) from error
    if not agreed:
        raise typer.Exit(1)
