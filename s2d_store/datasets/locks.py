"""The lock of a dataset: its identity, its seal, and reading it. Needs no pyarrow, no SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2d_store.errors import DatasetError, NotFoundError
from s2d_store.ids import content_id

if TYPE_CHECKING:
    from s2d_store.store import Store

SEAL = "seal"


def dataset_id(lock: Mapping[str, Any]) -> str:
    """Identity of a dataset: what it was asked to be, and what it turned out to be.

    Raises:
        KeyError: the lock lacks one of these.
    """
    return content_id(
        "dataset", *(lock[k] for k in ("name", "query_sql", "params", "seed", "fingerprint"))
    )


def sealed(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The lock with a hash over all of it, so that a change by hand shows."""
    open_lock = {key: value for key, value in lock.items() if key != SEAL}
    return open_lock | {SEAL: content_id("seal", open_lock)}


def check_seal(lock: Mapping[str, Any]) -> None:
    """Refuse a lock that was edited; one without a seal passes.

    Raises:
        DatasetError: the seal does not fit.
    """
    if SEAL in lock and sealed(lock)[SEAL] != lock[SEAL]:
        raise changed(lock, f"its seal {lock[SEAL]} should be {sealed(lock)[SEAL]}")


def changed(lock: Mapping[str, Any], why: str) -> DatasetError:
    """The error for a lock that is not as it was written."""
    return DatasetError(
        f"the lock of dataset {lock.get('name')} was changed after it was written",
        why,
        "restore the lock from a copy, or drop the dataset and build it again",
    )


def folder_of(store: Store, name: str) -> Path:
    """Where a dataset's files lie, whether or not there are any."""
    return store.root / "datasets" / name


def built(store: Store) -> list[str]:
    """Names of the datasets whose files are there."""
    return sorted(p.parent.name for p in (store.root / "datasets").glob("[!.]*/lock.json"))


def read_lock(store: Store, name: str) -> dict[str, Any]:
    """The lock of a dataset.

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: the lock is not readable JSON, or was changed by hand.
    """
    path = folder_of(store, name) / "lock.json"
    try:
        lock = dict(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no dataset {name!r} in this store",
            f"built: {', '.join(built(store)) or 'none'}",
            f"s2d dataset build {name} --query warmup --param teacher=NAME",
        ) from error
    except (ValueError, TypeError) as error:
        raise DatasetError(
            f"the lock of dataset {name} is not readable",
            str(error),
            f"restore datasets/{name}/lock.json from a copy, or drop {name} and build it again",
        ) from error
    check_seal(lock)
    return lock
