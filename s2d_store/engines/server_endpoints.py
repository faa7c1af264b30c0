"""The endpoints of a server engine: where they are read from, which of them answer, who is next."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from s2d_store.errors import EngineError, InputError

# How long an endpoint that failed is left alone, doubled each time.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
# How long `require_an_endpoint` waits for each.
CONNECT_S = 2.0
# How often a file of endpoints is looked at.
LOOK_S = 1.0


@dataclass
class Endpoint:
    """One base URL and what is known of it.

    Attributes:
        url: without a slash at its end.
        active: requests under way.
        up: whether it gets requests.
        why: what was wrong when it was last looked at.
        failures: how often in a row it was.
        look_at: when to look at it again, by `time.monotonic`.
    """

    url: str
    active: int = 0
    up: bool = False
    why: str = "not looked at yet"
    failures: int = 0
    look_at: float = 0.0


def read_urls(given: str) -> tuple[list[str], Path | None]:
    """Base URLs of `--url`, and the file that they stand in, if they do.

    Args:
        given: URLs, comma-separated, or the path of a file with one per line; text after # is a
            remark.

    Raises:
        InputError: none, one that is no http URL, one with a password in it, one twice.
    """
    path = None if "://" in given else Path(given)
    if path is not None and not path.is_file():
        raise InputError(
            f"--url {given!r} is neither a URL nor a file of URLs"
            if given
            else "no --url is given",
            "engine server needs to know where its servers are",
            "--url http://localhost:8000, several comma-separated, or a file with one per line",
        )
    text = given.replace(",", "\n") if path is None else path.read_text("utf-8")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    urls = [_checked(line) for line in lines if line]
    where = f"file {path}" if path is not None else "--url"
    if not urls:
        raise InputError(
            f"{where} names no endpoint", fix="one URL per line: http://localhost:8000"
        )
    twice = {url for url in urls if urls.count(url) > 1}
    if twice:
        raise InputError(f"{where} names {min(twice)} twice", "an endpoint is one place to ask")
    return urls, path


def _has_port(parts: SplitResult) -> bool:
    """Whether the port is one, or left out."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def require_an_endpoint(given: str) -> None:
    """Refuse endpoints of which none accepts a connection; nothing is sent.

    Args:
        given: see `read_urls`.

    Raises:
        InputError: see `read_urls`.
        EngineError: naming what is wrong with each.
    """
    endpoints = []
    for url in read_urls(given)[0]:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), CONNECT_S).close()
        except OSError as error:
            endpoints.append(Endpoint(url, why=str(error)))
        else:
            return
    raise no_endpoint(endpoints, 0)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
        raise InputError(f"endpoint {url!r} is no http or https URL", fix="http://HOST:PORT")
    if parts.username or parts.password or parts.query:
        raise InputError(
            f"endpoint http://{parts.hostname} holds a password or a query",
            "keys come from the environment alone, so that none is stored",
            "export S2D_API_KEY=..., and leave them out of the URL",
        )
    # OpenAI's clients are given the /v1 that every path here begins with.
    return url.rstrip("/").removesuffix("/v1")


@dataclass
class Endpoints:
    """Chooses the endpoint for each request. All of its methods run in one event loop.

    Attributes:
        given: see `read_urls`.
        check: looks at an endpoint; returns what is wrong with it, or an empty text.
        wait_s: how long requests wait for an endpoint when none answers.
    """

    given: str
    check: Callable[[str], Awaitable[str]]
    wait_s: float
    known: dict[str, Endpoint] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: tuple[int, int] | None = None

    def read(self) -> None:
        """Take over the endpoints that are named now; one that is no longer gets no requests."""
        urls, path = read_urls(self.given)
        if path is not None:
            stat = path.stat()
            self._seen = (stat.st_mtime_ns, stat.st_size)
        for url in urls:
            self.known.setdefault(url, Endpoint(url))
        for url in set(self.known) - set(urls):
            self.known.pop(url).up = False

    async def look(self, endpoint: Endpoint) -> None:
        """Find out whether an endpoint can be used."""
        why = await self.check(endpoint.url)
        if why:
            self.failed(endpoint, why)
        else:
            endpoint.up, endpoint.why, endpoint.failures = True, "", 0
            self._changed.set()

    async def watch(self) -> None:
        """Read the file again when it changes, and look at endpoints that are out; never ends."""
        while True:
            await asyncio.sleep(LOOK_S / 2)
            self._read_again()
            now = time.monotonic()
            due = [e for e in self.known.values() if not e.up and e.look_at <= now]
            await asyncio.gather(*(self.look(endpoint) for endpoint in due))

    def _read_again(self) -> None:
        path = Path(self.given)
        if self._seen is None:
            return
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._seen:
                self.read()
        except (OSError, InputError):
            # Half written or gone for now: what is known stays, and the next look may find it.
            return

    async def take(self) -> Endpoint:
        """The endpoint with the fewest requests; waits for one where none is up.

        Raises:
            EngineError: none came up in time.
        """
        until = time.monotonic() + self.wait_s
        while True:
            up = [endpoint for endpoint in self.known.values() if endpoint.up]
            if up:
                best = min(up, key=lambda endpoint: endpoint.active)
                best.active += 1
                return best
            left = until - time.monotonic()
            if left <= 0:
                raise no_endpoint(self.known.values(), self.wait_s)
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(left, LOOK_S))
            except TimeoutError:
                continue

    def failed(self, endpoint: Endpoint, why: str) -> None:
        """Leave an endpoint out for a while."""
        endpoint.up, endpoint.why = False, why
        pause = min(FIRST_PAUSE_S * 2**endpoint.failures, LONGEST_PAUSE_S)
        endpoint.failures += 1
        endpoint.look_at = time.monotonic() + pause


def no_endpoint(endpoints: Iterable[Endpoint], wait_s: float) -> EngineError:
    """The error for endpoints of which none can be used."""
    said = "; ".join(f"{e.url}: {e.why}" for e in endpoints) or "none is named"
    waited = f" for {wait_s:g} s" if wait_s else ""
    return EngineError(
        f"no endpoint can be used{waited}",
        said,
        "start the servers; what was finished is stored, the same command goes on",
    )
