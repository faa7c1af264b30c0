"""Carries calls to inference servers: many in flight, tried again where that may help.

An event loop in a thread of its own sends and receives while the caller stores what came before.
"""

from __future__ import annotations

import asyncio
import json
import queue
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from s2d_store.engines.server_dialect import BadAnswer, Call
from s2d_store.engines.server_endpoints import Endpoint, Endpoints, no_endpoint
from s2d_store.errors import EngineError

Item = TypeVar("Item")
Result = TypeVar("Result")
T = TypeVar("T")

# Too busy, or about to be there: not the request's fault.
BUSY = frozenset({429, 503})
AGAIN = frozenset({408, 409, 425, 500, 502, 504})
# Bodies above this are read in a worker thread, so that the loop goes on.
LARGE_BYTES = 1 << 18
LONGEST_BACKOFF_S = 30.0
# httpx looks through all connections of a client for each request: many clients have few each.
REQUESTS_PER_CLIENT = 16


@dataclass(frozen=True)
class Limits:
    """How calls are carried.

    Attributes:
        in_flight: requests that are sent and not answered yet, over all endpoints.
        timeout_s: until an answer has to be there.
        attempts: how often an answer may be lost or wrong before its request is rejected.
        wait_s: how long to wait while no endpoint answers, or all are too busy.
    """

    in_flight: int = 256
    timeout_s: float = 3600.0
    attempts: int = 5
    wait_s: float = 120.0


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """A request and what came of it: a result and who gave it, or why there is none."""

    item: Item
    result: Result | None
    endpoint: str
    why: str = ""


class Refused(Exception):
    """The server says that the request itself is wrong: nobody else would take it either."""

    def __init__(self, status: int, said: str) -> None:
        self.status, self.said = status, said
        super().__init__(f"{status}: {said}")


