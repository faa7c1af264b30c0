"""The proxy: an ASGI application that passes every request on, and keeps what it may store.

Whatever goes wrong with keeping, the request goes on. Headers pass unchanged, keys with them, and
are neither kept nor logged.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from s2d_store.capture import ask_ids, exchange
from s2d_store.capture.ask_ids import Asked, StreamStripper
from s2d_store.capture.exchange import Ended, Exchange, Headers, Route, Server
from s2d_store.capture.settings import Stored
from s2d_store.capture.spool import Spool

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Of one connection alone (RFC 9110, 7.6.1); the length and host are written anew.
_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"}
_HOP |= {b"transfer-encoding", b"upgrade", b"host", exchange.RUN, exchange.GROUP}
_REFUSES_FIELDS = (400, 422)


@dataclass
class Kept:
    """An answer as it comes in, as long as there is memory for it.

    Attributes:
        spool: where it goes.
        size: bytes set aside for it.
        pieces: what came; None once it is let go.
        sse: whether it is a stream of events.
        ended: how it ended.
    """

    spool: Spool
    size: int = 0
    pieces: list[bytes] | None = field(default_factory=list)
    sse: bool = False
    ended: Ended = "client"

    def add(self, piece: bytes) -> None:
        """Keep a piece, or let all of it go where memory is full."""
        if self.pieces is None:
            return
        if self.spool.reserve(len(piece)):
            self.size += len(piece)
            self.pieces.append(piece)
        else:
            self.let_go()
            self.spool.drop()

    def let_go(self) -> None:
        """Return its memory."""
        self.spool.release(self.size)
        self.size, self.pieces = 0, None


class Proxy:
    """See the module.

    Attributes:
        ask_ids: whether ids are asked for; ends where the server refuses the words.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        upstream: str,
        spool: Spool,
        stored: Stored,
        *,
        run: str = "",
        ask_ids: bool = False,
        server: Server | None = None,
    ) -> None:
        """Pass requests on to `upstream`, a base URL without `/v1`."""
        self._client, self._upstream, self._spool = client, upstream, spool
        self._stored, self._run, self.ask_ids = stored, run or stored.default_run(), ask_ids
        self._server = server or Server(upstream)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began, headers = time.time(), scope["headers"]
        route = exchange.route(scope["method"], scope["raw_path"].decode("latin-1"), headers)
        body = await _body(receive)
        if body is None:
            return
        kept = self._keep(body) if route.kind else None
        relay = asyncio.ensure_future(self._relay(scope, route, body, send, kept))
        left = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((relay, left), return_when=asyncio.FIRST_COMPLETED)
            if not relay.done():
                # The client is gone: the server should know, as it would without us.
                relay.cancel()
                await asyncio.wait((relay,))
            if not relay.cancelled():
                relay.result()
        finally:
            left.cancel()
            relay.cancel()
            if kept is not None:
                self._store(kept, route, body, began)

    def _keep(self, body: bytes) -> Kept | None:
        kept = Kept(self._spool)
        kept.add(body)
        if kept.pieces is None:
            return None
        kept.pieces.clear()  # what is set aside for the request stays so
        return kept

    def _store(self, kept: Kept, route: Route, body: bytes, began: float) -> None:
        """Hand an answer over; one of which nothing came, or that is an error, is no rollout."""
        if not kept.pieces:
            kept.let_go()
            return
        self._spool.offer(
            Exchange(
                uuid.uuid4().hex,
                began,
                route.run or self._run,
                route.group,
                route.kind,
                body,
                b"".join(kept.pieces),
                kept.sse,
                kept.ended,
                self._server,
                self._stored,
            )
        )

    async def _relay(
        self, scope: Scope, route: Route, body: bytes, send: Send, kept: Kept | None
    ) -> None:
        """Ask the server and send its answer on, byte for byte where nothing was asked for."""
        asked = ask_ids.ask(route.kind, body) if self.ask_ids and kept else None
        try:
            response, asked = await self._ask(scope, route, body, asked)
        except httpx.HTTPError as error:
            await _refuse(send, self._server.endpoint, error)
            return
        try:
            if kept is not None and response.status_code != 200:
                kept.let_go()
            headers = [(name.lower(), value) for name, value in response.headers.raw]
            sse = _value(headers, b"content-type").startswith(b"text/event-stream")
            if kept is not None:
                kept.sse = sse
            if asked is not None and response.status_code == 200:
                headers = [(n, v) for n, v in headers if n != b"content-length"]
            else:
                asked = None
            headers = [(n, v) for n, v in headers if n not in _HOP]
            if asked is not None and not sse:
                await self._send_stripped(response, headers, asked, send, kept)
            else:
                await self._send(response, headers, asked, send, kept)
        finally:
            await response.aclose()

    async def _ask(
        self, scope: Scope, route: Route, body: bytes, asked: Asked | None
    ) -> tuple[httpx.Response, Asked | None]:
        """The server's answer, its body still to come; a request whose additions it refuses is
        sent again as the client wrote it.

        Raises:
            httpx.HTTPError: there is no answer.
        """
        query = scope["query_string"].decode("latin-1")
        url = f"{self._upstream}{route.path}{'?' if query else ''}{query}"
        headers = [(n, v) for n, v in scope["headers"] if n not in _HOP and n != b"content-length"]
        if route.kind:
            # What is kept must be readable.
            headers = [(n, v) for n, v in headers if n != b"accept-encoding"]
            headers.append((b"accept-encoding", b"identity"))
        method, whole = scope["method"], body
        if asked is not None:
            request = httpx.Request(method, url, headers=headers, content=asked.body)
            response = await self._client.send(request, stream=True)
            if response.status_code not in _REFUSES_FIELDS:
                return response, asked
            await response.aclose()
        # A GET has no body, which an empty one would give a length.
        content = whole if whole or method not in ("GET", "HEAD", "OPTIONS") else None
        request = httpx.Request(method, url, headers=headers, content=content)
        response = await self._client.send(request, stream=True)
        if asked is not None and response.status_code == 200:
            self.ask_ids = False
            print("s2d capture: the server refuses --ask-ids: no longer asked for", flush=True)
        return response, None

    async def _send(
        self,
        response: httpx.Response,
        headers: Headers,
        asked: Asked | None,
        send: Send,
        kept: Kept | None,
    ) -> None:
        """Send pieces on as they come. Where the server breaks off, so do we: the application
        returns before its end, and the connection is closed.
        """
        await _start(send, response.status_code, headers)
        stripper = StreamStripper(asked) if asked is not None else None
        try:
            async for piece in response.aiter_raw():
                if kept is not None:
                    kept.add(piece)
                passed = stripper.feed(piece) if stripper else piece
                if passed:
                    await _piece(send, passed, more=True)
        except httpx.HTTPError:
            if kept is not None:
                kept.ended = "upstream"
            return
        if kept is not None:
            kept.ended = "whole"
        await _piece(send, stripper.end() if stripper else b"", more=False)

    async def _send_stripped(
        self,
        response: httpx.Response,
        headers: Headers,
        asked: Asked,
        send: Send,
        kept: Kept | None,
    ) -> None:
        """Send an answer that has to be whole before it can be stripped."""
        try:
            whole = await response.aread()
        except httpx.HTTPError as error:
            if kept is not None:
                kept.let_go()
            await _refuse(send, self._server.endpoint, error)
            return
        if kept is not None:
            kept.add(whole)
            kept.ended = "whole"
        body = ask_ids.strip(asked, whole)
        headers.append((b"content-length", str(len(body)).encode()))
        await _start(send, response.status_code, headers)
        await _piece(send, body, more=False)


async def _body(receive: Receive) -> bytes | None:
    """A request's whole body; None where the client left before its end."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


async def _left(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _piece(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _refuse(send: Send, endpoint: str, error: httpx.HTTPError) -> None:
    """As OpenAI's API says that it has no answer."""
    text = f"s2d capture: no answer from {endpoint}: {type(error).__name__}"
    body = json.dumps({"error": {"message": text, "type": "upstream_error", "code": 502}}).encode()
    length = (b"content-length", str(len(body)).encode())
    await _start(send, 502, [(b"content-type", b"application/json"), length])
    await _piece(send, body, more=False)


def _value(headers: Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")
