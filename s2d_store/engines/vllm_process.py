"""vLLM's processes: started out of Ctrl-C's reach, watched, and waited for in calls."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import InvalidStateError
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any, TypeVar

from pydantic import ValidationError
from vllm import EngineArgs
from vllm.v1.engine.core_client import SyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.engine.utils import CoreEngineProcManager

from s2d_store.errors import EngineError, load_failure_hint

Item = TypeVar("Item")
# What the engine's processes get to end by themselves before they are killed.
SHUTDOWN_S = 20.0


def start(location: str, settings: Mapping[str, Any]) -> Any:
    """Load a model into a vLLM engine and watch its process.

    Raises:
        EngineError: vLLM cannot load it, with its reason in one line.
    """
    try:
        with _shielded_from_ctrl_c():
            engine = LLMEngine.from_engine_args(EngineArgs(**settings))
    except (OSError, ValueError, RuntimeError, TypeError, ImportError) as error:
        raise EngineError(
            f"vLLM cannot load {location}",
            *load_failure_hint(
                error,
                _reason(error),
                "give a folder written by save_pretrained, or use --engine transformers; "
                "VLLM_LOGGING_LEVEL=INFO shows what vLLM did",
            ),
        ) from error
    _watch(engine.engine_core)
    return engine


@contextmanager
def _shielded_from_ctrl_c() -> Iterator[None]:
    """Start processes that a terminal's Ctrl-C does not reach: it is this process that ends them.

    Processes inherit which signals are blocked; SIGTERM, by which vLLM ends them, is not.
    """
    # Its start ends with SIGINT unblocked: it must not happen in here, before the engine's own.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reason(error: Exception) -> str:
    """One line of what vLLM said, without pydantic's repetition of every value."""
    said = str(error)
    if isinstance(error, ValidationError):
        said = "; ".join(
            ".".join(map(str, fault["loc"])) + ": " * bool(fault["loc"]) + fault["msg"]
            for fault in error.errors(include_url=False, include_input=False)
        )
    return " ".join(said.split())[:500]


def end(engine: Any) -> None:
    """End the engine's processes and free the model."""
    core = engine.engine_core
    core.shutdown(timeout=SHUTDOWN_S)
    if isinstance(core, SyncMPClient):
        # vLLM leaves its context open. Its thread must have closed its sockets first.
        core.output_queue_thread.join(SHUTDOWN_S)
        core.ctx.destroy(linger=0)


@contextmanager
def inside_vllm() -> Iterator[None]:
    """Around a call that waits for the engine: a dead engine is an EngineError."""
    try:
        yield
    except EngineDeadError as error:
        raise EngineError(
            "vLLM's engine process has ended",
            "killed, out of memory, or an error of its own",
            "run the same command again, it continues; VLLM_LOGGING_LEVEL=INFO shows why",
        ) from error


class CtrlC:
    """Holds Ctrl-C back while vLLM's objects come and go, and lets it act between engine steps.

    Raised at once, KeyboardInterrupt may meet one of zmq's destructors, where Python drops it; and
    those run wherever an output of vLLM is freed. A second Ctrl-C does not wait.
    """

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._came: list[int] = []
        self._handler: Callable[[int, FrameType | None], Any] | None = None

    def streamed(self, stream: Generator[Item, None, None]) -> Generator[Item, None, None]:
        """The same items, each made with Ctrl-C held back, as is the closing of the stream."""
        try:
            while True:
                with self._held():
                    item = next(stream, None)
                if item is None:
                    return
                yield item
        finally:
            with self._held():
                stream.close()

    def act(self) -> None:
        """Let a Ctrl-C that was held back take effect here."""
        if self._came and self._handler is not None:
            self._came.clear()
            self._handler(signal.SIGINT, None)

    @contextmanager
    def _held(self) -> Iterator[None]:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler) or current_thread() is not main_thread():
            yield
            return
        self._handler = handler
        signal.signal(signal.SIGINT, self._hold)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
            self.act()

    def _hold(self, signum: int, frame: FrameType | None) -> None:
        self._came.append(signum)
        if len(self._came) > 1:
            self.act()


def _watch(core: Any) -> None:
    """Wake whoever waits for the engine's process when it is killed; vLLM (0.32) does not."""
    if not isinstance(core, SyncMPClient):
        return  # In this process: nothing to outlive.
    manager = core.resources.engine_manager
    if not isinstance(manager, CoreEngineProcManager):
        return
    outputs, sentinels = core.outputs_queue, [process.sentinel for process in manager.processes]

    def wait() -> None:
        connection.wait(sentinels)
        # First the mark, by which later calls are refused; then those that are under way.
        core.resources.engine_dead = True
        for answer in list(core.utility_results.values()):
            with suppress(InvalidStateError):
                answer.set_exception(EngineDeadError())
        outputs.put_nowait(EngineDeadError())

    Thread(target=wait, name="s2d-vllm-watch", daemon=True).start()
