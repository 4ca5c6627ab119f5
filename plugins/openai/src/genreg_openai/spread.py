"""Many connections as several small pools: for each request, a pool looks at every one of its idle connections."""

from __future__ import annotations

from itertools import cycle
from urllib.request import getproxies

import httpx2

EACH = 8  # idle connections of a pool


class Spread(httpx2.AsyncBaseTransport):
    """Requests go to the pools in turn. How many are in flight is the caller's affair; none waits for a connection."""

    def __init__(self, connections: int) -> None:
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=EACH)
        context = httpx2.create_ssl_context()  # shared: it takes long to make
        count = -(-connections // EACH)
        self.pools = [httpx2.AsyncHTTPTransport(verify=context, limits=limits) for _ in range(count)]
        self._turn = cycle(self.pools)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request by the next pool."""
        return await next(self._turn).handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self.pools:
            await pool.aclose()


def spread(connections: int) -> Spread | None:
    """Pools for so many connections; None where one is enough, or where the client must find its way by a proxy."""
    proxies = getproxies().keys() - {"no"}
    return Spread(connections) if connections > EACH and not proxies else None
