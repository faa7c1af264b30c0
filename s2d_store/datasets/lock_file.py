"""The lock of a dataset: its identity, its seal, and reading it. Needs no pyarrow, no SQL."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from s2d_store.errors import DatasetError, NotFoundError, did_you_mean, listed
from s2d_store.ids import check_name, content_id
from s2d_store.storage.location import Place

if TYPE_CHECKING:
    from s2d_store.store import Store

SEAL = "seal"
_PART = re.compile(r"\w[\w.-]*")
# A data file of one of the store's own tables, below the partitions' folders.
_STORED = re.compile(r"tables(/\w[\w.=-]*)+\.parquet")


def dataset_id(lock: Mapping[str, Any]) -> str:
    """Identity of a dataset: what it was asked to be, and what it turned out to be.

    Raises:
        KeyError: the lock lacks one of these.
    """
    return content_id(
        "dataset", *(lock[k] for k in ("name", "query_sql", "params", "seed", "fingerprint"))
    )


def with_checksum(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The lock with a hash over all of it, so that a change by hand shows."""
    open_lock = {key: value for key, value in lock.items() if key != SEAL}
    return open_lock | {SEAL: content_id("seal", open_lock)}


def check_seal(lock: Mapping[str, Any]) -> None:
    """Refuse a lock that was edited; one without a seal passes.

    Raises:
        DatasetError: the seal does not fit.
    """
    if SEAL in lock and with_checksum(lock)[SEAL] != lock[SEAL]:
        raise tampered_error(lock, f"its seal {lock[SEAL]} should be {with_checksum(lock)[SEAL]}")


def check_parts(lock: Mapping[str, Any]) -> None:
    """Refuse a lock whose files lie elsewhere than beside it, or in the tables of its store, as a
    lock from a stranger may.

    Raises:
        DatasetError: a path is no bare file name, or that of a source no path below tables/.
    """
    for source in (lock.get("sources") or {}).values():
        for stored in source["files"]:
            if not _STORED.fullmatch(str(stored)):
                raise DatasetError(
                    f"the lock of dataset {lock.get('name')} names the file {stored!r}",
                    "a dataset by reference reads the Parquet files of its store's tables alone",
                    "do not use it: s2d writes no such lock",
                )
    for file in lock.get("files") or ():
        path = file.get("path") if isinstance(file, dict) else None
        if path is not None and not _PART.fullmatch(str(path)):
            raise DatasetError(
                f"the lock of dataset {lock.get('name')} names the file {path!r}",
                "a dataset's files lie beside its lock, in a folder of their own",
                "do not use it: s2d writes no such lock",
            )


def tampered_error(lock: Mapping[str, Any], why: str) -> DatasetError:
    """The error for a lock that is not as it was written."""
    return DatasetError(
        f"the lock of dataset {lock.get('name')} was changed after it was written",
        why,
        f"s2d dataset restore {lock.get('name')}, which writes it again from the store's record",
    )


def folder_of(store: Store, name: str) -> Place:
    """Where a dataset's files lie, whether or not there are any.

    Raises:
        InputError: a name that would lead out of the store.
    """
    return store.root / "datasets" / check_name(name, "dataset")


def list_built(store: Store) -> list[str]:
    """Names of the datasets whose files are there."""
    return store.backend.folders_with(store.root / "datasets", "lock.json")


def read_lock(store: Store, name: str) -> dict[str, Any]:
    """The lock of a dataset.

    Raises:
        InputError: a name that would lead out of the store.
        NotFoundError: there is none of that name.
        DatasetError: the lock is not readable JSON, or was changed by hand.
    """
    path = folder_of(store, name) / "lock.json"
    try:
        lock = dict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError) as error:
        built = list_built(store)
        # A folder without its lock is damage; no folder is another name.
        folder = store.backend.local_path(path.parent)
        is_new = folder is not None and not folder.is_dir()
        raise NotFoundError(
            f"no dataset {name!r} in this store{did_you_mean(name, built)}",
            listed(built, "built", "last"),
            "s2d dataset list shows them; s2d dataset build makes one",
        ) from (None if is_new else error)
    except (ValueError, TypeError) as error:
        raise DatasetError(
            f"the lock of dataset {name} is not readable",
            str(error),
            f"s2d dataset restore {name}, which writes it again from the store's record",
        ) from error
    check_seal(lock)
    check_parts(lock)
    return lock
