"""Workers that are actors of a Ray cluster: one that runs already, or one on this machine alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from s2d_store.engines.worker import EngineWorker, Facts, Failure, Task
from s2d_store.errors import EngineError, InputError

# An actor that cannot be placed in this time never will: what it needs was counted before.
PLACE_S = 600.0


class RayWorkers:
    """A `WorkerPool` of actors, spread over the cluster's nodes.

    Args:
        count: how many; 0: one for each share of the cluster's GPUs, or one for each node.
        name: of the engine.
        location: of the model; every node must see it.
        settings: of the engine.
        gpus: how many GPUs each needs.

    Raises:
        EngineError: ray is not installed, the cluster cannot be reached, or has too few GPUs.
    """

    def __init__(
        self, count: int, name: str, location: str, settings: Mapping[str, Any], gpus: int
    ) -> None:
        if find_spec("ray") is None:
            raise EngineError(
                "--workers ray needs ray, not installed here",
                "s2d keeps the heavy libraries optional",
                'pip install "s2d[ray]"',
            )
        import ray

        self._ray = ray
        self._started = _connect(ray)
        try:
            per_worker, count = _shares(ray, count, gpus, settings)
            options = {
                "num_gpus": per_worker,
                "num_cpus": 1,
                "max_restarts": 0,
                "scheduling_strategy": "SPREAD",
            }
            actor = ray.remote(EngineWorker).options(**options)
            self._actors = [actor.remote(name, location, dict(settings)) for _ in range(count)]
        except BaseException:
            self._shut_down()
            raise
        self._pending: dict[Any, tuple[int, int]] = {}
        self._why = ""
        self.alive = set(range(count))

    def facts(self) -> list[Facts | Failure]:
        """Wait until every model is loaded.

        Raises:
            EngineError: an actor could not be placed, or died before.
        """
        opened = [actor.open.remote() for actor in self._actors]
        try:
            found: list[Facts | Failure] = self._ray.get(opened, timeout=PLACE_S)
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                "the Ray cluster's workers did not start",
                _said(error),
                "ray status shows what the cluster has; every node needs s2d and the model",
            ) from error
        return found

    def send(self, worker: int, task: Task) -> None:
        """Hand a task to an actor; one that is gone shows in `receive`."""
        self._pending[self._actors[worker].work.remote(task)] = (worker, task.task_id)

    def receive(self) -> tuple[int, int, list[Any] | Failure | None]:
        """The next answer: worker, task id, results; None where the worker is gone."""
        (ready,), _ = self._ray.wait(list(self._pending), num_returns=1)
        worker, task_id = self._pending.pop(ready)
        try:
            return worker, task_id, self._ray.get(ready)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError) as error:
            self._why = _said(error)
            self._pending = {r: told for r, told in self._pending.items() if told[0] != worker}
            self.alive.discard(worker)
            return worker, task_id, None

    def why_gone(self, worker: int) -> str:
        """What Ray said when an actor was last lost."""
        return self._why

    def close(self) -> None:
        """End the actors, and the cluster where it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        self.alive.clear()
        self._pending.clear()
        self._shut_down()

    def _shut_down(self) -> None:
        if self._started:
            self._ray.shutdown()


def _connect(ray: Any) -> bool:
    """Join the cluster that runs, else start one here; whether this process joined just now."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError as error:
        if os.environ.get("RAY_ADDRESS"):
            raise EngineError(
                f"the Ray cluster at {os.environ['RAY_ADDRESS']} cannot be reached",
                _said(error),
                "unset RAY_ADDRESS to start one on this machine",
            ) from error
        ray.init(include_dashboard=False, **quiet)
    return True


def _shares(ray: Any, count: int, gpus: int, settings: Mapping[str, Any]) -> tuple[int, int]:
    """GPUs of each worker, and how many workers."""
    has = int(ray.cluster_resources().get("GPU", 0))
    if not has:
        if str(settings.get("device", "auto")).startswith("cuda"):
            raise EngineError(
                "the Ray cluster has no GPU",
                f"device {settings['device']} was asked for",
                "start its nodes with ray start --num-gpus N, or leave --device out",
            )
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        cpus = int(ray.cluster_resources().get("CPU", 1))
        if count > cpus:
            raise EngineError(
                f"{count} workers cannot start on a Ray cluster with {cpus} CPUs",
                "each takes at least one",
                f"--workers ray:{cpus}",
            )
        return 0, count or nodes
    if (count or 1) * gpus > has:
        raise EngineError(
            f"{count or 1} workers with {gpus} GPUs each cannot start",
            f"the Ray cluster has {has} GPUs",
            f"--workers ray:{has // gpus}" if has >= gpus else "a smaller tensor_parallel_size",
        )
    return gpus, count or has // gpus


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def check_count(text: str) -> None:
    """Refuse a number of workers that is none."""
    if not text.isdigit() or not 0 < int(text) <= 4096:
        raise InputError(
            f"--workers {text!r} is no number of workers",
            "it is N processes of this machine, or ray, or ray:N",
            "--workers 4, or --workers ray:16",
        )
