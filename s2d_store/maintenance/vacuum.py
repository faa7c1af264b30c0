"""Sweep what nobody needs: files that killed writers left and, past an age, compacted ones.

Files of the versions that a locked dataset pins stay, however old.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from s2d_store.datasets.lock_file import list_built, read_lock
from s2d_store.errors import InputError
from s2d_store.maintenance import log_health
from s2d_store.schema import TABLES
from s2d_store.storage import content_hash, fault_points
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import FileInfo, Place
from s2d_store.store import Store
from s2d_store.tables import (
    checkpoint_file,
    delta_commit,
    delta_log,
    journal,
    migrated_files,
    trash,
)
from s2d_store.tables.delta_log import FileLifetime
from s2d_store.tables.snapshot import table_path

# A live writer may have written a file that it has not committed yet, and a reader that opened its
# snapshot before a compaction reads the files that this replaced.
GRACE_S = 3600.0
_CHECKPOINT = ".checkpoint.parquet"
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
        trashed: those of `files` that are whole, which no commit names: they went to `trash/`.
        emptied: files that had been in the trash for a week.
        emptied_bytes: their size.
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
    trashed: int = 0
    emptied: int = 0
    emptied_bytes: int = 0


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
    with disk_errors(store.root), store.backend.try_block_writers(store.root) as quiet:
        return _vacuum(store, False, quiet, grace_s, older_than_s)


def _vacuum(
    store: Store, dry_run: bool, quiet: bool, grace_s: float, older_than_s: float | None
) -> Swept:
    recovered = 0 if dry_run else journal.recover(store.root)
    # Before the logs: an entry that goes between the two is in them.
    pending = journal.pending_files(store.root)
    lives = {name: _lifetimes(table_path(store.root, name)) for name in TABLES}
    there = {name: store.backend.list_files(table_path(store.root, name)) for name in TABLES}
    now = store.backend.storage_time(store.root)
    # An age alone would not do: where the clock jumps, a file of this minute looks old.
    found = _orphans(store, lives, there, pending) if quiet else ()
    orphans = [file for file in found if now - file.modified > grace_s]
    replaced: list[FileInfo] = []
    checkpoints: list[FileInfo] = []
    kept: tuple[Kept, ...] = ()
    if older_than_s is not None:
        old = _replaced_before(lives, there, now - older_than_s)
        locks = [read_lock(store, name) for name in list_built(store)]
        checkpoints = [
            file
            for name in TABLES
            for file in _superseded(
                table_path(store.root, name),
                there[name],
                [lock["versions"].get(name, 0) for lock in locks],
            )
            if now - file.modified > older_than_s
        ]
        kept = tuple(_kept(lock["name"], old, lock["versions"]) for lock in locks)
        replaced = [
            file
            for file, table, life in old
            if not any(_pins(lock["versions"], table, life) for lock in locks)
        ]
    sizes = [sum(file.size for file in files) for files in (orphans, replaced, checkpoints)]
    emptied = trash.old_files(store.root, now)
    # A file with its hash in its name is whole. If no commit names it, either a writer died before
    # it committed, or a log has lost it: nobody can tell, so it can be had back for a while.
    whole = [file for file in orphans if content_hash.hash_in_name(file.relative)]
    if not dry_run:
        _block_late_commits(store, orphans)
        for file in whole:
            fault_points.reach("discard file")
            trash.discard(store.root, file.path)
        kept_there = {file.path for file in whole}
        for file in [*orphans, *replaced, *checkpoints, *emptied]:
            if file.path not in kept_there:
                fault_points.reach("remove file")
                store.backend.remove(file.path)
        for name in TABLES:
            _mend_checkpoints(table_path(store.root, name), lives[name])
    return Swept(
        recovered,
        len(orphans),
        sizes[0],
        len(replaced),
        sizes[1],
        sizes[2],
        tuple(entry for entry in kept if entry.files),
        not quiet,
        len(whole),
        len(emptied),
        sum(file.size for file in emptied),
    )


def _mend_checkpoints(folder: Place, lives: Mapping[str, FileLifetime]) -> None:
    """Make torn checkpoints, and a torn hint, anew from the commits."""
    torn = log_health.torn_checkpoints(folder, lives)
    if torn:
        checkpoint_file.remove(folder, torn)
        delta_commit.checkpoint(folder)


def _block_late_commits(store: Store, orphans: Sequence[FileInfo]) -> None:
    """Let nobody commit a file that is about to go: on an object store, a compaction that slept and
    was taken for dead wakes up to find its version taken.
    """
    folders = (
        [table_path(store.root, name) for name in TABLES] if store.backend.late_writers else []
    )
    for folder in folders:
        if any(str(file.path).startswith(f"{folder}/") for file in orphans):
            while not delta_commit.commit(folder, delta_commit.newest(folder) + 1, [], "VACUUM"):
                pass


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


def _lifetimes(folder: Place) -> Mapping[str, FileLifetime]:
    return migrated_files.lifetimes(delta_log.file_lifetimes(folder), migrated_files.read(folder))


Replaced = tuple[FileInfo, str, FileLifetime]


def _replaced_before(
    lives: Mapping[str, Mapping[str, FileLifetime]],
    there: Mapping[str, Sequence[FileInfo]],
    moment: float,
) -> list[Replaced]:
    """Files, still there, that the newest version has not held since `moment`."""
    found = []
    for table, files in there.items():
        for file in files:
            life = lives[table].get(file.relative)
            if life and life.removed is not None and life.removed_ms < moment * 1000:
                found.append((file, table, life))
    return found


def _pins(versions: Mapping[str, int], table: str, life: FileLifetime) -> bool:
    """Whether one of these table versions holds the file."""
    return table in versions and life.in_version(versions[table])


def _kept(dataset: str, old: Sequence[Replaced], versions: Mapping[str, int]) -> Kept:
    mine = [life.size for _, table, life in old if _pins(versions, table, life)]
    return Kept(dataset, len(mine), sum(mine))


def _superseded(folder: Place, files: Sequence[FileInfo], pinned: Sequence[int]) -> list[FileInfo]:
    """Checkpoints from which neither the newest nor a pinned version is read.

    Each lists every file of the table, so a log of n commits holds of the order of n^2 entries.
    Any version can still be read, from an earlier checkpoint or the first commit.
    """
    found = {
        int(file.path.name[:20]): file
        for file in files
        if file.relative.startswith("_delta_log/") and file.relative.endswith(_CHECKPOINT)
    }
    if not found:
        return []
    needed = {max((v for v in found if v <= version), default=-1) for version in pinned}
    # Of two writers, the slower may have named an older one as the last.
    hint = checkpoint_file.hint(folder)
    needed |= {max(found), hint.version if hint else -1}
    return [file for version, file in found.items() if version not in needed]


def _orphans(
    store: Store,
    lives: Mapping[str, Mapping[str, FileLifetime]],
    there: Mapping[str, Sequence[FileInfo]],
    pending: Set[tuple[str, str]],
) -> Iterator[FileInfo]:
    """Drafts, and Parquet files that no version ever held and no commit under way is adding."""
    yield from store.backend.leftovers(store.root, set(list_built(store)))
    for table, files in there.items():
        for file in files:
            is_data = file.relative.endswith(".parquet") and "_delta_log/" not in file.relative
            known = file.relative in lives[table] or (table, file.relative) in pending
            if is_data and not known:
                yield file
