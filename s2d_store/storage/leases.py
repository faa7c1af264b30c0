"""Who is at work on an object store, and whether they still live.

A file lock dies with its process; an object does not. So a process that holds anything keeps an
object `sessions/ID` and writes it anew every few seconds. Whoever waits for a dead process sees no
beat for TTL_S by its own clock, which no other clock can disturb, and then declares it dead by
replacing that object: conditionally, so that either the declaration or the next beat gets there,
never both. On the same machine, a process that is gone is seen at once.

A process that was stopped for longer than TTL_S and wakes up finds that it was declared dead, and
commits nothing.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from s2d_store.errors import StoreError
from s2d_store.storage.object_path import ObjectPath

TTL_S = 30.0
BEAT_S = 5.0
# From this long without a beat that got through, a process no longer trusts what it holds.
TRUST_S = 20.0

_mine: dict[ObjectPath, _Session] = {}
_guard = threading.Lock()
# The last tag that was seen of somebody's session, and when by this process's clock.
_seen: dict[ObjectPath, tuple[dict[str, str], float]] = {}


class _Session:
    """This process's session in one store, and the thread that keeps it alive."""

    def __init__(self, root: ObjectPath) -> None:
        self.name = uuid.uuid4().hex
        self.pid = os.getpid()
        self.users = 0
        self._path = root / "sessions" / self.name
        self._beats = 0
        self._lost = False
        self._stop = threading.Event()
        self._last = time.monotonic()
        self._tag = self._path.create(self._body()) or self._path.read_tagged()[1]
        self._thread = threading.Thread(target=self._beat, name="session", daemon=True)
        self._thread.start()

    def _body(self) -> bytes:
        body = {"host": _host(), "pid": self.pid, "beat": self._beats, **_born()}
        return json.dumps(body).encode()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            now = time.monotonic()
            self._beats += 1
            try:
                tag = self._path.replace(self._body(), self._tag)
            except OSError:  # the next beat may get through; until then `trusted` decides
                continue
            if tag is None and not self._is_own():
                self._lost = True
                return
            self._last, self._tag = now, tag or self._tag

    def _is_own(self) -> bool:
        """Whether a beat whose answer got lost is there after all."""
        with suppress(OSError, ValueError):
            data, self._tag = self._path.read_tagged()
            return not json.loads(data).get("dead")
        return False

    def trusted(self) -> bool:
        """Whether nobody can have declared this process dead."""
        return not self._lost and time.monotonic() - self._last < TRUST_S

    def end(self) -> None:
        """Stop beating and take the session away."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError):  # then others wait for its beat
            self._path.unlink(missing_ok=True)


@contextmanager
def hold_lease(root: ObjectPath) -> Iterator[str]:
    """Be known to be at work until the block ends; returns the session's name."""
    with _guard:
        session = _mine.get(root)
        if session is None or session.pid != os.getpid():
            session = _mine[root] = _Session(root)
        session.users += 1
    try:
        yield session.name
    finally:
        with _guard:
            session.users -= 1
            if session.users == 0:
                del _mine[root]
                session.end()


def is_trusted(root: ObjectPath) -> bool:
    """Whether what this process holds in the store is still its own."""
    session = _mine.get(root)
    return session is None or session.trusted()


def require_trust(root: ObjectPath) -> None:
    """Refuse to go on in a store whose other users may have taken this process for dead.

    Raises:
        StoreError: nothing was heard from the object store for too long, or somebody took over.
    """
    if not is_trusted(root):
        raise StoreError(
            f"this process lost its hold on the store at {root}",
            f"for {TRUST_S:.0f} s or more it did not get through to the object store, so that "
            "another process may have taken over; nothing of this commit is visible",
            "run the same command again: it goes on where it stopped",
        )


def is_dead(root: ObjectPath, name: str, *, wait: bool) -> bool:
    """Whether a session's process is dead; one that is declared so cannot commit any more.

    Args:
        root: the store.
        name: the session.
        wait: look until it is known, TTL_S at most. Else a process of which nothing is known yet
            counts as alive.
    """
    session = _mine.get(root)
    if session is not None and session.name == name:
        return False
    path = root / "sessions" / name
    looked = False
    while True:
        try:
            data, tag = path.read_tagged()
        except FileNotFoundError:
            return True
        body = _read(data)
        if body.get("dead"):
            return True
        known = _seen.get(path)
        if known is None or known[0] != tag:
            if known is not None and looked:
                return False
            _seen[path] = known = tag, time.monotonic()
        looked = True
        if _is_gone(body) or time.monotonic() - known[1] > TTL_S:
            if path.replace(json.dumps({"dead": True}).encode(), tag) is not None:
                return True
            continue
        if not wait:
            return False
        time.sleep(BEAT_S / 10)


def _read(data: bytes) -> dict[str, Any]:
    """What a session says; a torn one, and what `storage_time` puts, speak for nobody."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    return body if isinstance(body, dict) and "host" in body else {"dead": True}


def _is_gone(body: dict[str, Any]) -> bool:
    """Whether a process of this machine has ended."""
    if body.get("host") != _host() or not _born():
        return False
    return _started(int(body["pid"])) != body.get("started")


def _host() -> str:
    """The running kernel and the namespace of its process ids; a random name where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return _NOWHERE


_NOWHERE = uuid.uuid4().hex


def _born() -> dict[str, str]:
    started = _started(os.getpid())
    return {"started": started} if started else {}


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; a number that is used again begins later."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
