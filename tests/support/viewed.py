"""A viewer over a store: its pages without a network, or served to a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.testclient import TestClient

from s2d_store.store import Store
from viewer import app
from viewer.serve import listen

HOST = "127.0.0.1"


def client(
    store: Store,
    token: str = "",
    host: str = HOST,
    limit_s: float = 30.0,
    patience_s: float | None = None,
) -> TestClient:
    """The application, called in this process by its loopback name."""
    made = app.application(app.snapshots_of(store, limit_s, patience_s), token, host)
    return TestClient(made, base_url=f"http://{HOST}", follow_redirects=False)


@contextmanager
def served(store: Store) -> Iterator[str]:
    """The address of a server of this store, in a thread of its own."""
    with listen(HOST, 0) as listening:
        config = uvicorn.Config(app.make(store), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://{HOST}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
