"""Where a locked dataset's files lie: how a draft becomes a dataset, and where trainers read it.

On a local disk a dataset is a folder that gets its name in one step. On an object store the lock is
what makes it one: the parts go there first. Trainers read it through a copy in the local cache,
whose files have the hashes that the lock names.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2d_store.datasets.lock_file import folder_of, read_lock
from s2d_store.errors import DatasetError, StoreError
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import list_files
from s2d_store.storage.object_path import ObjectPath
from s2d_store.store import Store
from s2d_store.tables.fetch_rows import Spill

LOCK = "lock.json"
REQUESTS = 8


@contextmanager
def draft(store: Store, name: str) -> Iterator[Path]:
    """A local folder to build a dataset in, gone after the block unless it was published."""
    folder = store.root / "datasets" / f".{name}.{uuid.uuid4().hex}.draft"
    if isinstance(folder, ObjectPath):
        with tempfile.TemporaryDirectory(prefix="s2d-build-") as temporary:
            yield Path(temporary)
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def spill(store: Store, chosen: Path | None = None) -> Spill:
    """Where rows wait that do not fit in memory: a chosen folder, or one under the store.

    Under the store it is a draft, so that a vacuum removes what a kill leaves. For an object store,
    the system's folder for temporary files.
    """
    fix = "free disk space there, or send what waits to another disk with --spill DIR"
    if chosen is not None:
        return Spill(chosen, "free disk space there, or choose a larger disk with --spill DIR")
    if isinstance(store.root, ObjectPath):
        return Spill(None, fix)
    return Spill(store.root / "datasets", fix, ".draft")


def is_there(store: Store, name: str) -> bool:
    """Whether something has a dataset's place, whole or not."""
    folder = folder_of(store, name)
    return (folder / LOCK).exists() if isinstance(folder, ObjectPath) else folder.exists()


def write_lock(folder: Path, lock: Mapping[str, Any]) -> None:
    """Write the lock into a draft."""
    (folder / LOCK).write_text(_text(lock))


def publish(store: Store, name: str, folder: Path) -> None:
    """Make a finished draft the dataset of a name; one that has it already goes."""
    target = folder_of(store, name)
    if isinstance(target, ObjectPath):
        parts = [path for path in folder.iterdir() if path.name != LOCK]
        with ThreadPoolExecutor(REQUESTS, thread_name_prefix="upload") as pool:
            list(pool.map(lambda path: (target / path.name).upload(path), parts))
        (target / LOCK).upload(folder / LOCK)
        names = {path.name for path in folder.iterdir()}
        for found in list_files(target):
            if found.relative not in names:
                found.path.unlink(missing_ok=True)
    elif target.exists():
        # A kill between the two renames leaves no dataset of the name; its record in the store and
        # `s2d dataset restore` bring it back.
        old = folder.with_name(f".{name}.{uuid.uuid4().hex}.draft")
        os.rename(target, old)
        os.rename(folder, target)
        shutil.rmtree(old)
    else:
        os.rename(folder, target)


def replace_lock(store: Store, lock: Mapping[str, Any]) -> None:
    """Put another lock beside the files of a dataset."""
    target = folder_of(store, lock["name"])
    if isinstance(target, ObjectPath):
        (target / LOCK).write_text(_text(lock))
        return
    new = target / f"{LOCK}.draft"
    new.write_text(_text(lock))
    os.replace(new, target / LOCK)


def remove(store: Store, name: str) -> None:
    """Delete a dataset's files and their local copies."""
    folder = folder_of(store, name)
    with disk_errors(store.root):
        if isinstance(folder, ObjectPath):
            (folder / LOCK).unlink(missing_ok=True)
            for found in list_files(folder):
                found.path.unlink(missing_ok=True)
            for copy in _cache(store).glob(f"{name}@*"):
                shutil.rmtree(copy, ignore_errors=True)
            return
        # Under another name first: a kill must not leave a lock without its files.
        doomed = folder.with_name(f".{name}.{uuid.uuid4().hex}.draft")
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def local_folder(store: Store, name: str) -> Path:
    """A local folder with the dataset's files; those of an object store are fetched once.

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: its lock was changed, or a file has not the bytes that were written.
        StoreError: the local disk is full.
    """
    lock = read_lock(store, name)
    folder = folder_of(store, name)
    if isinstance(folder, Path):
        return folder
    # A name cannot hold an @, and a lock that is written again has another seal.
    target = _cache(store) / f"{name}@{lock['seal']}"
    if target.exists():
        return target
    partial = target.with_name(f".{name}.{uuid.uuid4().hex}.draft")
    try:
        partial.mkdir(parents=True)
        with ThreadPoolExecutor(REQUESTS, thread_name_prefix="download") as pool:
            fetched = [pool.submit(_fetch, folder, partial, part, name) for part in lock["files"]]
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


def _fetch(folder: ObjectPath, target: Path, part: Mapping[str, Any], name: str) -> None:
    try:
        digest = (folder / part["path"]).download(target / part["path"])
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
    """Where local copies of this store's datasets lie."""
    base = os.environ.get("S2D_CACHE") or Path.home() / ".cache" / "s2d"
    assert isinstance(store.root, ObjectPath)
    scheme, _, rest = str(store.root).partition("://")
    return Path(base) / scheme / rest / "datasets"


def _text(lock: Mapping[str, Any]) -> str:
    return json.dumps(lock, indent=2) + "\n"
