"""Folders that exist whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from s2d_store.errors import TrainingError

_UNFINISHED = ".unfinished-"


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a scratch folder beside `target`; it takes the target's name if the block ends well.

    Every file is on disk before the rename, and the rename before the return. The target must not
    exist.
    """
    scratch = target.with_name(_UNFINISHED + target.name)
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch)
        raise
    for path in [*scratch.rglob("*"), scratch]:
        sync(path)
    scratch.rename(target)
    sync(target.parent)


def remove_folder(target: Path) -> None:
    """Delete a folder so that no half of it can ever be seen under its name."""
    doomed = target.with_name(_UNFINISHED + target.name)
    target.rename(doomed)
    shutil.rmtree(doomed)


def sweep(parent: Path) -> None:
    """Delete what killed processes left behind; only one process may work in `parent`."""
    for leftover in parent.glob(_UNFINISHED + "*"):
        shutil.rmtree(leftover)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder of which one process at a time may be the writer.

    Raises:
        TrainingError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"another process is training into {folder}",
                "two would delete each other's checkpoints",
                "wait for it to end, or choose another --output",
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(output: Path) -> Iterator[None]:
    """Turn a failing disk into one error.

    Raises:
        TrainingError: the disk is full or cannot be written; the newest checkpoint is whole.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else ""
        raise TrainingError(
            f"cannot write to {output}: {reason or error}",
            "the newest checkpoint is whole",
            "free disk space or repair the permissions, then run the same command again: it "
            "continues from there",
        ) from error


def sync(path: Path) -> None:
    """Flush a file's or folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
