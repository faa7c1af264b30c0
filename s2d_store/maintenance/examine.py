"""Read every data file of a store and say which are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from s2d_store.datasets import lock_file
from s2d_store.datasets.verify import fingerprint_of_files, locked_content
from s2d_store.errors import DatasetError
from s2d_store.maintenance import file_health as data_files
from s2d_store.maintenance import log_health
from s2d_store.maintenance.file_health import DataFile
from s2d_store.schema import TABLES
from s2d_store.store import Store

READERS = 4
# Files examined, and all of them.
OnFile = Callable[[int, int], None]


@dataclass(frozen=True)
class Damage:
    """A damaged file and what is wrong with it."""

    file: DataFile
    what: str


@dataclass(frozen=True)
class Report:
    """What `examine` found.

    Attributes:
        files: files examined.
        bytes: their bytes.
        full: whether whole files were read.
        damages: damaged files.
        faults: damage that is not in a data file: logs, locks, fingerprints; one line each.
        unsealed: files of tables that were written without a hash, where a flipped bit can hide.
    """

    files: int
    bytes: int
    full: bool
    damages: tuple[Damage, ...] = ()
    faults: tuple[str, ...] = ()
    unsealed: int = 0

    @property
    def healthy(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages and not self.faults


def examine(store: Store, *, full: bool = True, on_file: OnFile | None = None) -> Report:
    """Check each log, each file of the newest snapshot and of every locked dataset.

    Where all of them are whole, that no key stands twice in a table.

    Args:
        store: the store.
        full: read whole files and compare their hashes; else existence, size and footer alone.
        on_file: told after each file.
    """
    read, faults = _locks(store)
    pins = {name: lock["versions"] for name, lock in read.items()}
    files: list[DataFile] = []
    for table in TABLES:
        found, wrong = data_files.of_table(store, table, pins)
        files += found
        faults += log_health.faults_of_table(store, table) or wrong
    faults += log_health.faults_of_entries(store)
    for lock in read.values():
        files += data_files.of_dataset(store, lock)
    damages = _check_all(files, full, on_file)
    if full:
        if not damages and not faults:
            snap = store.snapshot()
            faults += [
                fault for name in TABLES for fault in log_health.doubled_keys(store, snap, name)
            ]
        broken = {damage.file.dataset for damage in damages}
        for name, lock in read.items():
            if name not in broken and any("sha256" not in part for part in lock["files"]):
                faults += _fingerprint_fault(store, lock)
    return Report(
        files=len(files),
        bytes=sum(file.size for file in files),
        full=full,
        damages=tuple(damages),
        faults=tuple(faults),
        unsealed=sum(file.digest is None and not file.dataset for file in files),
    )


def damaged_pins(store: Store, lock: Mapping[str, Any]) -> list[str]:
    """What is damaged of the versions that a lock pins, in words."""
    wrong: list[str] = []
    pinned: list[DataFile] = []
    for table in TABLES:
        found, faults = data_files.of_table(store, table, {lock["name"]: lock["versions"]})
        wrong += faults
        pinned += [file for file in found if file.pinned_by]
    return wrong + [f"{d.file.name}: {d.what}" for d in _check_all(pinned, True, None)]


def _check_all(files: Sequence[DataFile], full: bool, on_file: OnFile | None) -> list[Damage]:
    damages = []
    workers = min(READERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers, thread_name_prefix="examine") as pool:
        checked = pool.map(partial(data_files.fault, full=full), files)
        for done, (file, what) in enumerate(zip(files, checked, strict=True), 1):
            if what is not None:
                damages.append(Damage(file, what))
            if on_file is not None:
                on_file(done, len(files))
    return damages


def _locks(store: Store) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Every lock that can be read, by name, and what is wrong with the others."""
    read: dict[str, Mapping[str, Any]] = {}
    faults = []
    for name in lock_file.list_built(store):
        try:
            read[name] = lock_file.read_lock(store, name)
        except DatasetError as error:
            faults.append(f"{error.what}: {error.why}; repair: s2d dataset restore {name}")
    return read, faults


def _fingerprint_fault(store: Store, lock: Mapping[str, Any]) -> list[str]:
    """Whether parts that were written without a hash still hold the locked rows."""
    name = lock["name"]
    if fingerprint_of_files(lock_file.folder_of(store, name), lock) == locked_content(lock):
        return []
    return [
        f"the rows of dataset {name} are not the locked ones; repair: s2d dataset restore {name}"
    ]
