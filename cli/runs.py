"""s2d runs and s2d watch: what ran, for how long, how it ended; as it stands or as it goes on."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_STORE, FormatOption, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.store import Store

_COLUMNS = ["run", "kind", "stage", "status", "began", "lasted", "stored"]
_WATCHED = 12
StageOption = Annotated[str, typer.Option("--stage", help="Runs of this stage alone.")]


def runs(
    kind: Annotated[
        str,
        typer.Option(
            help="Runs of this kind alone; default: all but rounds, which hold the others.",
            metavar="generate|verify|score|train|round",
        ),
    ] = "",
    stage: StageOption = "",
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="The newest; 0: all.")] = 30,
    format_: FormatOption = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show what ran, for how long, how it ended, and how many rows it stored; the newest first.

    A run that says it is running and whose process is gone is shown as stopped: its command goes
    on with it.
    """
    from cli.output import check_format, print_rows

    check_format(format_)
    rows = _rows(open_store(store), kind, stage)
    shown = rows[:last] if last else rows
    print_rows(_COLUMNS, [_row(row, format_) for row in shown], format_)
    if format_ == "table" and len(shown) < len(rows):
        print(f"{len(shown)} of {len(rows)} runs; --last 0 shows all")


def watch(
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    times: Annotated[int, typer.Option(min=0, help="Looks to take; 0: until Ctrl-C.")] = 0,
    stage: StageOption = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Look at a store again and again: runs, rows, and how training stands. It only reads."""
    opened = open_store(store)
    look = 0
    while True:
        look += 1
        if sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        _print_look(opened, stage)
        sys.stdout.flush()
        if look == times:
            return
        time.sleep(every)


def _print_look(store: Store, stage: str) -> None:
    from cli.output import print_rows
    from s2d_store.tables import snapshot

    counts = {name: snapshot.n_rows(store.root, name) for name in ("rollouts", "rewards", "topk")}
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    print(f"{datetime.now(UTC):%H:%M:%S} UTC, {store.root}: {told}")
    rows = _rows(store, "", stage)[:_WATCHED]
    print_rows(_COLUMNS, [_row(row, "table") for row in rows])
    trained = [row for row in rows if row["kind"] == "train" and row["stored"]]
    if trained:
        curve = store.query("training", run=trained[0]["run_id"])
        columns = ["update", "loss", "kl", "entropy", "grad_norm", "lr", "seconds"]
        newest = curve.select(*columns).fetchall()[-3:]
        print(f"\n{trained[0]['run_id']}")
        print_rows(columns, newest)


def _rows(store: Store, kind: str, stage: str) -> list[dict[str, Any]]:
    """Runs as the store has them, those whose process is gone with status `stopped`."""
    import queries
    from s2d_store.sql import connection

    text = queries.internal("runs_listed")
    now = datetime.now(UTC).replace(tzinfo=None)
    values = {"kind": kind or None, "stage": stage or None, "now": now}
    with connection.errors():
        found = store.connect(text=text).sql(text, params=values)
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    for row in rows:
        if row["status"] == "running" and not _is_alive(store, row["run_id"]):
            row.update(status="stopped", seconds=None)
    return rows


def _is_alive(store: Store, run_id: str) -> bool:
    """Whether a process holds the run's lock, or a shard's."""
    from s2d_store.errors import StoreError

    try:
        with store.exclusive(run_id, StoreError(f"run {run_id} is at work")):
            return False
    except StoreError:
        return True


def _row(row: dict[str, Any], form: str) -> tuple[Any, ...]:
    seconds = row["seconds"]
    lasted = seconds if form != "table" else None if seconds is None else duration(seconds)
    began = row["started_at"]
    return (
        row["run_id"], row["kind"], row["stage"], row["status"],
        f"{began:%Y-%m-%d %H:%M:%S}", lasted, row["stored"],
    )  # fmt: skip


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 4.2 s, 3:05, 2:03:05."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
