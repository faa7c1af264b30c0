"""The parent's handle on one worker of a `VerifierPool`: start, send, receive, kill."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable
from typing import Any

from s2d_store.verifiers import process_tree

STARTUP_S = 120.0
MAX_REPLY_BYTES = 4 << 20
"""More without a whole message is no reply of ours: a verifier wrote into the pipe."""


class WorkerStuckError(Exception):
    """The worker said nothing within the time it had."""


class WorkerDiedError(Exception):
    """The worker's end of a pipe is closed."""


class WorkerProcess:
    """A worker process, as the thread of the parent that drives it sees it.

    Args:
        spec: the verifier, see `registry.load_verifier`.
        memory_bytes: limit on the process's address space.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(self, spec: str, memory_bytes: int) -> None:
        # The parent's import path, and no `-m` folder before it: workers see the same modules.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "s2d_store.verifiers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **threads, "PYTHONPATH": path, process_tree.MARK: self._mark},
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._unread = bytearray()
        self._unsent: deque[memoryview] = deque()
        self._first = {"spec": spec, "memory_bytes": memory_bytes, "parent": os.getpid()}

    def hello(self) -> dict[str, Any]:
        """Send what the worker needs to start, and return its first message."""
        self.post([self._first])
        first: dict[str, Any] = self.receive(STARTUP_S)[0]
        return first

    def post(self, messages: Iterable[object]) -> None:
        """Queue messages; what the pipe does not take at once goes out while `receive` waits."""
        lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
        self._unsent.append(memoryview(lines))
        self._write()

    def receive(self, seconds: float) -> list[Any]:
        """The messages that have come, at least one, waiting for at most `seconds`.

        Raises:
            WorkerStuckError: no whole message came in time.
            WorkerDiedError: the worker closed its end, and everything it wrote has been read.
        """
        end = time.monotonic() + seconds
        chunk = b""
        while b"\n" not in chunk:
            if self._in in _ready(self._out, self._in if self._unsent else None, end):
                self._write()
                continue
            chunk = os.read(self._out, 1 << 16)
            if not chunk or len(self._unread) > MAX_REPLY_BYTES:
                raise WorkerDiedError
            self._unread += chunk
            if b"\n" not in chunk and time.monotonic() > end:
                raise WorkerStuckError  # It writes on and on, without an end.
        whole, _, self._unread = self._unread.rpartition(b"\n")
        return [json.loads(line) for line in whole.split(b"\n")]

    def _write(self) -> None:
        try:
            while self._unsent:
                written = os.write(self._in, self._unsent[0])
                left = self._unsent.popleft()[written:]
                if left:
                    self._unsent.appendleft(left)
        except BlockingIOError:
            return
        except BrokenPipeError:
            # Read first what the worker wrote before it died: that names the item it was on.
            self._unsent.clear()

    def kill(self) -> None:
        """Kill the process and whatever it started; it may be dead already."""
        process_tree.kill_worker(self.process.pid, self._mark)

    def end(self) -> str:
        """Kill, reap and close, once; return how the process ended, in words."""
        if self.at_eof():
            # A dying process closes its pipes first: give it time to leave its own status.
            self._await_exit(seconds=1.0)
        self.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        if code >= 0:
            return f"exit code {code}"
        return f"killed by signal {-code} ({signal.Signals(-code).name})"

    def at_eof(self) -> bool:
        """Whether the process closed its end, as it does when it dies."""
        poller = select.poll()
        poller.register(self._out, select.POLLIN)
        return any(event & select.POLLHUP for _, event in poller.poll(0))

    def _await_exit(self, seconds: float) -> None:
        """Wait without reaping: the process group's id stays ours until `kill` has used it."""
        end = time.monotonic() + seconds
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, self.process.pid, options) is None and time.monotonic() < end:
            time.sleep(0.01)


def _ready(reading: int, writing: int | None, end: float) -> set[int]:
    """Which of the descriptors can be used without waiting, at least one."""
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    if writing is not None:
        poller.register(writing, select.POLLOUT)
    milliseconds = max(0.0, (end - time.monotonic()) * 1000)
    ready = {descriptor for descriptor, _ in poller.poll(milliseconds)}
    if not ready:
        raise WorkerStuckError
    return ready
