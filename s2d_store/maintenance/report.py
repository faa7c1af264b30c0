"""What the doctor found, in words: file, rows, whose they were, what hangs on it, the repairing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deltalake.exceptions import DeltaError

from s2d_store.errors import S2DError
from s2d_store.maintenance.drop_damaged import without_damaged_files
from s2d_store.maintenance.examine import Damage, Report
from s2d_store.maintenance.repair_advice import Advisor
from s2d_store.sql import connection
from s2d_store.store import Store


@dataclass(frozen=True)
class DamagedFile:
    """A damaged file, whose rows it held, and the commands that make them again.

    Attributes:
        damage: the file and what is wrong with it.
        held: what is known of its rows, in words.
        hanging: rewards and scores that go with lost rollouts.
        commands: what to run once it is dropped, in order.
    """

    damage: Damage
    held: str
    hanging: int = 0
    commands: tuple[str, ...] = ()


def damaged_files(store: Store, report: Report) -> list[DamagedFile]:
    """Each damaged file with what is known of it."""
    advisor: Advisor | None = None
    try:
        snap = without_damaged_files(store.snapshot(), report.damages)
        advisor = Advisor(store, connection.connect_raw(store.root, snap.files))
    except (S2DError, DeltaError, OSError):
        pass  # a log cannot be read, which the report says; without it there is no advice
    return [_damaged_file(advisor, damage) for damage in report.damages]


def _damaged_file(advisor: Advisor | None, damage: Damage) -> DamagedFile:
    file = damage.file
    if file.dataset:
        return DamagedFile(damage, "", commands=(f"s2d dataset restore {file.dataset}",))
    restores = [f"s2d dataset restore {name}" for name in file.pinned_by]
    if advisor is None or file.live is None:
        return DamagedFile(damage, "", commands=tuple(restores))
    held = advisor.held(file)
    again, rows = advisor.commands(file, held), 0
    if file.table == "rollouts":
        for command, count in advisor.hanging():
            rows += count
            again += [command] if command and command not in again else []
    return DamagedFile(damage, advisor.describe(file, held), rows, tuple([*again, *restores]))


def commands(found: Sequence[DamagedFile]) -> list[str]:
    """The commands of all, each once: what makes rows first, what is built from them last."""
    order = [
        "prompts",
        "policies",
        "run",
        "generate",
        "eval",
        "verify",
        "score",
        "train",
        "dataset",
    ]
    every = dict.fromkeys(command for patient in found for command in patient.commands)
    rank = {name: i for i, name in enumerate(order)}
    return sorted(every, key=lambda command: rank.get(command.split()[1], 0))


def lines(store: Store, report: Report, found: Sequence[DamagedFile], suffix: str) -> Iterator[str]:
    """The report as lines of text.

    Args:
        store: the store.
        report: what `examine` found.
        found: its `patients`.
        suffix: options that each command needs to reach this store.
    """
    depth = "read whole" if report.full else "sizes and footers only"
    yield f"store {store.root}: {report.files} files, {report.bytes:,} bytes, {depth}"
    for patient in found:
        yield from _file_lines(patient, suffix)
    for fault in report.faults:
        yield f"\ndamaged: {fault}"
    if report.unsealed:
        yield (
            f"{report.unsealed} files were written without a hash: a flipped bit can hide in them"
        )
    if report.healthy:
        yield "nothing is damaged"
    else:
        yield f"\n{len(found) + len(report.faults)} damaged"


def _file_lines(patient: DamagedFile, suffix: str) -> Iterator[str]:
    file = patient.damage.file
    yield f"\ndamaged: {file.name}"
    yield f"  what: {patient.damage.what}"
    if file.dataset:
        yield f"  rows: {file.rows:,} of locked dataset {file.dataset}"
    else:
        held = f": {patient.held}" if patient.held else ""
        older = "" if file.live else ", in no current version"
        yield f"  rows: {file.rows:,} of table {file.table}{older}{held}"
    if patient.hanging:
        yield f"  with them: {patient.hanging:,} rewards and scores of these rollouts"
    if file.pinned_by:
        yield (
            f"  locks: {', '.join(file.pinned_by)} cannot be rebuilt from the versions pinned; "
            "their own files are checked apart"
        )
    steps = list(patient.commands)
    if file.live:
        steps.insert(0, "s2d doctor --drop-damaged")
    for i, step in enumerate(steps):
        yield f"  {'repair: ' if i == 0 else '      '}{for_store(step, suffix)}"


def for_store(command: str, suffix: str) -> str:
    """A command with the options that it needs to reach this store; a recipe names its own."""
    return command if command.startswith("s2d run ") else f"{command}{suffix}"
