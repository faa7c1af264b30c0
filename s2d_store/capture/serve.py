"""Run the proxy until Ctrl-C: its spool, the process that stores, and what the server tells."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args, get_type_hints

import httpx
import uvicorn

from s2d_store.capture import drain
from s2d_store.capture.connections import Spread
from s2d_store.capture.exchange import Server
from s2d_store.capture.places import spool_folder
from s2d_store.capture.proxy import Proxy
from s2d_store.capture.settings import CaptureConfig, Stored
from s2d_store.capture.spool import Spool
from s2d_store.capture.storing import storing
from s2d_store.errors import InputError
from s2d_store.ids import check_name
from s2d_store.redact import redact
from s2d_store.store import Store

_PROBE_S = 3.0
# A server may think for long before its first token.
_TIMEOUT = httpx.Timeout(None, connect=30.0)


def check(config: CaptureConfig) -> str:
    """The server's base URL, without `/v1`.

    Raises:
        InputError: it is no URL of a server, or the run or policy is no usable name.
    """
    try:
        url = httpx.URL(config.upstream)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(
            f"--upstream {config.upstream!r} is no server's URL",
            "it begins with http:// or https://",
            "s2d capture --upstream http://localhost:8000",
        )
    for name in ("role", "purpose", "logprobs"):
        allowed, value = get_args(get_type_hints(Stored)[name]), getattr(config, name)
        if value not in allowed:
            known = ", ".join(filter(None, allowed))
            raise InputError(f"--{name} {value!r} is unknown", f"there are: {known}")
    for name, what in ((config.run, "run"), (config.policy, "policy")):
        if name:
            check_name(name, what)
    return config.upstream.rstrip("/").removesuffix("/v1")


def probe(upstream: str) -> Server:
    """What a server says of itself without a key; nothing is a good answer, too."""
    endpoint, name, version = redact(upstream), "server", None
    with suppress(httpx.HTTPError, ValueError, KeyError, IndexError, TypeError):
        owner = httpx.get(f"{upstream}/v1/models", timeout=_PROBE_S).json()["data"][0]["owned_by"]
        name = owner if owner in ("vllm", "sglang") else name
        if name == "vllm":
            told = httpx.get(f"{upstream}/version", timeout=_PROBE_S).json()["version"]
            version = told if isinstance(told, str) else None
    return Server(endpoint, name, version)


def serve(
    store: Store, config: CaptureConfig, listening: socket.socket, say: Callable[[str], None]
) -> drain.Drained:
    """Serve until interrupted, then store what is left.

    Args:
        store: where rollouts go.
        config: the command.
        listening: a socket on loopback.
        say: is told the address, and what is known of the server.

    Returns:
        What the end had left to store; nearly all was stored as it came.

    Raises:
        InputError: see `check`.
    """
    upstream, folder = check(config), spool_folder(store, config)
    server = probe(upstream)
    port = listening.getsockname()[1]
    say(f"http://127.0.0.1:{port}/v1 -> {upstream} ({_about(server, config)}); Ctrl-C ends it")
    say(f"run {config.run or config.default_run()} in {store.root}, spool {folder}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with storing(store, folder), _spool(folder) as spool, suppress(KeyboardInterrupt):
        asyncio.run(_serve(upstream, config, server, spool, listening))
    lost = f", {spool.dropped} passed without being kept" if spool.dropped else ""
    say(f"{spool.taken} requests kept{lost}")
    return drain.drain(store, folder)


def _about(server: Server, config: CaptureConfig) -> str:
    if config.logprobs:
        return f"{server.name}, logprobs {config.logprobs}"
    if server.name == "vllm":
        return f"vllm {server.version or ''}, logprobs raw".replace(" ,", ",")
    return f"{server.name}, logprobs raw only where temperature and top_p are 1: see --logprobs"


async def _serve(
    upstream: str,
    config: CaptureConfig,
    server: Server,
    spool: Spool,
    listening: socket.socket,
) -> None:
    # No proxies and no .netrc of the environment: the client's own headers, and no others.
    client = httpx.AsyncClient(timeout=_TIMEOUT, transport=Spread(), trust_env=False)
    async with client:
        app = Proxy(
            client,
            upstream,
            spool,
            config.stored,
            run=config.run,
            ask_ids=config.ask_ids,
            server=server,
        )
        settings = uvicorn.Config(
            app,
            log_level="critical",
            lifespan="off",
            ws="none",
            access_log=False,
            server_header=False,
            date_header=False,
        )
        await uvicorn.Server(settings).serve(sockets=[listening])


@contextmanager
def _spool(folder: Path) -> Iterator[Spool]:
    spool = Spool(folder)
    try:
        yield spool
    finally:
        spool.close()
