"""Workers that are processes of this machine, with GPUs of their own where there are any."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from s2d_store.engines.worker import EngineWorker, Facts, Failure, Task
from s2d_store.errors import EngineError

END_S = 20.0


class LocalWorkers:
    """A `WorkerPool` of spawned processes.

    Args:
        count: how many.
        name: of the engine.
        location: of the model.
        settings: of the engine.
        gpus: how many GPUs each gets; 0: all see the same devices.

    Raises:
        EngineError: there are fewer GPUs than that, or a model cannot be loaded.
    """

    def __init__(
        self, count: int, name: str, location: str, settings: Mapping[str, Any], gpus: int
    ) -> None:
        visible = _visible_gpus() if gpus else []
        if visible and len(visible) < count * gpus:
            raise EngineError(
                f"{count} workers with {gpus} GPUs each cannot start",
                f"{len(visible)} GPUs are visible here",
                f"--workers {len(visible) // gpus or 1}, or --workers ray on a cluster",
            )
        spawn = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        for index in range(count):
            ours, theirs = spawn.Pipe()
            mine = visible[index * gpus : (index + 1) * gpus]
            process = spawn.Process(
                target=_serve, args=(theirs, name, location, dict(settings), mine), daemon=False
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)
        self.alive = set(range(count))
        self._asked = [0] * count

    def facts(self) -> list[Facts | Failure]:
        """Wait until every model is loaded.

        Raises:
            EngineError: a process ended before.
        """
        found = []
        for index in sorted(self.alive):
            answer = self._receive(index)
            if answer is None:
                raise EngineError(
                    f"worker {index} ended while it loaded the model",
                    f"its exit status is {self._processes[index].exitcode}",
                    "fewer --workers, if memory ran out",
                )
            found.append(answer[1])
        return found

    def send(self, worker: int, task: Task) -> None:
        """Hand a task to a worker; one that is gone shows in `receive`."""
        self._asked[worker] += 1
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connections[worker].send(task)

    def receive(self) -> tuple[int, int, list[Any] | Failure | None]:
        """The next answer: worker, task id, results; None where the worker is gone."""
        waiting = {self._connections[index]: index for index in self.alive}
        ready = connection.wait(list(waiting))
        index = waiting[ready[0]]  # type: ignore[index]
        answer = self._receive(index)
        if answer is None:
            self.alive.discard(index)
            return index, -1, None
        self._asked[index] -= 1
        task_id, results = answer
        return index, task_id, results

    def why_gone(self, worker: int) -> str:
        """How a worker ended."""
        process = self._processes[worker]
        process.join(1)
        return f"its process ended with status {process.exitcode}"

    def close(self) -> None:
        """End every process; those at work are not waited for, since nobody wants their results."""
        for index in self.alive:
            if self._asked[index]:
                self._processes[index].terminate()
            else:
                with suppress(OSError):  # it is gone already
                    self._connections[index].send(None)
        for process in self._processes:
            process.join(END_S)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._connections:
            pipe.close()
        self.alive.clear()

    def _receive(self, index: int) -> Any:
        try:
            return self._connections[index].recv()
        except (EOFError, OSError):
            return None


def _visible_gpus() -> Sequence[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip() and name.strip() != "-1"]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _serve(
    pipe: Connection, name: str, location: str, settings: dict[str, Any], gpus: Sequence[str]
) -> None:
    """The loop of a worker's process."""
    # Ctrl-C reaches the whole group of a terminal: it is the first process that ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # So that an engine's own processes end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    worker = EngineWorker(name, location, settings)
    pipe.send((-1, worker.open()))
    try:
        while (task := pipe.recv()) is not None:
            pipe.send((task.task_id, worker.work(task)))
    except (EOFError, OSError):
        sys.exit(0)  # Whoever asked is gone.
    finally:
        worker.close()
