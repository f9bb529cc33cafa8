"""How much is let in: requests and their bytes in flight are bounded, and on the way out nothing new is let in."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from scheduler.metrics import SchedulerMetrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MOST_REQUESTS = 1_000
MOST_BYTES = 64 << 20
"""Of bodies in flight; one that does not tell its length counts as the largest."""
RETRY_S = 1


class Gate:
    """Answers 503 with Retry-After instead of letting memory grow. Probes and metrics pass always."""

    def __init__(
        self, metrics: SchedulerMetrics, largest_body: int, requests: int = MOST_REQUESTS, size: int = MOST_BYTES
    ) -> None:
        self._metrics = metrics
        self._largest = largest_body
        self._most = requests
        self._most_bytes = size
        self._in_flight = self._bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @web.middleware
    async def pass_through(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware, before anything of the body is read."""
        if request.method == "GET":
            return await handler(request)
        if self._closed:
            return self._turn_away("stopping", "this replica is stopping; ask another one")
        length = request.content_length
        size = self._largest if length is None else min(length, self._largest)
        if self._in_flight >= self._most or self._bytes + size > self._most_bytes:
            return self._turn_away("full", f"{self._in_flight} requests are in flight; try again")
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

    async def close(self, seconds: float) -> None:
        """Let nothing new in and wait until everything in flight is answered, at most so long."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    def _turn_away(self, reason: str, text: str) -> web.Response:
        self._metrics.turned_away.labels(reason).inc()
        answer = web.Response(status=503, text=text, headers={"Retry-After": str(RETRY_S)})
        answer.force_close()
        return answer
