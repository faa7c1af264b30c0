"""`updates.jsonl`: one line per optimizer update, written as it happens."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class UpdatesLog:
    """Append-only log of a run's updates, cut back to where the run resumes.

    Args:
        path: the file; created when missing.
        resumed_update: lines of later updates are dropped, as is a line that a kill cut short.
    """

    def __init__(self, path: Path, resumed_update: int) -> None:
        kept = [line for line in _lines(path) if json.loads(line)["update"] <= resumed_update]
        scratch = path.with_name(path.name + ".new")
        scratch.write_bytes(b"".join(kept))
        scratch.replace(path)
        self._file = path.open("ab")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line; a killed process does not lose it."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Make the lines outlive the machine; called before a checkpoint claims their updates."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> UpdatesLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _lines(path: Path) -> list[bytes]:
    """Complete lines of the file; a cut-off last line has no newline."""
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
