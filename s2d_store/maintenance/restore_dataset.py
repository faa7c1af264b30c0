"""Make a locked dataset whole again: its files, its lock, its record, from what the store holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from s2d_store.datasets import folders
from s2d_store.datasets.catalog import record, recorded_as
from s2d_store.datasets.lock_file import folder_of, read_lock, with_checksum
from s2d_store.datasets.parts import described, write_parts
from s2d_store.datasets.plan import Plan
from s2d_store.datasets.read import LockedDataset
from s2d_store.datasets.reference import check_files, write_reference
from s2d_store.datasets.verify import content_of, fingerprint_of_files, locked_content, plan_of
from s2d_store.errors import DatasetError, NotFoundError, S2DError, StoreError
from s2d_store.maintenance.examine import damaged_pins
from s2d_store.maintenance.file_health import UNREADABLE, line
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.store import Store

_MADE_AGAIN = ", of rollouts or scores that were made again since"


def restore(store: Store, name: str) -> list[str]:
    """Rebuild what is damaged of a locked dataset; returns what was done, in words.

    The rows come from the versions that it pins or, where a file of those is damaged, from the
    newest ones, which it then pins; their fingerprint must be the locked one.

    Raises:
        NotFoundError: no dataset of that name was ever recorded.
        DatasetError: the store does not give the locked rows any more; nothing has changed.
        StoreError: another process builds it, or the disk is full.
    """
    with store.run_lock(f"dataset-{name}"[:100]), store.backend.register_writer(store.root):
        lock, is_written = _lock(store, name)
        whole = is_written and _files_hold(store, lock)
        with folders.draft(store, name) as draft:
            with disk_errors(store.root):
                draft.mkdir(parents=True, exist_ok=True)
            made, versions, parts = _rebuild(store, lock, None if whole else draft)
            done = []
            if versions != lock["versions"]:
                done.append("it pins the newest versions now: its old ones hold damaged files")
            if not whole:
                done.append(f"{len(parts['files'])} files written again, with the locked rows")
            if done:
                lock = with_checksum({**lock, **parts, "versions": versions})
                _replace(store, lock, draft, keep_files=whole)
            if record(store, lock, made.rows, again=True):
                done.append("its record in the tables datasets and dataset_rows written again")
            return done


def _lock(store: Store, name: str) -> tuple[dict[str, Any], bool]:
    """The dataset's lock, and whether it came from its file and not from the store's record."""
    try:
        return read_lock(store, name), True
    except (DatasetError, NotFoundError):
        found = recorded_as(store, name)
        if found is None:
            raise
        return found, False


def _files_hold(store: Store, lock: Mapping[str, Any]) -> bool:
    """Whether the dataset's files hold the locked rows."""
    try:
        LockedDataset.open(folders.local_folder(store, lock["name"]))
        found = fingerprint_of_files(folder_of(store, lock["name"]), lock)
        if not _by_reference(lock):
            return found == locked_content(lock)
        check_files(store.folder, lock)
        return bool(found == lock["fingerprint"])
    except (DatasetError, NotFoundError, StoreError, *UNREADABLE):
        return False


def _rebuild(
    store: Store, lock: Mapping[str, Any], folder: Path | None
) -> tuple[Plan, dict[str, int], dict[str, Any]]:
    """The dataset planned on the first versions that give its rows, and those versions.

    Args:
        store: the store.
        lock: the lock.
        folder: where to write its parts; None only compares the fingerprint.
    """
    reasons = []
    for label, versions in (
        ("pinned", dict(lock["versions"])),
        ("newest", dict(store.snapshot().versions)),
    ):
        try:
            if label == "pinned" and (wrong := damaged_pins(store, lock)):
                reasons.append(f"the pinned versions: {wrong[0]}")
                continue
            made = plan_of(store, lock, versions)
            parts, found = _write(store, lock, made, folder)
        except (S2DError, *UNREADABLE, duckdb.Error) as error:
            what = error.what if isinstance(error, S2DError) else line(error)
            reasons.append(f"the {label} versions: {what}")
            continue
        if found == (lock["fingerprint"] if _by_reference(lock) else locked_content(lock)):
            return made, versions, parts
        reasons.append(f"the {label} versions give other rows, fingerprint {found}")
    fix = "repair what s2d doctor names and run its commands, or restore the store from a copy"
    if any(_MADE_AGAIN in reason for reason in reasons):
        fix = (
            "restore the store from a copy; or build the dataset under another name: by reference, "
            "nothing tells whether these rollouts have the tokens that were lost"
        )
    raise DatasetError(
        f"dataset {lock['name']} cannot be made again from this store", "; ".join(reasons), fix
    )


def _by_reference(lock: Mapping[str, Any]) -> bool:
    return bool(lock.get("form") == "reference")


def _write(
    store: Store, lock: Mapping[str, Any], made: Plan, folder: Path | None
) -> tuple[dict[str, Any], str]:
    """What of the lock is new for a plan's rows, written again in its form, and their digest."""
    if _by_reference(lock):
        parts = write_reference(folder, made, store.folder) if folder else {}
        found = described(made)
        same = found["facts"] == lock["facts"]
        return parts, str(found["fingerprint"]) + ("" if same else _MADE_AGAIN)
    if folder is None:
        return {}, content_of(lock, made)
    parts = write_parts(folder, made, folders.spill(store))
    if "content" not in lock:  # of version 1, whose fingerprint is the one over every byte
        return {"files": parts["files"]}, str(parts["content"])
    return parts, str(parts["content"])


def _replace(store: Store, lock: Mapping[str, Any], draft: Path, *, keep_files: bool) -> None:
    with disk_errors(store.root):
        if keep_files:
            folders.replace_lock(store, lock)
        else:
            folders.write_lock(draft, lock)
            folders.publish(store, lock["name"], draft)
