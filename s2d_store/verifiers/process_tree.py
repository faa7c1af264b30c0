"""Every process that a worker started, wherever it hid: found in /proc and killed.

A child that makes a session of its own leaves the worker's process group, so a signal to the group
misses it. It is still below the worker, which adopts orphans; and it inherits an environment
variable that marks it, by which it is found when the worker itself died first. A child that does
both, outliving its worker and clearing its environment, escapes.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MARK = "S2D_VERIFIER_WORKER"
_ROUNDS = 20


def descendants(pid: int) -> set[int]:
    """Processes below `pid`, children of children included."""
    children: dict[int, list[int]] = defaultdict(list)
    for process in _processes():
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
            children[int(fields[1])].append(process)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = [child for child in children[waiting.pop()] if child not in found]
        found.update(new)
        waiting += new
    return found


def marked(mark: str) -> set[int]:
    """Processes whose environment says that they, or one above them, is the worker `mark`."""
    entry = f"{MARK}={mark}".encode()
    found = set()
    for process in _processes():
        with suppress(OSError):
            if entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                found.add(process)
    return found


def kill_worker(pid: int, mark: str) -> None:
    """Kill a worker that is not reaped yet, its process group, and all that it started."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # It starts nothing more.
    _kill(lambda: descendants(pid))
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _kill(lambda: marked(mark) - {pid})


def _kill(find: Callable[[], set[int]]) -> None:
    """Kill what `find` returns until it finds nothing new; each round may uncover more."""
    seen: set[int] = set()
    for _ in range(_ROUNDS):
        new = find() - seen
        if not new:
            return
        seen |= new
        for process in new:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
