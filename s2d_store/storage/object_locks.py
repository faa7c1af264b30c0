"""A lock on an object store: an object that names the session of the process that holds it."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from s2d_store.storage import leases
from s2d_store.storage.object_path import ObjectPath


@contextmanager
def sole_object(root: ObjectPath, lock: ObjectPath, wait: bool) -> Iterator[bool]:
    """Hold the lock until the block ends; False, unless it waits, where another process has it."""
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
        if _is_free(root, data, wait=not wait):
            if lock.replace(body, tag) is not None:
                return True
        elif not wait:
            return False
        else:
            time.sleep(random.uniform(0.5, 1) * pause)
            pause = min(2 * pause, 0.5)
    return True


def _is_free(root: ObjectPath, data: bytes, *, wait: bool) -> bool:
    """Whether the session that a lock names is dead; one that is not legible names nobody."""
    try:
        session = str(json.loads(data)["session"])
    except (ValueError, KeyError, TypeError):
        return True
    return leases.is_dead(root, session, wait=wait)
