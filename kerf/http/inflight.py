"""Limits on the requests in flight and on the bytes of their bodies; while a server stops, it accepts none."""

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import web

from kerf.http.listener import Handler

MOST_REQUESTS = 1_000
MOST_BYTES = 64 << 20
"""Of bodies in flight; one without a Content-Length counts as the largest."""
RETRY_S = 1


class InFlightLimit:
    """Answers 503 with Retry-After instead of letting memory grow. Probes and metrics (GET) are never limited.

    `turned_away` is called with the reason, `full` or `stopping`, for every request that is refused.
    """

    def __init__(
        self,
        turned_away: Callable[[str], None],
        largest_body: int,
        requests: int = MOST_REQUESTS,
        size: int = MOST_BYTES,
    ) -> None:
        self._turned_away = turned_away
        self._largest = largest_body
        self._most = requests
        self._most_bytes = size
        self._in_flight = self._bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @web.middleware
    async def limit_inflight(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware, before anything of the body is read."""
        if request.method == "GET":
            return await handler(request)
        if self._draining:
            return self._refuse("stopping", "this replica is stopping; ask another one")
        length = request.content_length
        size = self._largest if length is None else min(length, self._largest)
        if self._in_flight >= self._most or self._bytes + size > self._most_bytes:
            return self._refuse("full", f"{self._in_flight} requests are in flight; try again")
        self._in_flight += 1
        self._bytes += size
        self._idle.clear()
        try:
            return await handler(request)
        finally:
            self._in_flight -= 1
            self._bytes -= size
            if not self._in_flight:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new requests and wait until all in flight are answered, at most this long."""
        self._draining = True
        await self.finish(seconds)

    async def finish(self, seconds: float) -> None:
        """Wait until no request is in flight, at most this long. New ones are still answered."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    def _refuse(self, reason: str, text: str) -> web.Response:
        self._turned_away(reason)
        answer = web.Response(status=503, text=text, headers={"Retry-After": str(RETRY_S)})
        answer.force_close()
        return answer
