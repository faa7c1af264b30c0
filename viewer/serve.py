"""Listen at an address and serve one store until Ctrl-C."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable

import uvicorn

from s2d_store.errors import InputError
from s2d_store.store import Store
from viewer import app

# Seconds that a page waits for a part of it; what takes longer follows.
PATIENCE_S = 0.3


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Raises:
        InputError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(
            f"cannot listen at {host}, port {port}",
            getattr(error, "strerror", None) or str(error),
            "--port 0 takes any free port",
        ) from error
    listening.listen(128)
    return listening


def serve(store: Store, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve a store until it is interrupted.

    Args:
        store: what is shown.
        host: an address of this machine. One that others reach is served with a token alone.
        port: 0 for any free one.
        say: is told the address to open.

    Raises:
        InputError: the address cannot be had.
    """
    with listen(host, port) as listening:
        token = "" if is_loopback(host) else secrets.token_urlsafe(24)
        shown = f"[{host}]" if ":" in host else host
        query = f"?token={token}" if token else ""
        snapshots = app.snapshots_of(store, patience_s=PATIENCE_S)
        config = uvicorn.Config(
            app.application(snapshots, token, host),
            log_level="error",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        warming = threading.Thread(target=app.warm, args=(snapshots,), name="warm")
        warming.start()
        say(f"http://{shown}:{listening.getsockname()[1]}/{query}")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            # DuckDB's threads must not outlive the interpreter.
            snapshots.close()
            warming.join()
