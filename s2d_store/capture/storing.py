"""The process that stores what is captured, and its restart where it dies: killed for its memory,
it must neither end the proxy nor hold up its end.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from s2d_store.capture import drain
from s2d_store.store import Store

RESTART_S = 1.0


@contextmanager
def storing(store: Store, folder: Path) -> Iterator[None]:
    """A process that stores what comes into the spool; at the end it stores the rest.

    One that dies is started again; what it had not stored is in the spool.
    """
    context = multiprocessing.get_context("spawn")
    # A pipe, whose end a process sees however the other one ended: setting an Event waits for all
    # who wait for it, even for those that were killed.
    ended, end = context.Pipe(duplex=False)
    stopping = threading.Event()

    def keep() -> None:
        while True:
            process = context.Process(
                target=_follow, args=(str(store.root), str(folder), ended), name="s2d-capture-store"
            )
            process.start()
            process.join()
            if stopping.is_set():
                return
            text = f"the process that stores ended with code {process.exitcode}: started again"
            print(f"s2d capture: {text}", file=sys.stderr, flush=True)
            if stopping.wait(RESTART_S):
                return

    keeper = threading.Thread(target=keep, name="capture-store")
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        end.close()
        keeper.join()
        ended.close()


def _follow(root: str, folder: str, ended: Connection) -> None:
    """The process: Ctrl-C in a terminal reaches it, and is for the proxy to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    drain.follow(root, folder, ended)
