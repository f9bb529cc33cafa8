"""The page's own listener: static files for everybody, everything else for people who have signed in."""

import asyncio
import json
import logging
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson

from kerf.http.server import Handler, Limits, Request, Response, Routes, Server, text
from kerf.http.stream import Stream
from kerf.kube.errors import KubeError
from kerf.views.page.access import Access
from kerf.wire.errors import WireError
from kerf.wire.http import TooLargeError
from kerf.wire.json import text_at
from kerf.wire.reviews import User, parse_sign_in
from kerf.wire.sessions import Session, render_session, token_ends
from scheduler.page.files import PRIVATE, refused, static_routes
from scheduler.page.guard import SESSION_S, Bucket, cookie_header, forged, session_of
from scheduler.page.history import History
from scheduler.page.hub import Hub
from scheduler.page.people import People
from scheduler.page.relay import Relay
from scheduler.page.what_if import WhatIf

_LOG = logging.getLogger("kerf.page")
LIMITS = Limits(body_bytes=128 << 10, connections=500, requests=100, bytes=4 << 20)
CALLS = 8
"""Questions to the API server at the same time."""
SIGN_INS = (20.0, 5.0)
WHAT_IFS = (5.0, 0.5)
NO_KEY = "the key that signs sessions is not there yet; try again in a few seconds"
_Made = TypeVar("_Made")


class Keys(Protocol):
    """The keys that sign sessions."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The one that signs, and earlier ones."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the page is made of."""

    people: People
    keys: Keys
    relay: Relay
    make_hub: Callable[[Callable[[User, frozenset[str]], Awaitable[Access]]], Hub]
    history: History
    what_if: WhatIf


