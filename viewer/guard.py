"""Who may read: loopback by its own names alone, others with the token; and what a page may load.

Another site can make a browser send requests here (DNS rebinding, forms, images), so the name that
a request is for is checked, and so is where it comes from.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware before every page.

    Args:
        app: the pages.
        token: what a reader must have; empty on loopback, where the name asked for is checked.
        host: the loopback address that is listened at, one more name that it goes by.
    """

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self.app, self.token, self.names = app, token, LOOPBACK | {host}
        # Cookies do not know ports: each viewer of a machine has one of its own.
        self.cookie = f"s2d_view_{hashlib.sha256(token.encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal, or let the page answer, with HEADERS."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("s2d view only reads: GET and HEAD\n", 405)
        elsewhere = headers.get("sec-fetch-site") == "cross-site"
        if elsewhere and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("another site may not read from s2d view\n", 403)
        if self.token:
            return self._without_token(scope, headers)
        if host_name(headers.get("host", "")) not in self.names:
            return PlainTextResponse(
                f"s2d view answers to {', '.join(sorted(self.names))} alone; for another name: "
                "s2d view --host ADDRESS, which asks for a token\n",
                421,
            )
        return None

    def _without_token(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """None for a reader with the cookie; else the token's check, which sets it."""
        cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        if cookie is not None and hmac.compare_digest(cookie.value.encode(), self.token.encode()):
            return None
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(asked).get("token", "")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return PlainTextResponse("open the address with ?token= that s2d view printed\n", 403)
        rest = urlencode([(name, value) for name, value in asked if name != "token"])
        path = "/" + scope["path"].lstrip("/")
        response = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
        return response


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    Example:
        >>> host_name("localhost:8265"), host_name("[::1]:80"), host_name("evil.example")
        ('localhost', '::1', 'evil.example')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
