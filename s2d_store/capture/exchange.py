"""One request that passed through the proxy, and its answer: a line of the spool. No I/O here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import unquote

from s2d_store.capture.settings import Stored

Headers = list[tuple[bytes, bytes]]
Kind = Literal["", "chat/completions", "completions"]
# whole: to its end; upstream: the server broke off; client: the client left.
Ended = Literal["whole", "upstream", "client"]

RUN, GROUP = b"x-s2d-run", b"x-s2d-group"
_PREFIX = re.compile(r"(?:/run/([^/]+))?(?:/group/([^/]+))?(/.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, and where its rollouts belong.

    Attributes:
        kind: which API it is; empty for one that is passed on without being stored.
        path: the path at the server.
        run: the run that it names; empty for none.
        group: the group that it names; empty for none.
    """

    kind: Kind
    path: str
    run: str
    group: str


def route(method: str, path: str, headers: Headers) -> Route:
    """Read a request's path and headers; a header counts before the path's prefix.

    Args:
        method: of HTTP.
        path: as sent, percent-encoded: `[/run/NAME][/group/ID]/v1/...`.
        headers: names in lower case.
    """
    match = _PREFIX.fullmatch(path)
    run, group, rest = match.groups("") if match else ("", "", path)
    named = {name: value.decode("latin-1") for name, value in headers if name in (RUN, GROUP)}
    kind: Kind = ""
    if method == "POST" and rest.endswith("/chat/completions"):
        kind = "chat/completions"
    elif method == "POST" and rest.endswith("/completions"):
        kind = "completions"
    return Route(kind, rest, named.get(RUN) or unquote(run), named.get(GROUP) or unquote(group))


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of the server behind the proxy.

    Attributes:
        endpoint: its URL, secrets masked.
        name: vllm, sglang, or server where nothing tells.
        version: as it says.
    """

    endpoint: str
    name: str = "server"
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came back. Headers are no part of it, and so no keys.

    Attributes:
        exchange: its own id: stored twice, it adds nothing.
        at: seconds since 1970 when it was asked.
        run: the run that it belongs to.
        group: the group that the client named; empty for none.
        kind: which API.
        request: the client's body.
        response: the server's body, as it sent it.
        sse: whether that is a stream of events.
        ended: how it ended.
        server: who answered.
        stored: what its rollouts say of themselves.
    """

    exchange: str
    at: float
    run: str
    group: str
    kind: Kind
    request: bytes
    response: bytes
    sse: bool
    ended: Ended
    server: Server
    stored: Stored

    @property
    def size(self) -> int:
        """Bytes that it holds in memory."""
        return len(self.request) + len(self.response)

    def line(self) -> bytes:
        """One line of JSON. Bytes that are no UTF-8 are no JSON either, so nothing is lost."""
        told: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("exchange", "at", "run", "group", "kind", "sse", "ended")
        }
        told |= {"server": asdict(self.server), "stored": self.stored.identity()}
        told["request"] = self.request.decode(errors="replace")
        told["response"] = self.response.decode(errors="replace")
        return json.dumps(told, ensure_ascii=False).encode() + b"\n"
