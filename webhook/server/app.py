"""HTTP around the rules: sizes, times and numbers are bounded, and one bad request never hurts the next."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from kerf.http.inflight import InFlightLimit
from kerf.http.listener import Handler, Listener, ListenerLimits
from kerf.obs.metrics import Metrics
from kerf.wire.admission import Answer, Review, parse_review, render_answer
from kerf.wire.errors import WireError

log = logging.getLogger("webhook")
OUTCOMES = ("allowed", "patched", "refused", "malformed", "too_large", "busy", "timeout", "failed", "unready")
UNREADY = "the tenants' quota is not read yet: try again"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server."""

    body_bytes: int = 3 * 1024 * 1024
    """The API server itself accepts objects of at most 3 MiB."""
    in_flight: int = 128
    """Reviews at once; the next is answered 503, so memory stays below this many bodies."""
    connections: int = 1000
    seconds: float = 10.0
    """For a review to arrive whole and be answered; API servers wait 10 s by default."""


Decide = Callable[[Review], Answer]
Advise = Callable[[Review], Awaitable[Decide | None]]


class Service:
    """The handlers. Every review calls `decide`, so a change of settings takes effect at once.

    Each of `advise` may wait for what a review depends on. What the first of them returns that does not leave the
    review to the next, by None, decides instead of `decide`.
    Until `ready` returns true, reviews are answered 503, because the tenants' quota is not known yet.
    """

    def __init__(
        self,
        decide: Decide,
        metrics: Metrics,
        limits: Limits,
        ready: Callable[[], bool] = lambda: True,
        advise: Sequence[Advise] = (),
    ) -> None:
        self._decide = decide
        self._advise = advise
        self._ready = ready
        self._registry = metrics
        self._requests = metrics.counter("kerf_webhook_requests", "Admission reviews by outcome.", ("outcome",))
        self._seconds = metrics.histogram("kerf_webhook_duration_seconds", "From a review's headers to its answer.")
        for outcome in OUTCOMES:
            self._requests.labels(outcome)
        self._limits = limits
        self._inflight = InFlightLimit(
            lambda _reason: self._requests.labels("busy").inc(),
            limits.body_bytes,
            requests=limits.in_flight,
            size=limits.in_flight * limits.body_bytes,
        )
        self.listener = Listener(ListenerLimits(limits.connections, limits.seconds))
        self.draining = False
        self._obstacle: Callable[[], str] = lambda: ""

    def app(self) -> web.Application:
        """The aiohttp application."""
        middlewares = [self.listener.watch_requests, self._say_goodbye, self._inflight.limit_inflight]
        app = web.Application(client_max_size=self._limits.body_bytes, middlewares=middlewares)
        app.router.add_post("/mutate", self.mutate)
        app.router.add_get("/healthz", self.healthy)
        app.router.add_get("/readyz", self.ready)
        app.router.add_get("/metrics", self.metrics)
        return app

    def watch_certificates(self, obstacle: Callable[[], str], expiry: Callable[[], float]) -> None:
        """Be unready while `obstacle` names one, and show when the certificate that is served ends (Unix seconds)."""
        self._obstacle = obstacle
        words = "Unix time at which the certificate that the webhook keeps and serves ends; 0 before there is one."
        self._registry.gauge("kerf_webhook_certificate_expiry_timestamp_seconds", words).set_function(expiry)

    async def mutate(self, request: web.Request) -> web.Response:
        """Answer one AdmissionReview."""
        started = time.perf_counter()
        outcome, response = await self._bounded(request)
        self._requests.labels(outcome).inc()
        self._seconds.observe(time.perf_counter() - started)
        return response

    async def healthy(self, _request: web.Request) -> web.Response:
        """The process runs."""
        return web.Response(text="ok\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """The process takes requests: it is trusted, has read what it needs, and does not drain."""
        missing = self._obstacle() or ("" if self._ready() else UNREADY)
        if reason := "draining" if self.draining else missing:
            return _refusal(503, reason)
        return web.Response(text="ok\n")

    async def metrics(self, _request: web.Request) -> web.Response:
        """Prometheus' text format."""
        return web.Response(body=self._registry.render(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def finish(self, seconds: float) -> None:
        """Wait until no review is in flight, at most this long. aiohttp's own shutdown drops bodies still arriving."""
        await self._inflight.finish(seconds)

    async def _bounded(self, request: web.Request) -> tuple[str, web.Response]:
        if not self._ready():
            return "unready", _refusal(503, UNREADY)
        if (request.content_length or 0) > self._limits.body_bytes:
            return "too_large", self._too_large()
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await request.read()
        except TimeoutError:
            return "timeout", _refusal(408, f"the body did not arrive within {self._limits.seconds:g} s")
        except web.HTTPRequestEntityTooLarge:
            return "too_large", self._too_large()
        return await self._answer(body)

    async def _answer(self, body: bytes) -> tuple[str, web.Response]:
        try:
            review = parse_review(body)
        except WireError as error:
            return "malformed", _refusal(400, str(error))
        try:
            answer = (await self._advised(review))(review)
        except Exception:  # the service must outlive a defect in the rules; the API server's failurePolicy decides
            log.exception("review %s failed", review.uid[:64])
            return "failed", _refusal(500, "a defect in the webhook; its log has the trace")
        _report(review, answer)
        outcome = "refused" if not answer.allowed else "patched" if answer.patch else "allowed"
        return outcome, web.Response(body=render_answer(review.uid, answer), content_type="application/json")

    async def _advised(self, review: Review) -> Decide:
        for advise in self._advise:
            if decide := await advise(review):
                return decide
        return self._decide

    def _too_large(self) -> web.Response:
        response = _refusal(413, f"the body is larger than {self._limits.body_bytes} bytes")
        response.force_close()
        return response

    @web.middleware
    async def _say_goodbye(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """While draining, close connections so that clients go to another replica."""
        response = await handler(request)
        if self.draining:
            response.force_close()
        return response


def _refusal(status: int, sentence: str) -> web.Response:
    return web.Response(status=status, text=f"{sentence}\n")


def _report(review: Review, answer: Answer) -> None:
    if answer.allowed and not answer.warnings:
        return
    meta = review.object.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    name = str(meta.get("name") or meta.get("generateName") or "")[:253]
    data = {"pod": f"{review.namespace}/{name}", "user": review.user, "uid": review.uid}
    log.info(answer.message or "; ".join(answer.warnings), extra={"data": data})
