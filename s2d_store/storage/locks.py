"""Who works on a store at the moment: locks that a dead process does not keep.

On a local disk they are advisory file locks; on an object store, objects that name a session.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import IO

from s2d_store.storage import leases
from s2d_store.storage.location import Place, list_files
from s2d_store.storage.object_path import ObjectPath

# A run's lock is named like the run, which cannot start with a dot.
_WRITERS = ".writers"


@contextmanager
def register_writer(root: Place) -> Iterator[None]:
    """Hold while files are written that nobody has committed yet; waits for a sweep to end."""
    if isinstance(root, ObjectPath):
        with leases.hold_lease(root):
            yield
        return
    with _file(root, _WRITERS) as file:
        flock(file, LOCK_SH)
        yield


@contextmanager
def try_block_writers(root: Place) -> Iterator[bool]:
    """Whether nobody is writing.

    If so, nobody begins before the block ends; on an object store somebody may, whose files are
    younger than any grace, since the service dates them.
    """
    if isinstance(root, ObjectPath):
        with leases.hold_lease(root) as mine:
            others = [
                found.relative
                for found in list_files(root / "sessions")
                if found.relative not in (mine, ".clock")
            ]
            yield all(leases.is_dead(root, name, wait=True) for name in others)
        return
    with _file(root, _WRITERS) as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def exclusive_lock(root: Place, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that one process has at a time; False, unless it waits, where another has it."""
    if isinstance(root, ObjectPath):
        with _sole_object(root, root / "locks" / name, wait) as got:
            yield got
        return
    with _file(root, name) as file:
        try:
            flock(file, LOCK_EX if wait else LOCK_EX | LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _file(root: Path, name: str) -> IO[str]:
    folder = root / "locks"
    folder.mkdir(exist_ok=True)
    return (folder / name).open("a")


@contextmanager
def _sole_object(root: ObjectPath, lock: ObjectPath, wait: bool) -> Iterator[bool]:
    with leases.hold_lease(root) as mine:
        body = json.dumps({"session": mine, "by": uuid.uuid4().hex}).encode()
        if not _acquire(root, lock, body, wait):
            yield False
            return
        try:
            yield True
        finally:
            # Declared dead, this process has lost the lock, and who took it over holds it.
            if leases.is_trusted(root):
                with suppress(OSError):  # it names a session that will be gone
                    lock.unlink(missing_ok=True)


def _acquire(root: ObjectPath, lock: ObjectPath, body: bytes, wait: bool) -> bool:
    pause = 0.01
    while lock.create(body) is None:
        try:
            data, tag = lock.read_tagged()
        except FileNotFoundError:
            continue
        if data == body:  # an answer got lost, and the request was sent again
            return True
        if leases.is_dead(root, json.loads(data)["session"], wait=not wait):
            if lock.replace(body, tag) is not None:
                return True
        elif not wait:
            return False
        else:
            time.sleep(random.uniform(0.5, 1) * pause)
            pause = min(2 * pause, 0.5)
    return True
