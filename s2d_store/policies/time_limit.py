"""Stop Python code that does not end, from any thread and without a signal."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TimeLimitExceeded(BaseException):
    """Raised inside a `time_limit` block; no `except Exception` of the block's code stops it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimitExceeded inside the block once it has run that long.

    The interpreter raises it between two byte codes: a loop of Python (a Jinja template is one)
    ends, while one call into C that never returns would not.
    """
    thread, lock, running = ctypes.c_ulong(threading.get_ident()), threading.Lock(), True

    def interrupt() -> None:
        with lock:
            if running:
                _raise_in(thread, TimeLimitExceeded)

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            running = False
            # One that was set and not yet raised would come up in code after the block.
            _raise_in(thread, None)
        timer.cancel()


def _raise_in(thread: ctypes.c_ulong, kind: type[BaseException] | None) -> None:
    raised = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, raised)
