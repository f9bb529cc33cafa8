"""The HTTP service: routes, limits, time-outs."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable

from aiohttp import web

from kerf.http.inflight import InFlightLimit
from kerf.http.listener import Handler, Listener, ListenerLimits, parse_bind
from kerf.wire.errors import WireError
from kerf.wire.extender import parse_bind_query, render_bind, render_filter
from scheduler.extender.bind import Binder
from scheduler.extender.peers import HEADER, Peers
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics

_LOG = logging.getLogger("kerf.extender")
LARGEST_BODY = 16 << 20
"""Bytes: 100,000 names of the longest kind, or a pod of the largest size with room to spare."""
READ_SECONDS = 10.0
DRAIN_SECONDS = 6.0
"""A bind takes at most five."""


class Extender:
    """Serves kube-scheduler. `ready` says whether every watch has been read once; `scrape` renders the metrics.

    With `peers`, whatever reaches a follower is passed on to the leader.
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
        self._listener = Listener(ListenerLimits())
        self._inflight = InFlightLimit(lambda reason: metrics.turned_away.labels(reason).inc(), LARGEST_BODY)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(
            client_max_size=LARGEST_BODY,
            middlewares=[self._listener.watch_requests, self._inflight.limit_inflight, _errors],
        )
        app.router.add_post("/filter", self._read_only("filter", self._verbs.filter))
        app.router.add_post("/prioritize", self._read_only("prioritize", self._verbs.prioritize))
        app.router.add_post("/preempt", self._read_only("preempt", self._verbs.preempt))
        app.router.add_post("/bind", self._bind)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        return app

    async def serve(self, bind: str, tls: ssl.SSLContext | None, stop: asyncio.Event) -> None:
        """Serve HOST:PORT until `stop`, then finish what is in flight."""
        runner = web.AppRunner(self.app(), access_log=None, keepalive_timeout=120.0, shutdown_timeout=1.0)
        await runner.setup()
        try:
            assert runner.server is not None, "setup has made it"
            server = await self._listener.listen(runner.server, parse_bind(bind), tls)
            _LOG.info("serving on %s", bind)
            await stop.wait()
            _LOG.info("stopping: nothing new is accepted, what is in flight is answered")
            server.close()
            # aiohttp's own shutdown drops bodies that are still arriving.
            await self._inflight.drain(DRAIN_SECONDS)
        finally:
            await runner.cleanup()
            if self._peers is not None:
                await self._peers.close()

    def _read_only(self, verb: str, answer: Callable[[bytes], bytes]) -> Handler:
        observe = self._metrics.seconds.labels(verb).observe

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await asyncio.wait_for(request.read(), READ_SECONDS)
            if not self._ready():
                raise web.HTTPServiceUnavailable(text="the first list of nodes, pods and quotas is still being read")
            if self._peers is not None and HEADER not in request.headers:
                passed_on = await self._peers.answer(verb, body)
                if passed_on is not None:
                    return _json(passed_on)
            start = time.perf_counter()
            result = answer(body)
            observe(time.perf_counter() - start)
            return web.Response(body=result, content_type="application/json")

        return handle

    async def _bind(self, request: web.Request) -> web.StreamResponse:
        body = await asyncio.wait_for(request.read(), READ_SECONDS)
        query = parse_bind_query(body)
        if self._peers is not None and HEADER not in request.headers and not self._binder.leads():
            return _json(await self._peers.bind(body))
        start = time.perf_counter()
        try:
            error = await self._binder.bind(query)
        finally:
            self._metrics.seconds.labels("bind").observe(time.perf_counter() - start)
        return _json(render_bind(error))

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        if self._ready():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the first list of nodes, pods and quotas is still being read\n")

    async def _scrape(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self._scraped(), content_type="text/plain", charset="utf-8")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One clear error for bad input; a fault of ours is logged whole and answered short. The service goes on."""
    try:
        return await handler(request)
    except WireError as error:
        _LOG.warning("%s: %s", request.path, error)
        return _json(render_filter([], {}, {}, str(error)), 400)
    except TimeoutError:
        return _json(render_filter([], {}, {}, f"the request's body did not arrive in {READ_SECONDS:.0f} s"), 408)
    except web.HTTPException:
        raise
    except Exception:  # noqa: BLE001 (the service goes on; the log has it all)
        _LOG.exception("%s failed", request.path)
        return _json(render_filter([], {}, {}, "internal error; see the scheduler's log"), 500)


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
