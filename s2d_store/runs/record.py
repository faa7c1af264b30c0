"""Runs: what ran, with its full configuration and code version, recorded as it begins and ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.config_identity import INVOCATION, diff_settings
from s2d_store.errors import BudgetError, InputError, NotFoundError, QueryError
from s2d_store.redact import redacted
from s2d_store.runs import invocation
from s2d_store.schema import TABLES
from s2d_store.shards import Shard
from s2d_store.store import Store
from s2d_store.version import __version__


class RunState(dict[str, Any]):
    """What a command tells of the run that it works on.

    Attributes:
        complete: false where other shards have work to do: the run stays `running`.
    """

    complete = True


@cache
def code_version() -> str:
    """Version of s2d, with the git commit when it runs from a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return __version__
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+g{described}"


@contextmanager
def record_run(
    store: Store,
    run_id: str,
    kind: str,
    config: Mapping[str, Any],
    parents: Sequence[str] = (),
    stage: str = "",
    defaults: Mapping[str, Any] | None = None,
    asked: Mapping[str, Any] | None = None,
    shard: Shard | None = None,
) -> Iterator[RunState]:
    """Hold the run's lock and record `running`, then `done`, `interrupted` or `failed`.

    A run that was killed stays `running`; the same command takes it up again. One that was done
    stays `done` when a later command of its name is refused for its input. The command line and the
    versions of the libraries loaded are recorded beside. Secrets are stored masked.

    The block is given a `RunState`: what it puts there is kept beside `asked` when it is done.

    Args:
        store: the store.
        run_id: the run.
        kind: generate, score, verify, train or round.
        config: the settings that decide its rows.
        parents: runs and datasets that it builds on.
        stage: stage of the experiment that budgets count its spending for; not its identity.
        defaults: those of `config`: see `s2d_store.config_identity`.
        asked: the command's other settings, such as which rows it chose, kept under INVOCATION.
        shard: the part of the run that this process does.

    Raises:
        StoreError: another process holds the run.
        InputError: the run exists with another configuration and holds something already.
    """
    config, command = redacted(dict(config)), invocation.current()
    made = RunState()
    with store.run_lock(run_id, shard):
        before, entered_at = _check_same(store, run_id, config, defaults)
        status = "failed"
        row = {
            "run_id": run_id,
            "kind": kind,
            "stage": stage or None,
            "recipe": command.recipe,
            "attempt": command.attempt,
            "argv": list(command.argv) if command.argv else None,
            "config": _noted(config, asked or {}),
            "code_version": code_version(),
            "parents": list(parents),
        }
        entered_at = _record(store, row, "running", entered_at)
        try:
            yield made
            row["config"] = _noted(config, {**(asked or {}), **made})
            status = "done" if made.complete else "running"
        except (KeyboardInterrupt, BudgetError):
            status = "interrupted"
            raise
        except (InputError, NotFoundError, QueryError):
            status = "done" if before == "done" else "failed"
            raise
        finally:
            if status != "running":
                _record(store, row, status, entered_at)


def _noted(config: Mapping[str, Any], beside: Mapping[str, Any]) -> str:
    """A run's settings as stored, and beside them what is no setting."""
    noted = {**config, INVOCATION: redacted(dict(beside))} if beside else config
    return json.dumps(noted, sort_keys=True)


def record_done(store: Store, runs: Sequence[Mapping[str, Any]]) -> None:
    """Enter runs as done in one commit, whose work another run had done.

    Args:
        store: the store.
        runs: of each `run_id`, `kind`, `stage`, `config`, `beside` and `parents`.
    """
    command, now = invocation.current(), datetime.now(UTC)
    rows = [
        {
            "run_id": run["run_id"],
            "kind": run["kind"],
            "stage": run["stage"],
            "recipe": command.recipe,
            "attempt": command.attempt,
            "argv": list(command.argv) if command.argv else None,
            "config": _noted(redacted(dict(run["config"])), run["beside"]),
            "code_version": code_version(),
            "parents": list(run["parents"]),
            "versions": json.dumps(invocation.versions(), sort_keys=True),
            "status": "done",
            "entered_at": now,
        }
        for run in runs
    ]
    store.commit({"runs": pa.Table.from_pylist(rows, schema=TABLES["runs"].schema)}, fresh=True)


def reopen(store: Store, run_id: str) -> None:
    """Enter `interrupted` for a run that was done and has lost rows: its command goes on with it.

    A run of another status, or none, stays as it is.
    """
    with store.run_lock(run_id):
        text = "SELECT * FROM raw.runs WHERE run_id = $run ORDER BY entered_at DESC LIMIT 1"
        (newest,) = store.sql(text, {"run": run_id}).to_arrow_table().to_pylist() or [None]
        if newest is not None and newest["status"] == "done":
            _record(store, newest, "interrupted", newest["entered_at"].astimezone(UTC))


def _check_same(
    store: Store, run_id: str, config: Mapping[str, Any], defaults: Mapping[str, Any] | None
) -> tuple[str, datetime | None]:
    """The status that the run has and when it was entered; empty and None for a new one."""
    text = "SELECT config, status, entered_at FROM runs WHERE run_id = $run"
    rows = store.sql(text, {"run": run_id}).fetchall()
    if not rows:
        return "", None
    found = diff_settings(json.loads(rows[0][0]), config, defaults)
    if found and not _is_empty(store, run_id):
        shown = "; ".join(f"{k}: stored {was!r}, now {now!r}" for k, (was, now) in found.items())
        raise InputError(
            f"run {run_id} exists with another configuration",
            shown,
            "repeat the stored settings to continue it, or pass another --run name",
        )
    return str(rows[0][1]), rows[0][2].astimezone(UTC)


def _is_empty(store: Store, run_id: str) -> bool:
    """Whether a run left nothing behind, as one that was refused before it began."""
    facts = " UNION ALL ".join(
        f"SELECT run_id FROM {name}" for name in ("rollouts", "rewards", "topk", "updates")
    )
    text = f"SELECT count(*) FROM ({facts}) WHERE run_id = $run"
    return bool(store.sql(text, {"run": run_id}).fetchall() == [(0,)])


def _record(store: Store, row: Mapping[str, Any], status: str, after: datetime | None) -> datetime:
    """Enter a status; returns when. The newest counts, so it comes after the one before even where
    the clock has gone back.
    """
    now = datetime.now(UTC)
    entered_at = now if after is None else max(now, after + timedelta(microseconds=1))
    # At a run's end, when every library that it needed is loaded.
    known = json.dumps(invocation.versions(), sort_keys=True)
    entered = {"versions": known, **row, "status": status, "entered_at": entered_at}
    table = pa.Table.from_pylist([entered], schema=TABLES["runs"].schema)
    store.commit({"runs": table}, fresh=True)
    return entered_at