class Lost(Exception):
    """No whole answer came; `sent` says whether the request may have reached the server."""

    def __init__(self, why: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(why)


class Busy(Exception):
    """The server asks to come again later, after that many seconds where it says."""

    def __init__(self, why: str, after_s: float | None) -> None:
        self.after_s = after_s
        super().__init__(why)


class ServerClient:
    """HTTP to all endpoints of an engine. Close it.

    Args:
        given: endpoints, see `server_endpoints.read_urls`.
        key: sent as a bearer token; None: nothing is.
        limits: how calls are carried.
        check: looks at an endpoint that is new or was out, before it gets requests.
    """

    def __init__(
        self,
        given: str,
        key: str | None,
        limits: Limits,
        check: Callable[[ServerClient, str], Awaitable[str]],
    ) -> None:
        self.limits = limits
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="s2d-server-client", daemon=True
        )
        self._thread.start()
        self._check = check
        self.endpoints: Endpoints = self.run(self._make(given))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._clients: list[httpx.AsyncClient] = self.run(self._open(headers))
        self._watch: Future[None] | None = None

    async def _make(self, given: str) -> Endpoints:
        endpoints = Endpoints(given, lambda url: self._check(self, url), self.limits.wait_s)
        endpoints.read()
        return endpoints

    async def _open(self, headers: dict[str, str]) -> list[httpx.AsyncClient]:
        trusted = httpx.create_ssl_context()
        return [
            httpx.AsyncClient(
                headers=headers,
                verify=trusted,
                timeout=httpx.Timeout(self.limits.timeout_s, connect=10.0),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            )
            for _ in range(-(-self.limits.in_flight // REQUESTS_PER_CLIENT))
        ]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop's thread and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def look_at_all(self) -> None:
        """Look at every endpoint once, then go on looking at those that are out.

        Raises:
            EngineError: none can be used.
        """

        async def look() -> None:
            known = list(self.endpoints.known.values())
            await asyncio.gather(*(self.endpoints.look(endpoint) for endpoint in known))
            if not any(endpoint.up for endpoint in known):
                raise no_endpoint(known, 0)

        self.run(look())
        self._watch = asyncio.run_coroutine_threadsafe(self.endpoints.watch(), self._loop)

    async def send(self, url: str, call: Call, http: httpx.AsyncClient | None = None) -> Any:
        """Send one call to one endpoint and read its JSON.

        Args:
            url: of the endpoint.
            call: the request.
            http: which client carries it; None: the first.

        Raises:
            Refused: the request is wrong.
            Busy: the server has no room.
            Lost: no whole answer came.
            BadAnswer: what came is no JSON.
        """
        http = http or self._clients[0]
        try:
            if call.body is None:
                response = await http.get(url + call.path)
            else:
                response = await http.post(url + call.path, json=call.body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Lost(_said(error, "it cannot be reached"), sent=False) from error
        except httpx.HTTPError as error:
            raise Lost(_said(error, "the connection was lost"), sent=True) from error
        if response.status_code in BUSY:
            raise Busy(_message(response), _after(response))
        if response.status_code in AGAIN:
            raise Lost(f"status {response.status_code}: {_message(response)}", sent=True)
        if response.status_code >= 300:
            raise Refused(response.status_code, _message(response))
        try:
            if len(response.content) > LARGE_BYTES:
                return await asyncio.to_thread(json.loads, response.content)
            return json.loads(response.content)
        except ValueError as error:
            raise BadAnswer(f"it is no JSON: {error}") from error

    def stream(
        self,
        items: Iterable[Item],
        call: Callable[[Item], Call],
        read: Callable[[Item, Any, str], Result],
    ) -> Generator[Done[Item, Result], None, None]:
        """Carry a call per item; results in the order in which they come.

        At most twice `in_flight` items are taken from `items` and not handed out yet, so a caller
        that stores slowly slows the sending. Closing the generator cancels what is under way.

        Args:
            items: what to ask for; taken from in the caller's thread.
            call: the request of one.
            read: its result from the JSON that an endpoint answered; in the loop's thread or a
                worker. Raises `BadAnswer` for what cannot be stored.

        Raises:
            EngineError: the servers refuse a request, or none answers for too long.
        """
        finished: queue.SimpleQueue[Future[Done[Item, Result]]] = queue.SimpleQueue()
        slots = self.run(self._slots())
        under_way: set[Future[Done[Item, Result]]] = set()
        waiting = iter(items)
        try:
            while True:
                while len(under_way) < 2 * self.limits.in_flight:
                    item = next(waiting, None)
                    if item is None:
                        break
                    work = self._carry(item, call, read, slots)
                    future = asyncio.run_coroutine_threadsafe(work, self._loop)
                    under_way.add(future)
                    future.add_done_callback(finished.put)
                if not under_way:
                    return
                future = finished.get()
                under_way.discard(future)
                yield future.result()
        finally:
            for future in under_way:
                future.cancel()

    async def _carry(
        self,
        item: Item,
        call: Callable[[Item], Call],
        read: Callable[[Item, Any, str], Result],
        slots: asyncio.Queue[httpx.AsyncClient],
    ) -> Done[Item, Result]:
        http = await slots.get()
        try:
            return await self._attempt(item, call, read, http)
        finally:
            slots.put_nowait(http)

    async def _attempt(
        self,
        item: Item,
        call: Callable[[Item], Call],
        read: Callable[[Item, Any, str], Result],
        http: httpx.AsyncClient,
    ) -> Done[Item, Result]:
        failures, busy_until, why, url = 0, time.monotonic() + self.limits.wait_s, "", ""
        bad: set[str] = set()
        asked = call(item)
        while failures < self.limits.attempts:
            endpoint = await self.endpoints.take()
            url = endpoint.url
            try:
                answer = await self.send(url, asked, http)
                return Done(item, read(item, answer, url), url)
            except Refused as error:
                raise _refused(url, error) from error
            except Busy as error:
                why = f"{url} is too busy: {error}"
                pause = error.after_s
                failures += time.monotonic() > busy_until
            except Lost as error:
                why, pause = f"{url}: {error}", None
                failures += error.sent
                self._fail(endpoint, error)
            except BadAnswer as error:
                # The same seed mostly gives the same answer: one more try, by anyone.
                why, pause = f"{url}: {error}", 0.0
                failures += self.limits.attempts // 2 + 1 if url in bad else 1
                bad.add(url)
            finally:
                endpoint.active -= 1
            if failures < self.limits.attempts:
                await asyncio.sleep(_backoff(failures) if pause is None else pause)
        return Done(item, None, url, why)

    async def _slots(self) -> asyncio.Queue[httpx.AsyncClient]:
        """As many entries as requests may be in flight, each the client that carries one."""
        slots: asyncio.Queue[httpx.AsyncClient] = asyncio.Queue()
        for i in range(self.limits.in_flight):
            slots.put_nowait(self._clients[i % len(self._clients)])
        return slots

    def _fail(self, endpoint: Endpoint, error: Lost) -> None:
        # A status is an answer: only a server that gives none is left out.
        if not str(error).startswith("status "):
            self.endpoints.failed(endpoint, str(error))

    def close(self) -> None:
        """Cancel what is under way and end the thread."""
        if self._loop.is_closed():
            return
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.aclose()


def _backoff(failures: int) -> float:
    """Seconds before the next attempt: doubled each time, and spread over half of that."""
    longest = min(0.25 * 2.0**failures, LONGEST_BACKOFF_S)
    return longest * random.uniform(0.5, 1.0)


def _refused(url: str, error: Refused) -> EngineError:
    if error.status in (401, 403):
        return EngineError(
            f"{url} wants a key, or another one",
            error.said,
            "export S2D_API_KEY=..., or name another variable: --engine-arg key_env=NAME",
        )
    return EngineError(
        f"{url} refuses the request with status {error.status}",
        error.said,
        "change what is asked for, or how the server is started; what was finished is stored",
    )


def _said(error: Exception, otherwise: str) -> str:
    return " ".join(str(error).split())[:200] or f"{otherwise} ({type(error).__name__})"


def _message(response: httpx.Response) -> str:
    """What the server says is wrong, from the usual places."""
    try:
        found = response.json()
    except ValueError:
        found = response.text
    if isinstance(found, dict):
        found = found.get("error", found.get("detail", found.get("message", found)))
    if isinstance(found, dict):
        found = found.get("message", found)
    return " ".join(str(found).split())[:500] or f"status {response.status_code}"


def _after(response: httpx.Response) -> float | None:
    try:
        return min(float(response.headers["Retry-After"]), 60.0)
    except (KeyError, ValueError):
        return None
