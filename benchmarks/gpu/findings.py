"""What a check has found: figures, failures and what it left out, kept as they come.

They are written line by line to a file, so that a check which is killed at its time limit keeps
what it had measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Findings:
    """A check's findings.

    Attributes:
        figures: what was measured, as (what, value with its unit).
        wrong: what does not hold; a check passes where there is none.
        skipped: what could not be measured, with the reason.
    """

    figures: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class Recorder:
    """Writes a check's findings to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def figure(self, name: str, value: str) -> None:
        """Keep a figure."""
        self._write("figures", (name, value))

    def require(self, holds: bool, what: str) -> None:
        """Keep a failure, unless `what` holds."""
        if not holds:
            self._write("wrong", what)

    def skip(self, why: str) -> None:
        """Say what was left out, and why."""
        self._write("skipped", why)

    def _write(self, kind: str, value: object) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([kind, value]) + "\n")


def read(path: Path) -> Findings:
    """The findings in a recorder's file; none where there is no file."""
    found = Findings()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        kind, value = json.loads(line)
        getattr(found, kind).append(tuple(value) if kind == "figures" else value)
    return found
