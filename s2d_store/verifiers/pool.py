"""Verifiers in a pool of processes, each item under a hard deadline and a memory limit.

Every worker process is driven by one thread of the pool, which keeps it supplied with items and
reads one reply per item, in the items' order. A worker that stays silent past the deadline is
killed and replaced; only the item it was on becomes a `timeout`, those behind it go back to the
queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from s2d_store.errors import InputError, S2DError
from s2d_store.verifiers.base import Item, Needs, Verdict
from s2d_store.verifiers.registry import resolve
from s2d_store.verifiers.worker import to_wire
from s2d_store.verifiers.worker_process import (
    STARTUP_S,
    WorkerDiedError,
    WorkerProcess,
    WorkerStuckError,
)

QUEUE_AHEAD_S = 0.05
"""Aimed-at work a worker holds: long enough to hide the pipe, short enough to balance workers."""
MAX_SUPPLY_ITEMS = 64
MAX_SUPPLY_CHARS = 1 << 20
PAUSE_S = 0.002
IN_FLIGHT_PER_WORKER = 128
START_PAUSES_S = (0.2, 1.0, 5.0)
"""Waits before a start that failed is tried again: a busy machine must not end a run of hours."""


class _ClosedError(Exception):
    """The pool was closed while a worker was in use."""


class _NotStartedError(Exception):
    """A worker did not start: what to say of it, and whether the verifier itself failed."""

    def __init__(self, says: S2DError, *, verifier_failed: bool) -> None:
        super().__init__(says.what)
        self.says, self.verifier_failed = says, verifier_failed


class _Call:
    """One running `grade_many`: where its results go, and whether they are still wanted."""

    def __init__(self) -> None:
        self.results: SimpleQueue[tuple[str, Verdict, float] | None] = SimpleQueue()
        self.wanted = True


@dataclass(frozen=True)
class _Task:
    item: Item
    call: _Call

    def finish(self, verdict: Verdict, seconds: float) -> None:
        self.call.results.put((self.item.rollout_id, verdict, seconds))


class VerifierPool:
    """Grades items in worker processes that may hang, crash or outgrow their memory.

    A worker's standard output and error are discarded; it sees the parent's `sys.path` and
    environment but never its `__main__`, and it dies with the parent.

    Args:
        verifier: what `registry.load_verifier` takes.
        workers: processes, at least 1.
        deadline_s: wall-clock seconds for one item; past it the worker is killed.
        memory_bytes: limit on a worker's address space, the verifier's libraries included.

    Attributes:
        name: the verifier's own name, to be stored with every reward.
        version: the verifier's own version, to be stored with every reward.
        needs: what of an item it is given; the rest may be left out of items.
        description: what else of the verifier is stored with the run, as JSON values.

    Raises:
        InputError: an argument is out of range, or the verifier cannot be created.
        NotFoundError: no such verifier, module or class.
    """

    def __init__(
        self, verifier: str, workers: int, deadline_s: float = 5.0, memory_bytes: int = 2 << 30
    ) -> None:
        limits = {"workers": workers, "deadline_s": deadline_s, "memory_bytes": memory_bytes}
        for label, value in limits.items():
            if value <= 0:
                raise InputError(f"{label} = {value} must be positive", fix=f"raise {label}")
        self._verifier, self._spec = verifier, resolve(verifier)
        self._deadline_s, self._memory_bytes = deadline_s, memory_bytes
        self._workers = workers
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._live: set[WorkerProcess] = set()
        self._calls: set[_Call] = set()
        self._seconds_per_item = QUEUE_AHEAD_S
        self._closed = False
        self._failure: S2DError | None = None
        hellos: SimpleQueue[dict[str, Any] | S2DError] = SimpleQueue()
        # Linux ends a worker when the thread that started it ends (PR_SET_PDEATHSIG), so only
        # threads that live as long as the pool start workers.
        self._threads = [
            threading.Thread(target=self._serve, args=(hellos,), daemon=True, name="s2d-verifier")
            for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()
        try:
            for _ in self._threads:
                hello = hellos.get()
                if isinstance(hello, S2DError):
                    raise hello
                self.name, self.version = hello["name"], hello["version"]
                self.needs = Needs(*hello["needs"])
                self.description = hello["description"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill and reap every worker; running `grade_many` calls raise. Safe to repeat."""
        with self._lock:
            self._closed = True
            for worker in self._live:
                worker.kill()
            for call in self._calls:
                call.results.put(None)
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def pids(self) -> list[int]:
        """Process ids of the workers that live now; a replacement has another."""
        with self._lock:
            return [worker.process.pid for worker in self._live]

    def grade_many(self, items: Iterable[Item]) -> Iterator[tuple[str, Verdict, float]]:
        """Grade a stream; may be called again, and from several threads at once.

        Args:
            items: read one by one in the calling thread and only as fast as results are taken: at
                most 128 items per worker are in flight. A slow source holds no result back for
                longer than its next item takes.

        Yields:
            (rollout_id, verdict, seconds spent on it) for every item, in the order they are
            finished. The reward is None where the outcome is `timeout` or `error`.

        Raises:
            S2DError: the pool is closed, or a worker could not be replaced.
        """
        call = _Call()
        with self._lock:
            self._calls.add(call)
        source, in_flight, more = iter(items), 0, True
        try:
            while True:
                self._check_open()
                reading = more and in_flight < IN_FLIGHT_PER_WORKER * self._workers
                if reading:
                    item = next(source, None)
                    if item is None:
                        more = False
                        continue
                    self._tasks.put(_Task(item, call))
                    in_flight += 1
                    if call.results.empty():
                        continue
                elif not in_flight:
                    return
                result = call.results.get()
                if result is not None:
                    in_flight -= 1
                    yield result
        finally:
            call.wanted = False
            with self._lock:
                self._calls.discard(call)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise S2DError("this verifier pool is closed", fix="create a new VerifierPool")

    def _serve(self, hellos: SimpleQueue[dict[str, Any] | S2DError]) -> None:
        """Drive one worker, replaced as needed, until the pool closes."""
        # What callers get if this thread ends on an error nobody foresaw: never a silent hang.
        failure = S2DError(
            "a verifier pool stopped serving",
            why="its thread ended on the error printed above",
            fix="report that error; verdicts given before it stand",
        )
        hello: dict[str, Any] | S2DError = failure
        try:
            worker, hello = self._start_patiently(first=True)
        except _ClosedError:
            return
        except S2DError as error:
            hello = error
            return
        finally:
            hellos.put(hello)
        try:
            while (first := self._tasks.get()) is not None and not self._closed:
                if worker.at_eof():  # It died without work: no item is to blame.
                    self._retire(worker)
                    worker, _ = self._start_patiently()
                if not self._grade(worker, first):
                    worker, _ = self._start_patiently()
        except _ClosedError:
            return
        except S2DError as error:
            failure = error
        finally:
            self._retire(worker)
            if not self._closed:
                self._fail(failure)

    def _fail(self, error: S2DError) -> None:
        with self._lock:
            self._failure = error
            for call in self._calls:
                call.results.put(None)

    def _start_patiently(self, *, first: bool = False) -> tuple[WorkerProcess, dict[str, Any]]:
        """`_start`, tried again where it fails: a verifier that started once can start again.

        At the `first` start only what the machine may be to blame for is tried again, once.
        """
        pauses = START_PAUSES_S[:1] if first else START_PAUSES_S
        for pause in pauses:
            try:
                return self._start()
            except _NotStartedError as error:
                if first and error.verifier_failed:
                    raise error.says from None
            time.sleep(pause)
            if self._closed:
                raise _ClosedError
        try:
            return self._start()
        except _NotStartedError as error:
            raise error.says from None

    def _start(self) -> tuple[WorkerProcess, dict[str, Any]]:
        """A worker that has created its verifier, and its name, version and needs."""
        with self._lock:
            if self._closed:
                raise _ClosedError
            try:
                worker = WorkerProcess(self._spec, self._memory_bytes)
            except OSError as error:
                says = S2DError("cannot start a verifier process", why=str(error))
                raise _NotStartedError(says, verifier_failed=False) from error
            self._live.add(worker)
        try:
            hello = worker.hello()
        except WorkerStuckError:
            hello = {"failed": "", "why": f"it was not ready after {STARTUP_S:g} s", "lost": True}
        except WorkerDiedError:
            hello = {"failed": "", "why": "its process ended at the start", "lost": True}
        if "failed" not in hello:
            return worker, hello
        ending = self._retire(worker)
        if self._closed:
            raise _ClosedError
        says = InputError(
            hello["failed"] or f"verifier {self._verifier!r} cannot be created",
            why=f"{hello['why']} ({ending})",
            fix=hello.get("fix")
            or f"make {self._spec} work without arguments, or raise "
            f"memory_bytes (now {self._memory_bytes})",
        )
        raise _NotStartedError(says, verifier_failed="lost" not in hello)

    def _retire(self, worker: WorkerProcess) -> str:
        """Kill and reap a worker, once: afterwards its process id may be somebody else's."""
        with self._lock:
            if worker not in self._live:
                return ""
            self._live.remove(worker)
        return worker.end()

    def _gather(self, size: int) -> list[_Task]:
        """At most `size` waiting tasks, fewer when their texts are long."""
        found: list[_Task] = []
        chars = 0
        with suppress(Empty):
            while len(found) < size and chars < MAX_SUPPLY_CHARS:
                task = self._tasks.get_nowait()
                if task is None:
                    self._tasks.put(None)
                    break
                if task.call.wanted:
                    found.append(task)
                    chars += len(task.item.response)
        return found

    def _grade(self, worker: WorkerProcess, first: _Task) -> bool:
        """Grade `first` and whatever waits; False when the worker is gone.

        What a lost worker had not begun is queued again.
        """
        sent: deque[_Task] = deque()
        fresh = [first] if first.call.wanted else []
        began = time.monotonic()
        try:
            while True:
                held = len(sent) + len(fresh)
                full = max(1, int(QUEUE_AHEAD_S / max(self._seconds_per_item, 1e-6)))
                full = min(MAX_SUPPLY_ITEMS, full)
                # Supplied anew at half, so that the worker never waits for this thread.
                if held <= full // 2:
                    fresh += self._gather(full - held)
                if fresh:
                    sent.extend(fresh)
                    worker.post(to_wire(task.item, self.needs) for task in fresh)
                    fresh = []
                if not sent:
                    return True
                if len(sent) > 2:
                    # Replies that come meanwhile cost one wake-up of this process together.
                    time.sleep(PAUSE_S)
                began = time.monotonic()
                for *fields, seconds, retire in worker.receive(self._deadline_s):
                    sent.popleft().finish(Verdict(*fields), seconds)
                    self._seconds_per_item += 0.1 * (seconds - self._seconds_per_item)
                    if retire:
                        self._retire(worker)
                        self._requeue(sent)
                        return False
        except WorkerStuckError:
            seconds = time.monotonic() - began
            verdict = Verdict(None, "timeout", detail=f"no verdict within {self._deadline_s:g} s")
            self._retire(worker)
        except WorkerDiedError:
            seconds = time.monotonic() - began
            verdict = Verdict(None, "error", detail=f"the worker died: {self._retire(worker)}")
        if self._closed:
            raise _ClosedError
        sent.popleft().finish(verdict, seconds)
        self._requeue(sent)
        return False

    def _requeue(self, left: Iterable[_Task]) -> None:
        for task in left:
            self._tasks.put(task)
