"""Sweep what nobody needs: files that killed writers left and, past an age, compacted ones.

Files of the versions that a locked dataset pins stay, however old.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from s2d_store import journal, live, log
from s2d_store.datasets.locks import built, read_lock
from s2d_store.errors import InputError
from s2d_store.log import Life
from s2d_store.schema import TABLES
from s2d_store.snapshot import table_path
from s2d_store.store import Store, writing

# A live writer may have written a file that it has not committed yet, and a reader that opened its
# snapshot before a compaction reads the files that this replaced.
GRACE_S = 3600.0
UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class Kept:
    """Files old enough to go, and their bytes, that stay for a locked dataset."""

    dataset: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Swept:
    """What went, or in a dry run would go.

    Attributes:
        recovered: unfinished commits that were completed.
        files: files that nobody committed.
        bytes: their size.
        replaced_files: files that a compaction replaced.
        replaced_bytes: their size.
        checkpoint_bytes: size of log checkpoints that nothing begins to read from.
        kept: what stays, by locked dataset that pins any; one file may be pinned by several.
        busy: somebody was writing, so files that nobody committed were left alone.
    """

    recovered: int
    files: int
    bytes: int
    replaced_files: int = 0
    replaced_bytes: int = 0
    checkpoint_bytes: int = 0
    kept: tuple[Kept, ...] = ()
    busy: bool = False


def vacuum(
    store: Store,
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    older_than_s: float | None = None,
) -> Swept:
    """Complete dead writers' commits, then remove files that nobody needs.

    Args:
        store: the store.
        dry_run: change nothing.
        grace_s: seconds since its last change after which an uncommitted file is nobody's.
        older_than_s: seconds since its replacement after which a compacted file goes, unless a
            locked dataset pins a version that holds it; None keeps all. Older versions and
            readers that opened one can be read no longer.

    Raises:
        DatasetError: a lock cannot be read, so that nobody knows what it pins.
        StoreError: a table's log is not whole.
    """
    if dry_run:
        return _vacuum(store, True, True, grace_s, older_than_s)
    with writing(store.root), live.no_writer(store.root) as quiet:
        return _vacuum(store, False, quiet, grace_s, older_than_s)


def _vacuum(
    store: Store, dry_run: bool, quiet: bool, grace_s: float, older_than_s: float | None
) -> Swept:
    recovered = 0 if dry_run else journal.recover(store.root)
    # Before the logs: an entry that goes between the two is in them.
    pending = _pending(store.root)
    lives = {name: log.lives(table_path(store.root, name)) for name in TABLES}
    now = time.time()
    # An age alone would not do: where the clock jumps, a file of this minute looks old.
    found = _orphans(store.root, lives, pending) if quiet else ()
    orphans = [path for path in found if _age(path, now) > grace_s]
    replaced: list[Path] = []
    checkpoints: list[Path] = []
    kept: tuple[Kept, ...] = ()
    if older_than_s is not None:
        old = _replaced_before(store.root, lives, now - older_than_s)
        locks = [read_lock(store, name) for name in built(store)]
        checkpoints = [
            path
            for name in TABLES
            for path in _superseded(
                table_path(store.root, name), [lock["versions"].get(name, 0) for lock in locks]
            )
            if _age(path, now) > older_than_s
        ]
        kept = tuple(_kept(lock["name"], old, lock["versions"]) for lock in locks)
        replaced = [
            path
            for path, table, life in old
            if not any(_pins(lock["versions"], table, life) for lock in locks)
        ]
    sizes = [sum(map(_size, paths)) for paths in (orphans, replaced, checkpoints)]
    if not dry_run:
        for path in orphans + replaced + checkpoints:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Swept(
        recovered,
        len(orphans),
        sizes[0],
        len(replaced),
        sizes[1],
        sizes[2],
        tuple(entry for entry in kept if entry.files),
        not quiet,
    )


def parse_age(text: str) -> float:
    """Seconds of an age such as 7d, 12h or 2w.

    Raises:
        InputError: it is no age, or shorter than what a reader or writer may take.
    """
    units = ", ".join(UNITS_S)
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)([{''.join(UNITS_S)}])", text.strip())
    if not match:
        raise InputError(
            f"--older-than {text!r} is no age",
            f"an age is a number and one of {units} (minutes, hours, days, weeks)",
            "--older-than 7d",
        )
    age_s = float(match[1]) * UNITS_S[match[2]]
    if age_s < GRACE_S:
        raise InputError(
            f"--older-than {text} is too short",
            "whoever began to read before a compaction still needs the files that it replaced",
            "--older-than 1h at least; longer than any query or build takes",
        )
    return age_s


Replaced = tuple[Path, str, Life]


def _replaced_before(
    root: Path, lives: Mapping[str, Mapping[str, Life]], moment: float
) -> list[Replaced]:
    """Files, still on disk, that the newest version has not held since `moment`."""
    found = []
    for table, files in lives.items():
        for relative, life in files.items():
            path = table_path(root, table) / relative
            if life.removed is not None and life.removed_ms < moment * 1000 and path.exists():
                found.append((path, table, life))
    return found


def _pins(versions: Mapping[str, int], table: str, life: Life) -> bool:
    """Whether one of these table versions holds the file."""
    return table in versions and life.in_version(versions[table])


def _kept(dataset: str, old: Sequence[Replaced], versions: Mapping[str, int]) -> Kept:
    mine = [life.size for _, table, life in old if _pins(versions, table, life)]
    return Kept(dataset, len(mine), sum(mine))


def _superseded(folder: Path, pinned: Sequence[int]) -> list[Path]:
    """Checkpoints from which neither the newest nor a pinned version is read.

    Each lists every file of the table, so a log of n commits holds of the order of n^2 entries.
    Any version can still be read, from an earlier checkpoint or the first commit.
    """
    log_folder = folder / "_delta_log"
    found = {int(p.name[:20]): p for p in log_folder.glob("*.checkpoint.parquet")}
    if not found:
        return []
    needed = {max((v for v in found if v <= version), default=-1) for version in pinned}
    # Of two writers, the slower may have named an older one as the last.
    needed |= {max(found), _last_checkpoint(log_folder)}
    return [path for version, path in found.items() if version not in needed]


def _last_checkpoint(log_folder: Path) -> int:
    """The version at which readers begin; -1 where none is named."""
    try:
        return int(json.loads((log_folder / "_last_checkpoint").read_text())["version"])
    except FileNotFoundError:
        return -1


def _pending(root: Path) -> set[tuple[str, str]]:
    """Table and path of each file whose commit is under way."""
    found = set()
    for entry in (root / "pending").glob("*.json"):
        with suppress(FileNotFoundError):  # finished meanwhile
            found |= {(file["table"], file["path"]) for file in json.loads(entry.read_text())}
    return found


def _orphans(
    root: Path, lives: Mapping[str, Mapping[str, Life]], pending: Set[tuple[str, str]]
) -> Iterator[Path]:
    """Drafts, and Parquet files that no version ever held and no commit under way is adding."""
    yield from (root / "datasets").glob(".*.draft")
    yield from (root / "pending").glob("*.draft")
    for table, known in lives.items():
        folder = table_path(root, table)
        for path in folder.rglob("*.parquet"):
            relative = path.relative_to(folder)
            is_log = "_delta_log" in relative.parts
            file = relative.as_posix()
            if not is_log and file not in known and (table, file) not in pending:
                yield path


def _age(path: Path, now: float) -> float:
    """Seconds since a file or folder changed; negative if it is gone meanwhile."""
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return -math.inf


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
