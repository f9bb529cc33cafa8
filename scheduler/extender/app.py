"""The HTTP service: routes, limits, time-outs."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from kerf.http.address import parse_bind
from kerf.http.server import Handler, Limits, Request, Response, Routes, Server, text
from kerf.wire.allocations import PATH as CLAIMS
from kerf.wire.choosing import PATH as KINDS
from kerf.wire.errors import WireError
from kerf.wire.extender import parse_bind_query, render_bind, render_filter
from kerf.wire.http import TooLargeError
from scheduler.extender.bind import Binder
from scheduler.extender.door import HOLD_S, PASSED_ON_S
from scheduler.extender.peers import HEADER, Peers
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics

_LOG = logging.getLogger("kerf.extender")
LARGEST_BODY = 16 << 20
"""Bytes: 100,000 names of the longest kind, or a pod of the largest size with room to spare."""
LIMITS = Limits(LARGEST_BODY)
DRAIN_SECONDS = 6.0
"""A bind takes at most five."""
NO_LEADER = "no replica of the scheduler leads at this moment, or the leader does not answer"
READING = "the first list of nodes, pods and quotas is still being read"


class Extender:
    """Serves kube-scheduler. `ready` says whether every watch has been read once; `scrape` renders the metrics.

    With `peers`, whatever reaches a follower is passed on to the leader. The leader's own answers to filter, prioritize
    and preempt come without a task or a wait.
    """

    def __init__(
        self,
        verbs: Verbs,
        binder: Binder,
        metrics: SchedulerMetrics,
        ready: Callable[[], bool],
        scrape: Callable[[], bytes],
        peers: Peers | None = None,
    ) -> None:
        self._verbs = verbs
        self._binder = binder
        self._metrics = metrics
        self._ready = ready
        self._scraped = scrape
        self._peers = peers
        verbs.preempts = binder.door.preempts
        self._chooser = ThreadPoolExecutor(1, "kinds")

    def routes(self) -> Routes:
        """The verbs, probes and metrics."""
        return {
            ("POST", "/filter"): self._read_only("filter", self._verbs.filter),
            ("POST", "/prioritize"): self._read_only("prioritize", self._verbs.prioritize),
            ("POST", "/preempt"): self._read_only("preempt", self._verbs.preempt),
            ("POST", "/bind"): self._bind,
            ("POST", KINDS): self._by_leader("kinds", self._kinds),
            ("POST", CLAIMS): self._by_leader("claims", self._claims),
            ("GET", "/healthz"): lambda _: text("ok\n"),
            ("GET", "/readyz"): lambda _: text("ok\n") if self._ready() else text(f"{READING}\n", 503),
            ("GET", "/metrics"): lambda _: Response(self._scraped(), kind="text/plain; charset=utf-8"),
        }

    def server(self) -> Server:
        """The service, not yet listening."""
        return Server(self.routes(), LIMITS, failed, lambda reason: self._metrics.turned_away.labels(reason).inc())

    def give_way(self) -> None:
        """Wait, for a moment at most, while an answer is made. For threads beside the event loop."""
        self._verbs.precedence.give_way()

    async def serve(self, bind: str, tls: ssl.SSLContext | None, stop: asyncio.Event) -> None:
        """Serve HOST:PORT until `stop`, then finish what is in flight."""
        server = self.server()
        try:
            await server.listen(parse_bind(bind), tls)
            _LOG.info("serving on %s", bind)
            await stop.wait()
            _LOG.info("stopping: nothing new is accepted, what is in flight is answered")
            await server.finish(DRAIN_SECONDS)
        finally:
            server.close()
            if self._peers is not None:
                self._peers.close()

    def _read_only(self, verb: str, answer: Callable[[bytes], bytes]) -> Handler:
        observe = self._metrics.seconds.labels(verb).observe

        def own(body: bytes) -> Response:
            start = time.perf_counter()
            with self._verbs.precedence:
                result = answer(body)
            observe(time.perf_counter() - start)
            return Response(result)

        async def held(request: Request) -> Response:
            seconds = PASSED_ON_S if HEADER in request.head.headers else HOLD_S
            await self._binder.door.hold(request.body, seconds)
            return own(request.body)

        async def passed_on(peers: Peers, body: bytes) -> Response:
            result = await peers.answer(verb, body)
            return own(body) if result is None else Response(result)

        def handle(request: Request) -> Response | Awaitable[Response]:
            if not self._ready():
                return text(READING, 503)
            peers = self._peers
            if peers is None or HEADER in request.head.headers or not peers.needed():
                return held(request) if verb == "filter" and self._binder.door.guarded else own(request.body)
            return passed_on(peers, request.body)

        return handle

    async def _bind(self, request: Request) -> Response:
        query = parse_bind_query(request.body)
        if self._peers is not None and HEADER not in request.head.headers and not self._binder.leads():
            return Response(await self._peers.bind(request.body))
        start = time.perf_counter()
        try:
            error = await self._binder.bind(query)
        finally:
            self._metrics.seconds.labels("bind").observe(time.perf_counter() - start)
        return Response(render_bind(error))

    def _by_leader(self, verb: str, own: Callable[[bytes], Response | Awaitable[Response]]) -> Handler:
        """A question of the webhook's. The leader alone knows what it has promised, so nobody else answers."""

        async def passed_on(peers: Peers, body: bytes) -> Response:
            result = await peers.answer(verb, body)
            return text(NO_LEADER, 503) if result is None else Response(result)

        def handle(request: Request) -> Response | Awaitable[Response]:
            peers = self._peers
            if not self._ready():
                return text(READING, 503)
            if peers is not None and HEADER not in request.head.headers and peers.needed():
                return passed_on(peers, request.body)
            if not self._binder.leads():
                return text(NO_LEADER, 503)
            return own(request.body)

        return handle

    def _claims(self, body: bytes) -> Response:
        start = time.perf_counter()
        result = self._verbs.claims(body)
        self._metrics.seconds.labels("claims").observe(time.perf_counter() - start)
        return Response(result)

    async def _kinds(self, body: bytes) -> Response:
        """In a thread of its own, so that no filter waits for it; one after the other, so that none promises twice."""
        start = time.perf_counter()
        result = await asyncio.get_running_loop().run_in_executor(self._chooser, self._verbs.kinds, body)
        self._metrics.seconds.labels("kinds").observe(time.perf_counter() - start)
        return Response(result)


def failed(path: str, error: Exception) -> Response:
    """One clear error for bad input; a fault of ours is logged whole and answered short. The service goes on."""
    status, words = _said(path, error)
    return Response(render_filter([], {}, {}, words), status)


def _said(path: str, error: Exception) -> tuple[int, str]:
    match error:
        case WireError():
            _LOG.warning("%s: %s", path or "request", error)
            return 413 if isinstance(error, TooLargeError) else 400, str(error)
        case TimeoutError():
            return 408, f"the request's body did not arrive in {LIMITS.silent_s:.0f} s"
        case _:
            _LOG.error("%s failed", path, exc_info=error)
            return 500, "internal error; see the scheduler's log"
