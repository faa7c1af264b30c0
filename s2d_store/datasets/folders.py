"""Where a locked dataset's files lie: how a draft becomes a dataset, and where trainers read it.

On a local disk a dataset is a folder that gets its name in one step. On an object store the lock is
what makes it one: the parts go there first. Trainers read it through a copy in the local cache,
whose files have the hashes that the lock names.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2d_store.datasets.lock_file import folder_of, read_lock
from s2d_store.errors import DatasetError, StoreError
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import Place
from s2d_store.store import Store
from s2d_store.tables.fetch_rows import Spill

LOCK = "lock.json"
REQUESTS = 8


@contextmanager
def draft(store: Store, name: str) -> Iterator[Path]:
    """A local folder to build a dataset in, gone after the block unless it was published."""
    with store.backend.draft_folder(folder_of(store, name)) as folder:
        yield folder


def spill(store: Store, chosen: Path | None = None) -> Spill:
    """Where rows wait that do not fit in memory: a chosen folder, or one under the store.

    Under the store it is a draft, so that a vacuum removes what a kill leaves. For an object store,
    the system's folder for temporary files.
    """
    fix = "free disk space there, or send what waits to another disk with --spill DIR"
    if chosen is not None:
        return Spill(chosen, "free disk space there, or choose a larger disk with --spill DIR")
    local = store.backend.local_path(store.root / "datasets")
    return Spill(None, fix) if local is None else Spill(local, fix, ".draft")


def is_there(store: Store, name: str) -> bool:
    """Whether something has a dataset's place, whole or not."""
    return store.backend.folder_exists(folder_of(store, name), LOCK)


def write_lock(folder: Path, lock: Mapping[str, Any]) -> None:
    """Write the lock into a draft; it is on the disk before the draft becomes the dataset."""
    with (folder / LOCK).open("wb") as file:
        file.write(_text(lock))
        file.flush()
        os.fsync(file.fileno())


def publish(store: Store, name: str, folder: Path) -> None:
    """Make a finished draft the dataset of a name; one that has it already goes.

    A kill in between may leave no dataset of the name; its record in the store and
    `s2d dataset restore` bring it back.
    """
    store.backend.publish_folder(folder, folder_of(store, name), LOCK)


def replace_lock(store: Store, lock: Mapping[str, Any]) -> None:
    """Put another lock beside the files of a dataset."""
    store.backend.replace(folder_of(store, lock["name"]) / LOCK, _text(lock))


def remove(store: Store, name: str) -> None:
    """Delete a dataset's files and their local copies."""
    with disk_errors(store.root):
        store.backend.remove_folder(folder_of(store, name), LOCK)
        if store.backend.local_path(store.root) is None:
            for copy in _cache(store).glob(f"{name}@*"):
                shutil.rmtree(copy, ignore_errors=True)


def local_folder(store: Store, name: str) -> Path:
    """A local folder with the dataset's files; those of an object store are fetched once.

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: its lock was changed, or a file has not the bytes that were written.
        StoreError: the local disk is full.
    """
    lock = read_lock(store, name)
    folder = folder_of(store, name)
    local = store.backend.local_path(folder)
    if local is not None:
        return local
    # A name cannot hold an @, and a lock that is written again has another seal.
    target = _cache(store) / f"{name}@{lock['seal']}"
    if target.exists():
        return target
    partial = target.with_name(f".{name}.{uuid.uuid4().hex}.draft")
    try:
        partial.mkdir(parents=True)
        with ThreadPoolExecutor(REQUESTS, thread_name_prefix="download") as pool:
            fetched = [
                pool.submit(_fetch, store, folder, partial, part, name) for part in lock["files"]
            ]
            for entry in fetched:
                entry.result()
        write_lock(partial, lock)
        if not target.exists():
            os.rename(partial, target)
    except OSError as error:
        raise StoreError(
            f"cannot fetch dataset {name} to {target.parent}: {error.strerror or error}",
            "trainers read a dataset of an object store from a local copy",
            "free disk space there, or set S2D_CACHE to another folder",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _fetch(store: Store, folder: Place, target: Path, part: Mapping[str, Any], name: str) -> None:
    try:
        digest = store.backend.download(folder / part["path"], target / part["path"])
    except FileNotFoundError as error:
        raise DatasetError(
            f"{folder / part['path']} is missing",
            "the lock lists it",
            f"s2d dataset restore {name}",
        ) from error
    if not digest.startswith(part["sha256"]):
        raise DatasetError(
            f"{folder / part['path']} has other bytes than were written",
            f"its SHA-256 starts with {digest[: len(part['sha256'])]}, the lock says "
            f"{part['sha256']}",
            f"s2d dataset restore {name}",
        )


def _cache(store: Store) -> Path:
    """Where local copies of the datasets of a store on an object store lie."""
    base = os.environ.get("S2D_CACHE") or Path.home() / ".cache" / "s2d"
    scheme, _, rest = str(store.root).partition("://")
    return Path(base) / scheme / rest / "datasets"


def _text(lock: Mapping[str, Any]) -> bytes:
    return (json.dumps(lock, indent=2) + "\n").encode()
