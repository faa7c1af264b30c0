"""Publish a dataset or a store: plain Parquet, a card, the locks, and nothing of this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.datasets.exports.hf import viewer_rows, write_split
from s2d_store.datasets.folders import write_lock
from s2d_store.datasets.lock_file import list_built
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import DatasetError, S2DError
from s2d_store.publishing import card, epochs, manifest, selection
from s2d_store.publishing.clone import clone
from s2d_store.publishing.manifest import Published
from s2d_store.publishing.masks import masked
from s2d_store.publishing.selection import Selection
from s2d_store.storage.content_hash import hash_of
from s2d_store.storage.reserved_paths import refuse_store_path
from s2d_store.storage.whole_folder import new_folder
from s2d_store.store import Store
from s2d_store.tables import parquet_writer

FILE_BYTES = 256 << 20


def publish(
    store: Store, dataset: str, target: Path, *, license: str = "", audits: bool = True
) -> Published:
    """Write a folder that `s2d clone` makes a store of and the Hub's viewer shows.

    Args:
        store: the store.
        dataset: a dataset's name; empty publishes the whole store.
        target: the folder to make; there must be none of that name.
        license: by the Hub's name for it; empty: unknown.
        audits: whether the card says what the audits find.

    Raises:
        NotFoundError: there is no such dataset.
        InputError: the target is there already, or lies among the store's own files.
        DatasetError: the dataset cannot be built again from the runs of its own rollouts.
        StoreError: the disk is full.
    """
    chosen = selection.of_dataset(store, dataset) if dataset else selection.of_store(store)
    name = dataset or Path(str(store.root)).name
    with new_folder(refuse_store_path(store.root, target)) as draft:
        ends = epochs.snapshots(store, chosen)
        made = Published(
            "dataset" if dataset else "store",
            name,
            tuple(_write_epochs(store, chosen, ends, draft)),
            {str(lock["name"]): epochs.epoch_of(lock, ends) for lock in chosen.locks},
            {},
        )
        for path in sorted((draft / "tables").rglob("*.parquet")):
            made.hashes[path.relative_to(draft).as_posix()] = hash_of(path)
        for lock in chosen.locks:
            folder = draft / "locks" / str(lock["name"])
            folder.mkdir(parents=True)
            write_lock(folder, lock)
        (draft / manifest.NAME).write_text(made.text(), encoding="utf-8")
        if dataset:
            write_split(draft / "data", "train", viewer_rows(store, open_dataset(store, dataset)))
            _check_builds(draft, dataset)
        text = card.write(store, made, license, audits)
        (draft / "README.md").write_text(text, encoding="utf-8")
    return made


def is_dataset(store: Store, name: str) -> bool:
    """Whether a store has a dataset of that name."""
    return name in list_built(store)


def _write_epochs(
    store: Store, chosen: Selection, ends: list[Any], draft: Path
) -> list[dict[str, list[str]]]:
    written: list[dict[str, list[str]]] = [{} for _ in ends]
    for epoch, table, batches in epochs.tables_of(store, chosen, ends):
        files = []
        for number, rows in enumerate(_by_size(table, batches)):
            path = Path("tables") / table / f"epoch-{epoch:03d}-{number:05d}.parquet"
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            parquet_writer.write(draft / path, [rows], rows.schema)
            files.append(path.as_posix())
        if files:
            written[epoch][table] = files
    return written


def _by_size(table: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Masked rows as tables of bounded size."""
    waiting: list[pa.Table] = []
    for batch in batches:
        waiting.append(masked(table, pa.Table.from_batches([batch])))
        if sum(part.nbytes for part in waiting) >= FILE_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    rows = pa.concat_tables(waiting) if waiting else None
    if rows is not None and rows.num_rows:
        yield rows


def _check_builds(draft: Path, dataset: str) -> None:
    """Clone what is to be published, and see that the dataset comes out as it is locked."""
    with tempfile.TemporaryDirectory(prefix=".clone-", dir=draft.parent) as place:
        try:
            clone(draft, Path(place) / "store")
        except S2DError as error:
            raise DatasetError(
                f"dataset {dataset} cannot be built again from the runs of its own rollouts",
                error.what,
                "its query asks of other rollouts too: publish the store, or the rows alone with "
                f"s2d dataset export {dataset} --format hf",
            ) from error
