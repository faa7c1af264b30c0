"""Export a locked dataset: whole or not at all, with its sidecar."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2d_store.datasets.exports import registry, sidecar
from s2d_store.datasets.exports.base import Exporter, Written, options_for
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import InputError, StoreError
from s2d_store.storage.reserved_paths import refuse_store_path
from s2d_store.store import Store


def export(
    store: Store, name: str, format_: str, output: Path, given: Mapping[str, Any] | None = None
) -> Written:
    """Write a dataset for another trainer. Nothing is left of an export that fails.

    Beside the output is `OUTPUT.s2d.json`: which dataset it is, and the trainer's settings that
    keep its order and tokens.

    Args:
        store: the store.
        name: a dataset whose files are there.
        format_: see `s2d_store.datasets.exports.registry`, or docs/export.md.
        output: the file or folder; one that an export wrote is replaced.
        given: options by name, see `s2d_store.datasets.exports.base.Options`; null: not given.

    Raises:
        NotFoundError: no dataset or format of that name.
        DatasetError: its lock or files were changed, or it lacks what the format needs.
        InputError: an option that the format does not read, or a place that is not free.
        StoreError: the output cannot be written.
    """
    exporter = registry.find(format_)
    options = options_for(exporter, given or {})
    dataset = open_dataset(store, name)
    output = refuse_store_path(store.root, output)
    with _whole(output, exporter) as draft:
        written = exporter.write(store, dataset, draft, options)
        record = sidecar.describe(store, dataset, exporter, options, written)
        sidecar.beside(draft).write_text(sidecar.text(record), encoding="utf-8")
    return written


@contextmanager
def _whole(output: Path, exporter: Exporter) -> Iterator[Path]:
    """A draft beside the output, which takes its name once it is complete and on disk."""
    _check_free(output, exporter)
    draft = output.with_name(f".{output.name}.{uuid.uuid4().hex}.draft")
    note = sidecar.beside(draft)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if exporter.form == "folder":
            draft.mkdir()
        yield draft
        for path in (draft, *draft.rglob("*"), note):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        _take_name(draft, output)
        note.replace(sidecar.beside(output))
    except OSError as error:
        raise StoreError(
            f"cannot write {output}: {error.strerror or error}",
            "the dataset is unchanged, and no part of the export is left",
            "free disk space, or choose another --output",
        ) from error
    finally:
        for left in (draft, note):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left.exists():
                left.unlink()


def _take_name(draft: Path, output: Path) -> None:
    """Let the draft replace the output; a folder that cannot be replaced stays as it was."""
    if not output.is_dir():
        draft.replace(output)
        return
    old = draft.with_suffix(".old")
    output.rename(old)
    try:
        draft.rename(output)
    except OSError:
        old.rename(output)
        raise
    shutil.rmtree(old)


def _check_free(output: Path, exporter: Exporter) -> None:
    """Refuse to replace what no export wrote, as a folder of somebody's own.

    Raises:
        InputError: the output is a folder that is not an export, or of the other form.
    """
    is_folder = output.is_dir()
    if not output.exists() or (exporter.form == "file" and not is_folder):
        return
    if is_folder != (exporter.form == "folder") or not sidecar.beside(output).exists():
        raise InputError(
            f"--output {output} is there already",
            f"format {exporter.name} writes a {exporter.form}, and replaces only what an export "
            "wrote",
            "choose another --output",
        )
