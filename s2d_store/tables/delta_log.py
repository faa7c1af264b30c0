"""A table's Delta log: its commits, and when each file was added and replaced.

Read from the JSON commits, which s2d never expires: a checkpoint names no version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import unquote

from s2d_store.errors import StoreError
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import log_entry
from s2d_store.tables.log_entry import Action

_NAME = re.compile(r"([0-9]{20})(\.json|\.checkpoint\.parquet)")


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


def commit_path(folder: Place, version: int) -> Place:
    """Where the commit of a version lies."""
    return folder / "_delta_log" / f"{version:020d}.json"


def listing(folder: Place, first: int = 0) -> tuple[list[int], list[int]]:
    """The versions from `first` on that have a commit, and those that have a checkpoint, sorted."""
    log = folder / "_delta_log"
    commits: list[int] = []
    checkpoints: list[int] = []
    for name in backend_of(log).names(log, after=f"{first:020d}"):
        if found := _NAME.fullmatch(name):
            (commits if found[2] == ".json" else checkpoints).append(int(found[1]))
    return sorted(commits), sorted(checkpoints)


def after(folder: Place, version: int) -> list[int]:
    """The versions that come after one, without a gap; those beyond a gap are not looked at."""
    return backend_of(folder).consecutive(folder / "_delta_log", "{:020d}.json", version + 1)


def versions(folder: Place) -> list[int]:
    """The versions of a table, without a gap.

    Raises:
        StoreError: commits are missing.
    """
    found, _ = listing(folder)
    missing = next((v for v, there in enumerate(found) if v != there), None)
    if missing is not None or not found:
        raise missing_error(folder, missing or 0)
    return found


def read_commits(folder: Place, wanted: Iterable[int]) -> list[tuple[int, list[Action]]]:
    """The actions of some versions, each commit checked.

    Raises:
        StoreError: one is torn, changed, or uses what s2d does not.
        OSError: one cannot be read.
    """
    numbers = list(wanted)
    paths = [commit_path(folder, number) for number in numbers]
    texts = backend_of(folder).read_all(paths) if paths else ()
    return [
        (number, log_entry.parse(folder.name, number, data))
        for number, data in zip(numbers, texts, strict=True)
    ]


def file_lifetimes(folder: Place) -> dict[str, FileLifetime]:
    """Every file that any version of a table held, by its path relative to `folder`.

    Raises:
        StoreError: commits are missing or damaged, so that a file in use could look like one that
            is not.
    """
    found: dict[str, FileLifetime] = {}
    for version, actions in read_commits(folder, versions(folder)):
        for action in actions:
            _apply(found, version, action)
    return found


def added_after(folder: Place, version: int) -> tuple[int, set[str]]:
    """The newest version, and every file that the versions after `version` added.

    Raises:
        StoreError: commits are missing or damaged.
    """
    numbers = versions(folder) if version < 0 else after(folder, version)
    if not numbers:
        return version, set()
    commits = read_commits(folder, numbers)
    adds = (action["add"] for _, actions in commits for action in actions if "add" in action)
    return numbers[-1], {unquote(str(add["path"])) for add in adds}


def version_at(folder: Place, moment: datetime) -> int:
    """The newest version whose commit says that it is not younger than a moment; else the first.

    Raises:
        StoreError: commits are missing or damaged.
    """
    newest = 0
    for version, actions in read_commits(folder, versions(folder)):
        for action in actions:
            when = action.get("commitInfo", {}).get("timestamp")
            if when is not None and datetime.fromtimestamp(when / 1000, UTC) <= moment:
                newest = version
    return newest


def missing_error(folder: Place, version: int) -> StoreError:
    """The error for a log that lacks a version."""
    return StoreError(
        f"the log of table {folder.name} lacks version {version}",
        "without it, nobody knows which files the table has",
        f"on a network disk, whose listings may be a minute old, try again; else restore "
        f"{folder / '_delta_log'} from a copy",
    )


def _apply(found: dict[str, FileLifetime], version: int, action: Action) -> None:
    if add := action.get("add"):
        path = unquote(str(add["path"]))
        known = found.get(path, FileLifetime(int(add["size"]), version))
        found[path] = replace(known, removed=None, removed_ms=0)
    elif remove := action.get("remove"):
        path = unquote(str(remove["path"]))
        when = int(remove.get("deletionTimestamp") or 0)
        # One that was added by a commit that is lost: no version that can be read holds it.
        known = found.get(path, FileLifetime(int(remove.get("size") or 0), version))
        found[path] = replace(known, removed=version, removed_ms=when)
