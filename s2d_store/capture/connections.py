"""Connections to the server, in many small pools: httpcore's goes through all of its connections
for each request and each answer, which with 256 in flight was most of the proxy's work.
"""

from __future__ import annotations

import itertools

import httpx

POOLS = 64
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=16)


class Spread(httpx.AsyncBaseTransport):
    """Hands requests to `POOLS` transports in turn."""

    def __init__(self) -> None:
        """Open nothing yet."""
        # Reading the certificates takes longer than all else; no pool needs its own.
        verify = httpx.create_ssl_context(trust_env=False)
        self._pools = [
            httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=_LIMITS)
            for _ in range(POOLS)
        ]
        self._turns = itertools.cycle(self._pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools:
            await pool.aclose()
