"""A table's Delta log: when each of its files was added, and when it was replaced.

Read from the JSON commits, which s2d never expires: a checkpoint names no version.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from s2d_store.errors import StoreError

_COMMIT = re.compile(r"[0-9]{20}\.json")


@dataclass(frozen=True)
class Life:
    """The versions that hold a file: from `added` on, and before `removed`.

    Attributes:
        size: bytes.
        added: first version that holds it.
        removed: first version that does not; None while the newest one does.
        removed_ms: when that was, in milliseconds since 1970; 0 while it is held.
    """

    size: int
    added: int
    removed: int | None = None
    removed_ms: int = 0

    def in_version(self, version: int) -> bool:
        """Whether a version of the table holds the file."""
        return self.added <= version and (self.removed is None or version < self.removed)


def lives(folder: Path) -> dict[str, Life]:
    """Every file that any version of a table held, by its path relative to `folder`.

    Raises:
        StoreError: commits are missing, so that a file in use could look like one that is not.
    """
    found: dict[str, Life] = {}
    commits = sorted(p for p in (folder / "_delta_log").iterdir() if _COMMIT.fullmatch(p.name))
    for version, commit in enumerate(commits):
        if int(commit.stem) != version:
            raise StoreError(
                f"the log of table {folder.name} lacks version {version}",
                "without it, files in use cannot be told from files that nobody needs",
                f"restore {folder / '_delta_log'} from a copy",
            )
        for line in commit.read_text().splitlines():
            _apply(found, version, json.loads(line))
    return found


def _apply(found: dict[str, Life], version: int, action: dict[str, dict[str, object]]) -> None:
    if add := action.get("add"):
        path = unquote(str(add["path"]))
        known = found.get(path, Life(int(str(add["size"])), version))
        found[path] = replace(known, removed=None, removed_ms=0)
    elif remove := action.get("remove"):
        path = unquote(str(remove["path"]))
        when = int(str(remove.get("deletionTimestamp") or 0))
        found[path] = replace(found[path], removed=version, removed_ms=when)
