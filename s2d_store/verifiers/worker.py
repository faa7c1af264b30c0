"""One worker of a `VerifierPool`: the process that grades, and the parent's handle on it.

Messages are JSON, one a line. In: `{"spec", "memory_bytes", "parent"}` once, then items
`[response, answer]`. Out: `{"name", "version"}` or `{"failed"}` once, then for each item, as soon
as it is graded, `[reward, outcome, extracted, detail, seconds, retire]`; `retire` asks for a fresh
worker. One line an item both ways: whatever a worker dies of, be it reading an item, the parent
knows which item it was on.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

from s2d_store.errors import S2DError
from s2d_store.redact import redact
from s2d_store.verifiers.base import OUTCOMES, Verdict, Verifier
from s2d_store.verifiers.registry import load_verifier

PR_SET_PDEATHSIG = 1
MAX_DETAIL_CHARS = 500
STARTUP_S = 120.0


def grade(verifier: Verifier, line: bytes) -> tuple[Verdict, bool]:
    """The verdict on the item in one line, and whether this process should be replaced after it.

    The one place where any exception of a verifier becomes an outcome instead of a traceback.
    """
    try:
        response, answer = json.loads(line)
        return check_verifier(verifier.verify(response, answer)), False
    except MemoryError as error:
        # What the verifier left allocated would fail the next items too: ask to be replaced.
        return Verdict(0.0, "error", detail=f"memory limit reached: {error!r}"), True
    except Exception as error:
        detail = redact(f"{type(error).__name__}: {error}")
        return Verdict(0.0, "error", detail=detail[:MAX_DETAIL_CHARS]), False


def check_verifier(verdict: Verdict) -> Verdict:
    """`verdict`, or an `error` verdict that says what is wrong with it.

    Its detail is stored, so secrets in it are masked: a verifier that calls a service may name its
    key.
    """
    problem = ""
    if not isinstance(verdict, Verdict):
        problem = f"the verifier returned {type(verdict).__name__}, not a Verdict"
    elif verdict.outcome not in OUTCOMES:
        problem = f"the verifier returned the unknown outcome {verdict.outcome!r}"
    elif not isinstance(verdict.reward, int | float) or not math.isfinite(verdict.reward):
        problem = f"the verifier returned the reward {verdict.reward!r}"
    elif not isinstance(verdict.extracted, str) or not isinstance(verdict.detail, str):
        problem = "the verifier returned an `extracted` or `detail` that is not text"
    if problem:
        return Verdict(0.0, "error", detail=problem)
    texts = [verdict.extracted, redact(verdict.detail)]
    if all(map(storable, texts)):
        return verdict if texts[1] == verdict.detail else replace(verdict, detail=texts[1])
    # A lone surrogate is in no UTF-8 text, so neither in Parquet nor in Delta.
    cut = [text.encode("utf-8", "replace").decode() for text in texts]
    return Verdict(verdict.reward, verdict.outcome, *cut)


def storable(text: str) -> bool:
    """Whether `text` can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def apply_limits(memory_bytes: int, parent: int) -> None:
    """Bound this process: its address space, its life by its parent's, its SIGINT to none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        # The parent died before prctl, so no signal will come.
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, moved away from where a verifier's input() and print() go."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return incoming, outgoing


def send(outgoing: BinaryIO, message: object) -> None:
    """Write one message and flush it."""
    outgoing.write(json.dumps(message).encode() + b"\n")
    outgoing.flush()


def main() -> None:
    """Serve until the parent closes the pipe or dies."""
    incoming, outgoing = private_pipes()
    start = json.loads(incoming.readline())
    apply_limits(start["memory_bytes"], start["parent"])
    try:
        verifier = load_verifier(start["spec"])
    except S2DError as error:
        send(outgoing, {"failed": error.what, "why": error.why, "fix": error.fix})
        sys.exit(1)
    except Exception as error:
        send(outgoing, {"failed": "", "why": f"{type(error).__name__}: {error}", "fix": ""})
        sys.exit(1)
    send(outgoing, {"name": verifier.name, "version": verifier.version})
    for line in incoming:
        began = time.perf_counter()
        verdict, retire = grade(verifier, line)
        seconds = time.perf_counter() - began
        fields = [float(verdict.reward), verdict.outcome, verdict.extracted, verdict.detail]
        send(outgoing, [*fields, seconds, retire])


class WorkerStuckError(Exception):
    """The worker said nothing within the time it had."""


class WorkerDiedError(Exception):
    """The worker's end of a pipe is closed."""


class WorkerProcess:
    """A worker process, as the thread of the parent that drives it sees it.

    Args:
        spec: `module:Class` of the verifier.
        memory_bytes: limit on the process's address space.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(self, spec: str, memory_bytes: int) -> None:
        # The parent's import path, and no `-m` folder before it: workers see the same modules.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "s2d_store.verifiers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **threads, "PYTHONPATH": path},
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._unread = b""
        self._unsent: deque[memoryview] = deque()
        self._first = {"spec": spec, "memory_bytes": memory_bytes, "parent": os.getpid()}

    def hello(self) -> dict[str, str]:
        """Send what the worker needs to start, and return its first message."""
        self.post([self._first])
        first: dict[str, str] = self.receive(STARTUP_S)[0]
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
        while b"\n" not in self._unread:
            if self._in in _ready(self._out, self._in if self._unsent else None, end):
                self._write()
                continue
            chunk = os.read(self._out, 1 << 16)
            if not chunk:
                raise WorkerDiedError
            self._unread += chunk
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
        """Kill the process and whatever it started in its session; it may be dead already."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

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


if __name__ == "__main__":
    main()
