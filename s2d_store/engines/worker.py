"""One engine in a process of its own, and what it is told and answers. Local and Ray workers are
made of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from s2d_store import errors
from s2d_store.engines.base import Engine
from s2d_store.engines.registry import EngineSettings, find
from s2d_store.errors import EngineError, S2DError


@dataclass(frozen=True)
class Facts:
    """What a worker says of its engine when it is open."""

    name: str
    version: str
    vocab_size: int
    max_model_len: int
    process_id: int = field(compare=False)


@dataclass(frozen=True)
class Task:
    """Work for one worker.

    Attributes:
        task_id: tells its answer apart from others'.
        kind: what to do.
        requests: sample or score requests; of `reload` the location.
        arguments: the method's other arguments.
    """

    task_id: int
    kind: Literal["sample", "score", "reload"]
    requests: Sequence[Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Failure:
    """An error of s2d's, in a form that can be sent."""

    kind: str
    what: str
    why: str
    fix: str

    @classmethod
    def of(cls, error: S2DError) -> Failure:
        """The error's class and texts."""
        return cls(type(error).__name__, error.what, error.why, error.fix)

    def error(self) -> S2DError:
        """The same error, to be raised here."""
        made = getattr(errors, self.kind, EngineError)(self.what, self.why, self.fix)
        assert isinstance(made, S2DError), "S2DError's classes are in s2d_store.errors"
        return made


class EngineWorker:
    """Opens an engine when it is asked for its facts, and does tasks with it, one at a time."""

    def __init__(self, name: str, location: str, settings: Mapping[str, Any]) -> None:
        """Open nothing yet."""
        self._name, self._location, self._settings = name, location, dict(settings)
        self._engine: Engine | None = None

    def open(self) -> Facts | Failure:
        """Load the model."""
        try:
            entry, given = find(self._name), EngineSettings(**self._settings)
            entry.check(given.device, given.dtype)
            self._engine = entry.open(self._location, replace(given, workers=""))
        except S2DError as error:
            return Failure.of(error)
        made = self._engine
        limits = made.vocab_size, made.max_model_len
        return Facts(made.name, made.version, *limits, process_id=os.getpid())

    def work(self, task: Task) -> list[Any] | Failure:
        """Do one task; all of its results, or why there is none."""
        assert self._engine is not None, "opened before it works"
        try:
            if task.kind == "sample":
                return list(self._engine.sample(task.requests, *task.arguments))
            if task.kind == "score":
                return list(self._engine.score(task.requests, *task.arguments))
            return [self._engine.reload(*task.arguments)]
        except S2DError as error:
            return Failure.of(error)

    def close(self) -> None:
        """Free the model."""
        if self._engine is not None:
            self._engine.close()
