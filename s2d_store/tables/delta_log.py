"""A table's Delta log: when each of its files was added, and when it was replaced.

Read from the JSON commits, which s2d never expires: a checkpoint names no version.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from s2d_store.errors import StoreError
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place

_COMMIT = re.compile(r"[0-9]{20}\.json")


@dataclass(frozen=True)
class FileLifetime:
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


def file_lifetimes(folder: Place) -> dict[str, FileLifetime]:
    """Every file that any version of a table held, by its path relative to `folder`.

    Raises:
        StoreError: commits are missing, so that a file in use could look like one that is not.
    """
    found: dict[str, FileLifetime] = {}
    log = backend_of(folder).list_files(folder / "_delta_log")
    commits = [file.path for file in log if _COMMIT.fullmatch(file.relative)]
    _require_whole(folder, [int(commit.stem) for commit in commits])
    for version, text in enumerate(_texts(commits)):
        for line in text.splitlines():
            _apply(found, version, json.loads(line))
    return found


def added_after(folder: Place, version: int) -> tuple[int, set[str]]:
    """The newest version, and every file that the versions after `version` added.

    Raises:
        StoreError: commits are missing.
    """
    log = folder / "_delta_log"
    found = listed(folder, version + 1)
    if not found and version >= 0:
        return version, set()
    _require_whole(folder, found, version + 1)
    texts = _texts([log / f"{number:020d}.json" for number in found])
    actions = (json.loads(line) for text in texts for line in text.splitlines())
    return found[-1], {unquote(str(a["add"]["path"])) for a in actions if "add" in a}


def versions(folder: Place, first: int = 0) -> list[int]:
    """The versions of a table from `first` on, without a gap.

    Raises:
        StoreError: commits are missing.
    """
    found = listed(folder, first)
    _require_whole(folder, found, first)
    return found


def listed(folder: Place, first: int = 0) -> list[int]:
    """The versions of a table from `first` on, as they lie there."""
    log = folder / "_delta_log"
    names = backend_of(log).names(log, after=f"{first:020d}")
    found = sorted(int(name[:20]) for name in names if _COMMIT.fullmatch(name))
    return found[bisect_left(found, first) :]


def last_checkpoint(folder: Place) -> int:
    """The version at which readers of a table begin; -1 where none is named, legibly."""
    try:
        return int(json.loads((folder / "_delta_log" / "_last_checkpoint").read_text())["version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a hint: power loss can tear it
        return -1


def _require_whole(folder: Place, found: Sequence[int], first: int = 0) -> None:
    missing = next((v for v, there in enumerate(found, first) if v != there), None)
    if missing is not None or not found:
        raise StoreError(
            f"the log of table {folder.name} lacks version {first if missing is None else missing}",
            "without it, nobody knows which files the table has",
            f"restore {folder / '_delta_log'} from a copy",
        )


def _texts(commits: Sequence[Place]) -> Iterator[str]:
    """The commits' texts in order."""
    if commits:
        yield from (data.decode() for data in backend_of(commits[0]).read_all(commits))


def _apply(
    found: dict[str, FileLifetime], version: int, action: dict[str, dict[str, object]]
) -> None:
    if add := action.get("add"):
        path = unquote(str(add["path"]))
        known = found.get(path, FileLifetime(int(str(add["size"])), version))
        found[path] = replace(known, removed=None, removed_ms=0)
    elif remove := action.get("remove"):
        path = unquote(str(remove["path"]))
        when = int(str(remove.get("deletionTimestamp") or 0))
        found[path] = replace(found[path], removed=version, removed_ms=when)
