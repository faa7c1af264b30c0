"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2d_store.errors import InputError, StoreError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A draft beside the target, which takes its name after the block; gone where that fails.

    Raises:
        InputError: there is something of that name already; an empty folder is nothing.
        StoreError: it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            f"{target} is there already", "it would have to be replaced", "choose another place"
        )
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.draft")
    try:
        draft.mkdir(parents=True)
        yield draft
        if target.exists():
            target.rmdir()
        draft.rename(target)
    except OSError as error:
        raise StoreError(
            f"cannot write {target}: {error.strerror or error}",
            "nothing of it is left",
            "free disk space, or choose another place",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
