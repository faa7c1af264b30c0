"""A capturing proxy before a server of recorded shapes, both on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from s2d_store.capture.connections import Spread
from s2d_store.capture.drain import Drained, drain
from s2d_store.capture.exchange import Server
from s2d_store.capture.proxy import Proxy
from s2d_store.capture.settings import Stored
from s2d_store.capture.spool import Spool
from s2d_store.store import Store
from tests.support import chat_server
from tests.support.chat_server import Upstream
from viewer.serve import listen

KEY = "Bearer sk-0123456789abcdef0123456789abcdef"


@contextmanager
def serving(make: Callable[[AsyncExitStack], Any]) -> Iterator[str]:
    """An ASGI application on loopback; what it opens, `make` hands to a stack to be closed."""
    listening, started = listen("127.0.0.1", 0), threading.Event()
    servers: list[uvicorn.Server] = []

    async def run() -> None:
        async with AsyncExitStack() as ends:
            app = make(ends)
            config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
            server = uvicorn.Server(config)
            servers.append(server)
            serving = asyncio.ensure_future(server.serve(sockets=[listening]))
            while not server.started:
                await asyncio.sleep(0.005)
            started.set()
            await serving

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        servers[0].should_exit = True
        thread.join(20)
        listening.close()


@dataclass
class Captured:
    """A proxy that runs, its server and its store."""

    url: str
    server_url: str
    upstream: Upstream
    spool: Spool
    proxy: Proxy
    store: Store
    ends: ExitStack

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        """Through the proxy, with a key."""
        return self._post(self.url, path, body, headers)

    def directly(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """The same at the server."""
        return self._post(self.server_url, path, body, {})

    def _post(self, url: str, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["authorization"] = KEY
        return httpx.post(f"{url}{path}", json=body, headers=named, timeout=20)

    def end(self) -> None:
        """End the proxy, and write the spool to its end, as the command does."""
        self.ends.close()

    def drain(self) -> Drained:
        """End, and store what the spool holds."""
        self.end()
        return drain(self.store, self.spool.folder)

    def rollouts(self) -> list[dict[str, Any]]:
        """What was stored."""
        text = "SELECT * FROM raw.rollouts ORDER BY created_at, sample_index"
        return self.store.sql(text).to_arrow_table().to_pylist()


@pytest.fixture
def capturing(tmp_path: Path) -> Iterator[Callable[..., Captured]]:
    """Start a proxy: `capturing(owner="vllm", ask_ids=True)`."""
    with ExitStack() as ends:

        def start(
            owner: str = "vllm", ask_ids: bool = False, max_bytes: int = 1 << 20, **stored: Any
        ) -> Captured:
            store, upstream = Store.init(tmp_path / "store"), Upstream(owner)
            server_url = ends.enter_context(serving(lambda _: chat_server.app(upstream)))
            spool = Spool(tmp_path / "store.spool", max_bytes)
            own = ends.enter_context(ExitStack())
            own.callback(spool.close)
            proxies: list[Proxy] = []

            def make(opened: AsyncExitStack) -> Proxy:
                client = httpx.AsyncClient(timeout=20, transport=Spread(), trust_env=False)
                opened.push_async_callback(client.aclose)
                server = Server(server_url, owner)
                proxy = Proxy(
                    client,
                    server_url,
                    spool,
                    Stored(**stored),
                    run="r",
                    ask_ids=ask_ids,
                    server=server,
                )
                proxies.append(proxy)
                return proxy

            url = own.enter_context(serving(make))
            return Captured(url, server_url, upstream, spool, proxies[0], store, own)

        yield start
