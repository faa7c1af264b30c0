"""Make a store of what was published: the rows in their epochs, and every lock built again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.datasets import folders
from s2d_store.datasets.dataset_lock import read_lock
from s2d_store.datasets.lock_file import dataset_id, with_checksum
from s2d_store.datasets.parts import described, write_parts
from s2d_store.datasets.reference import is_possible, write_reference
from s2d_store.datasets.verify import plan_of
from s2d_store.errors import DatasetError, InputError
from s2d_store.ids import check_name
from s2d_store.publishing import manifest
from s2d_store.publishing.manifest import Published
from s2d_store.schema import TABLES
from s2d_store.storage.content_hash import hash_of
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.whole_folder import new_folder
from s2d_store.store import Store

COMMIT_BYTES = 128 << 20
# What a lock says of the files and versions of one store.
_OF_ONE_STORE = ("content", "files", "form", "seal", "sources", "versions")


def clone(source: Path, target: Path) -> Published:
    """Make a store, whole or not at all; its locks are those that were published.

    Args:
        source: a published folder.
        target: the store to make; there must be nothing of that name.

    Raises:
        NotFoundError: nothing that s2d published.
        InputError: rows that do not fit the tables, or the target is there already.
        DatasetError: a lock was changed, or its query gives other rows.
        StoreError: the disk is full.
    """
    made = manifest.read(source)
    # Before anything is copied.
    locks = [_lock(source, name) for name in made.locks]
    with new_folder(target) as draft:
        store = Store.init(draft)
        versions: list[dict[str, int]] = []
        for files in made.epochs:
            for table in TABLES:
                for rows in _tables(source, made, files.get(table, [])):
                    store.commit({table: rows})
            versions.append(dict(store.snapshot().versions))
        for lock in locks:
            epoch = made.locks[lock["name"]]
            if not 0 <= epoch < len(versions):
                raise InputError(
                    f"lock {lock['name']} is of epoch {epoch}",
                    f"what was published has {len(versions)}",
                    "fetch it again",
                )
            _build(store, lock, versions[epoch])
    return made


def _lock(source: Path, name: str) -> Mapping[str, Any]:
    """A published lock, its seal checked."""
    lock = read_lock(source / "locks" / check_name(name, "dataset"))
    if lock.name != name:
        raise InputError(
            f"lock {name} is that of dataset {lock.name!r}",
            "a lock's folder has its name",
            "fetch it again",
        )
    return lock.raw


def _tables(source: Path, made: Published, files: list[str]) -> Iterator[pa.Table]:
    """A table's rows, some row groups at a time; each file's bytes are those published."""
    waiting: list[pa.Table] = []
    for path in files:
        try:
            if hash_of(source / path) != made.hashes.get(path):
                raise OSError("its bytes are not those that were published")
            with pq.ParquetFile(source / path) as file:
                for group in range(file.num_row_groups):
                    waiting.append(file.read_row_group(group))
                    if sum(part.nbytes for part in waiting) >= COMMIT_BYTES:
                        yield pa.concat_tables(waiting)
                        waiting = []
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(
                f"{source / path} cannot be read", str(error), "fetch it again"
            ) from error
    if waiting:
        yield pa.concat_tables(waiting)


def _build(store: Store, lock: Mapping[str, Any], versions: Mapping[str, int]) -> None:
    """Build a locked dataset again, on the versions that hold what its own ones held."""
    name = lock["name"]
    made = plan_of(store, lock, versions)
    found = described(made)
    wrong = [key for key in ("fingerprint", "facts") if key in lock and found[key] != lock[key]]
    if wrong or dataset_id(lock) != lock.get("dataset_id"):
        raise DatasetError(
            f"dataset {name} does not come out as it is locked",
            f"its {wrong[0] if wrong else 'dataset_id'} is another",
            "the published rows are not those that it was built on: ask who published it",
        )
    kept = {key: value for key, value in lock.items() if key not in _OF_ONE_STORE}
    with folders.draft(store, name) as draft, disk_errors(store.root):
        draft.mkdir(parents=True, exist_ok=True)
        if is_possible(made):
            kept |= write_reference(draft, made, store.folder)
        else:
            kept |= write_parts(draft, made, folders.spill(store))
        new = with_checksum(kept | {"versions": dict(versions)})
        folders.write_lock(draft, new)
        folders.publish(store, name, draft)
