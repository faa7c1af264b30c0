"""From the spool into the store: each file is committed, then deleted. Once more adds nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import queries
from s2d_store.capture import spool
from s2d_store.capture.records import IMPORTER, records
from s2d_store.capture.settings import Stored
from s2d_store.errors import InputError, NotFoundError, S2DError, StoreError
from s2d_store.importers import files
from s2d_store.importers.import_dump import table_of
from s2d_store.importers.policies import Policies, safe_name
from s2d_store.importers.prompts import Prompts
from s2d_store.importers.record import Record, Reject
from s2d_store.importers.rows import Rows
from s2d_store.importers.settings import ImportConfig
from s2d_store.runs import record
from s2d_store.store import Store

PAUSE_S = 0.5


@dataclass
class Drained:
    """What was stored: rollouts that are new, and exchanges that cannot be held."""

    rollouts: int = 0
    refused: int = 0


@dataclass
class _Run:
    """A run that is open: its settings, the rollouts that it has, each group's next place."""

    identity: Mapping[str, Any]
    stored: set[int]
    sizes: dict[str, int]


@dataclass
class Storer:
    """Stores spool files; holds the runs that it has written to until it is closed."""

    store: Store
    folder: Path
    done: Drained = field(default_factory=Drained)
    _runs: dict[str, _Run] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Storer:
        busy = StoreError(
            "another process stores what was captured",
            "a store's spool is emptied by one at a time",
            "wait for it; what is in the spool is safe",
        )
        self._open.enter_context(self.store.exclusive(".capture", busy))
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def drain(self) -> None:
        """Store every file that is ready.

        Raises:
            StoreError: the store cannot be written, or another process holds a run; files that are
                not stored stay in the spool.
        """
        for path in spool.ready(self.folder):
            self._file(path)

    def _file(self, path: Path) -> None:
        """Commit one file's rollouts, keep what is refused, then delete it; a file with a line that
        cannot be read stays, under another name.
        """
        rows: dict[tuple[str, Stored], Rows] = {}
        refused: list[bytes] = []
        is_torn = False
        for line in files.json_lines(path, path.name):
            is_torn |= isinstance(line, Reject)
            reject = line if isinstance(line, Reject) else self._add(line, rows)
            if reject is not None:
                why = f"{reject.reason}: {reject.detail}" if reject.detail else reject.reason
                told = {} if isinstance(line, Reject) else line.value
                text = json.dumps({"refused": why, **told}, ensure_ascii=False)
                refused.append(text.encode() + b"\n")
        for found in rows.values():
            tables = {name: table_of(name, new) for name, new in found.take().items() if new}
            if tables:
                self.done.rollouts += self.store.commit(tables).get("rollouts", 0)
        if refused:
            spool.refuse(self.folder, refused)
            self.done.refused += len(refused)
        if is_torn:
            path.rename(path.with_suffix(spool.TORN))
        else:
            path.unlink()

    def _add(self, line: files.Line, rows: dict[tuple[str, Stored], Rows]) -> Reject | None:
        """Take an exchange, or say why none of it can be held."""
        made = list(files.made(line, _read))
        for item in made:
            if isinstance(item, Reject):
                return item
        try:
            stored = Stored(**line.value["stored"])
            key = (safe_name(line.value["run"] or stored.default_run()), stored)
            if key not in rows:
                rows[key] = self._rows(*key)
        except (InputError, NotFoundError) as error:
            return Reject(line.file, line.number, error.what, error.why)
        except files.OTHER_SHAPE as error:
            return Reject(line.file, line.number, "not an exchange of this version", str(error))
        for item in made:
            assert isinstance(item, Record)
            reject = rows[key].add(item)
            if reject is not None:
                return reject
        return None

    def _rows(self, run: str, stored: Stored) -> Rows:
        opened = self._run(run, stored)
        config = ImportConfig(
            format=IMPORTER.name, paths=(), policy=stored.policy, role=stored.role
        )
        policies = Policies.of(self.store, stored.policy, {})
        prompts = Prompts(stored.source, stored.split, None)
        rows = Rows(IMPORTER, config, run, policies, prompts, None, opened.stored, opened.sizes)
        rows.origin = "captured"
        return rows

    def _run(self, run: str, stored: Stored) -> _Run:
        """A run's record is entered once, and ends with this storer."""
        identity = stored.identity()
        if run not in self._runs:
            self._open.enter_context(record.record_run(self.store, run, "capture", identity))
            self._runs[run] = self._known(run, identity)
        if self._runs[run].identity != identity:
            raise InputError(
                f"run {run} was captured with other settings", "a run has one role and policy"
            )
        return self._runs[run]

    def _known(self, run: str, identity: Mapping[str, Any]) -> _Run:
        made = _Run(identity, set(), {})
        text = queries.internal("captured_of_run")
        for rollout, group, index in self.store.sql(text, {"run": run}).fetchall():
            made.stored.add(int(rollout, 16))
            made.sizes[group] = max(made.sizes.get(group, 0), index + 1)
        return made


def _read(line: files.Line) -> Iterator[Record]:
    return records(line)


def drain(store: Store, folder: Path) -> Drained:
    """Store what a spool holds.

    Raises:
        StoreError: the store cannot be written, or another process is at it; the spool keeps what
            is not stored.
    """
    with Storer(store, folder) as storer:
        storer.drain()
    return storer.done


def follow(root: str, folder: str, ended: Connection) -> None:
    """Store what comes into a spool until the other end of a pipe is closed, as by a process that
    is gone.

    The body of a process of its own, so that storing never holds up a request. What goes wrong is
    said once, and tried again: this is the boundary at which an error becomes a line.
    """
    told, last = "", False
    while not last:
        try:
            with Storer(Store.open(root), Path(folder)) as storer:
                while not last:
                    # Asked before the last turn, which then sees whatever came before the end.
                    last = ended.poll()
                    storer.drain()
                    told = ""
                    if not last:
                        ended.poll(PAUSE_S)
        except (S2DError, OSError) as error:
            if str(error) != told:
                told = str(error)
                text = f"s2d capture: not stored yet, kept in {folder}: {told}"
                print(text, file=sys.stderr, flush=True)
            last = last or ended.poll()
            if not last:
                time.sleep(PAUSE_S)