class Page:
    """Serves HOST:PORT in a thread of its own, with a loop of its own."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None, parts: Parts) -> None:
        self._address = address
        self._tls = tls
        self._parts = parts
        self._pool = ThreadPoolExecutor(CALLS, "page")
        self._sign_ins, self._what_ifs = Bucket(*SIGN_INS), Bucket(*WHAT_IFS)
        self._hub: Hub | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failed: Exception | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self.port = 0

    @property
    def watched(self) -> bool:
        """Whether anybody has the page open."""
        return self._hub is not None and bool(self._hub.viewers)

    # ---- life
    def start(self) -> None:
        """Listen; returns once it does. Raises OSError where it cannot."""
        self._thread.start()
        self._up.wait()
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """Close everything."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(3.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._serve())
            except OSError as error:
                self._failed = OSError(f"--page {self._address[0]}:{self._address[1]}: {error}")
                self._up.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._hub = self._parts.make_hub(self._access_of)
        server = Server(self.routes(), LIMITS, _failed, lambda reason: _LOG.warning("a request is refused: %s", reason))
        self.port = await server.listen(self._address, self._tls)
        self._up.set()
        _LOG.info("the page is on port %d", self.port)
        rounds = asyncio.create_task(self._hub.run())
        try:
            await self._stop.wait()
        finally:
            rounds.cancel()
            await server.finish(0.5)

    # ---- what is answered
    def routes(self) -> Routes:
        """Static files, and the questions of the page's scripts."""
        return {
            **static_routes(),
            ("GET", "/healthz"): lambda _: text("ok\n"),
            ("POST", "/api/sign-in"): self._passed_on(self._sign_in),
            ("POST", "/api/sign-out"): self._passed_on(self._sign_out),
            ("GET", "/api/session"): self._passed_on(self._signed(self._session)),
            ("GET", "/api/events"): self._passed_on(self._signed(self._events)),
            ("POST", "/api/history"): self._passed_on(self._signed(self._history)),
            ("POST", "/api/what-if"): self._passed_on(self._signed(self._what_if)),
        }

    def _passed_on(self, answer: Callable[[Request], Awaitable[Response | Stream]]) -> Handler:
        async def handle(request: Request) -> Response | Stream:
            if request.head.method not in {"GET", "HEAD"} and forged(request):
                return refused("this request does not come from the page itself", 403)
            return await self._parts.relay.pass_on(request) or await answer(request)

        return handle

    def _signed(
        self, answer: Callable[[Request, Session], Awaitable[Response | Stream]]
    ) -> Callable[[Request], Awaitable[Response | Stream]]:
        async def handle(request: Request) -> Response | Stream:
            session = session_of(request, self._parts.keys.keys, time.time())
            return refused("sign in first", 401) if session is None else await answer(request, session)

        return handle

    async def _sign_in(self, request: Request) -> Response | Stream:
        keys = self._parts.keys.keys
        if not keys:
            return refused(NO_KEY, 503, ("Retry-After", "5"))
        if not self._sign_ins.take():
            return refused("too many people sign in at once; try again in a few seconds", 429, ("Retry-After", "2"))
        token = parse_sign_in(_document(request))
        try:
            user = await self._call(lambda: self._parts.people.user_of(token))
        except KubeError as error:
            return refused(f"the API server cannot be asked about the token: {error}", 502)
        if user is None:
            return refused("the API server does not know this token, or it has ended", 401)
        now = int(time.time())
        ends = token_ends(token)
        until = now + SESSION_S if ends is None else min(now + SESSION_S, ends)
        value = render_session(Session(user, until), keys[0])
        return _json({"user": user.name, "until": until}, cookie_header(request, value, max(until - now, 0)))

    async def _sign_out(self, request: Request) -> Response | Stream:
        return _json({}, cookie_header(request, "", 0))

    async def _session(self, _: Request, session: Session) -> Response | Stream:
        return _json({"user": session.user.name, "until": session.until})

    async def _events(self, request: Request, session: Session) -> Response | Stream:
        hub = self._hub
        if hub is None or hub.full:
            return refused("too many pages are open at this replica; close one, or try again later", 503)

        def lasts(now: float) -> bool:
            return session_of(request, self._parts.keys.keys, now) is not None

        return Stream(lambda sink: hub.join(session, sink, lasts), "text/event-stream", PRIVATE)

    async def _history(self, request: Request, session: Session) -> Response | Stream:
        card = text_at(_document(request), "card")
        access = await self._access(session)
        since = time.time() - time.monotonic()
        found = [(since + at, *rest) for at, *rest in self._parts.history.of(card)] if access.nodes else []
        return _json({"card": card, "samples": found, "may": access.nodes})

    async def _what_if(self, request: Request, session: Session) -> Response | Stream:
        if not self._what_ifs.take():
            return refused("others try something too; try again in a few seconds", 429, ("Retry-After", "2"))
        access = await self._access(session)
        known = self._hub.known() if self._hub is not None else frozenset[str]()
        pasted = text_at(_document(request), "yaml")
        return _json(await self._parts.what_if.answer(pasted, access, known))

    # ---- inside
    async def _access(self, session: Session) -> Access:
        known = self._hub.known() if self._hub is not None else frozenset[str]()
        try:
            return await self._access_of(session.user, known)
        except KubeError:
            return Access()

    async def _access_of(self, user: User, known: frozenset[str]) -> Access:
        return await self._call(lambda: self._parts.people.access_of(user, known))

    async def _call(self, question: Callable[[], _Made]) -> _Made:
        return await asyncio.get_running_loop().run_in_executor(self._pool, question)


def _document(request: Request) -> Any:  # noqa: ANN401
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise WireError("body", request.body[:40].decode("utf-8", "replace"), "send one JSON object") from error


def _json(content: object, *headers: tuple[str, str]) -> Response:
    return Response(orjson.dumps(content), headers=(*PRIVATE, *headers))


def _failed(path: str, error: Exception) -> Response:
    match error:
        case WireError():
            return refused(str(error), 413 if isinstance(error, TooLargeError) else 400)
        case TimeoutError():
            return refused("the request did not arrive in time", 408)
        case _:
            _LOG.error("%s failed", path, exc_info=error)
            return refused("internal error; see the scheduler's log", 500)
