"""Those who watch: each gets a snapshot, then what changes, at its own pace, and only what it may see.

People with the same access share one picture, one comparison and one rendering: ten viewers cost little more than one.
A viewer that does not take its parts gets none, and a new snapshot once it does: nothing piles up for it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import orjson

from kerf.http.stream import Sink
from kerf.kube.errors import KubeError
from kerf.views.page.access import Access, Veil, seen_by
from kerf.views.page.picture import SECTIONS, Row
from kerf.wire.reviews import User
from kerf.wire.sessions import Session
from scheduler.page.collect import Changed, Collector
from scheduler.page.history import STEP_S, History

_LOG = logging.getLogger("kerf.page")
TICK_S = 1.0
REST = 30
"""Times the CPU time of a round that pass before the next: kube-scheduler's questions need this process more."""
LONGEST_S = 10.0
BEAT_S = 10.0
ASK_AGAIN_S = 30.0
"""How often what viewers may see is asked again."""
UNSURE_S = 300.0
MOST_VIEWERS = 200
ROWS_A_PART = 100
PIECES_A_TURN = 5
"""Pieces of a round between two looks at the clock of the others."""

_Row = TypeVar("_Row", bound=Row | None)
AccessOf = Callable[[User, frozenset[str]], Awaitable[Access]]
Lasts = Callable[[float], bool]
"""Whether a session still counts at a time: it has not ended, and its key is still known."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The time of day, by which sessions end, and seconds that nobody sets, by which all else is done again."""

    day: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


CLOCKS = Clocks()


class Viewer:
    """One open page. A `Source` of its stream."""

    def __init__(self, hub: "Hub", session: Session, sink: Sink, lasts: Lasts) -> None:
        self._hub = hub
        self.session = session
        self.sink = sink
        self.lasts = lasts
        self.access: Access | None = None
        self.behind = True
        """Whether it needs a snapshot before any change."""

    def drained(self) -> None:
        """Its next part is a snapshot, if it has missed anything."""

    def closed(self) -> None:
        self._hub.viewers.discard(self)


@dataclass(slots=True)
class _Shared:
    """What people with the same access see."""

    veil: Veil
    rows: dict[str, dict[str, Row]]
    snapshot: list[bytes] = field(default_factory=list)
    """Rendered when somebody needs it, until anything changes."""


class Hub:
    """Lives on the page's event loop."""

    def __init__(self, collector: Collector, history: History, access_of: AccessOf, clocks: Clocks = CLOCKS) -> None:
        self._collector = collector
        self._history = history
        self._access_of = access_of
        self._clocks = clocks
        self._wake = asyncio.Event()
        self._shared: dict[Access, _Shared] = {}
        self._known: frozenset[str] = frozenset()
        self._accesses: dict[User, Access] = {}
        self._sure_at: dict[User, float] = {}
        self._asked_at = self._beat_at = self._sampled_at = float("-inf")
        self.viewers: set[Viewer] = set()

    # ---- for the listener
    def join(self, session: Session, sink: Sink, lasts: Lasts) -> Viewer:
        """A page was opened."""
        viewer = Viewer(self, session, sink, lasts)
        self.viewers.add(viewer)
        self._wake.set()
        return viewer

    @property
    def full(self) -> bool:
        """Whether no more pages may be opened."""
        return len(self.viewers) >= MOST_VIEWERS

    def known(self) -> frozenset[str]:
        """Every namespace of which the page knows something."""
        return self._collector.namespaces()

    # ---- the loop
    async def run(self) -> None:
        """Round after round until cancelled. While nobody watches, only the history is kept."""
        while True:
            began = time.thread_time()
            try:
                await self.run_once()
            except Exception:  # noqa: BLE001 (one bad round never ends the page)
                _LOG.exception("a round of the page failed")
            self._wake.clear()
            try:
                rest = min(max(TICK_S, REST * (time.thread_time() - began)), LONGEST_S)
                async with asyncio.timeout(rest if self.viewers else STEP_S / 4):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def run_once(self) -> None:
        """One round."""
        now = self._clocks.steady()
        sample = now - self._sampled_at >= STEP_S
        if not self.viewers and not sample:
            return
        for number, _ in enumerate(self._collector.round()):
            if number % PIECES_A_TURN == 0:
                await asyncio.sleep(0)
        if sample:
            self._sampled_at = now
            self._history.sample(now, _samples(self._collector.rows["nodes"].values()))
        changed = self._collector.take()
        self._end_sessions(self._clocks.day())
        await self._ask(now)
        await self._show(changed)
        if now - self._beat_at >= BEAT_S:
            self._beat_at = now
            self._send_all(event("beat", {"now": self._clocks.day()}))

    # ---- inside
    async def _ask(self, now: float) -> None:
        """Who may see what: at their first round, every half minute, and when a namespace is new."""
        known = self._collector.namespaces()
        again = now - self._asked_at >= ASK_AGAIN_S or known != self._known
        if known != self._known:
            self._shared.clear()  # every text is looked through again for the new names
            self._known = known
        if again:
            self._asked_at = now
        users = {viewer.session.user for viewer in self.viewers}
        asked = [user for user in users if again or user not in self._accesses]
        await asyncio.gather(*(self._ask_about(user, known, now) for user in asked))
        self._accesses = {user: access for user, access in self._accesses.items() if user in users}
        self._sure_at = {user: at for user, at in self._sure_at.items() if user in users}
        for viewer in self.viewers:
            access = self._accesses.get(viewer.session.user)
            if viewer.access != access:
                viewer.access, viewer.behind = access, True

    async def _ask_about(self, user: User, known: frozenset[str], now: float) -> None:
        """Where the API server does not answer, what it said last counts for a while, and then nothing is shown."""
        try:
            self._accesses[user] = await self._access_of(user, known)
            self._sure_at[user] = now
        except KubeError as error:
            _LOG.warning("what a viewer may see cannot be asked: %s", error)
            if now - self._sure_at.get(user, float("-inf")) > UNSURE_S:
                self._accesses[user] = Access()

    async def _show(self, changed: Changed) -> None:
        viewers = list(self.viewers)
        wanted = {viewer.access for viewer in viewers if viewer.access is not None}
        self._shared = {access: shared for access, shared in self._shared.items() if access in wanted}
        for access in wanted:
            shared = self._shared.get(access)
            if shared is None:
                shared = self._shared[access] = await self._first(access)
                parts: tuple[bytes, ...] = ()
                for viewer in viewers:
                    viewer.behind = viewer.behind or viewer.access == access
            else:
                parts = tuple(_parts(_follow(shared, changed)))
            if parts:
                shared.snapshot = []
            for viewer in viewers:
                if viewer.access == access:
                    await self._send(viewer, shared, parts)

    async def _first(self, access: Access) -> _Shared:
        veil = Veil.of(access, self._known)
        rows: dict[str, dict[str, Row]] = {}
        for name in SECTIONS:
            every = self._collector.rows[name]
            rows[name] = {}
            for some in _some(every):
                rows[name].update(seen_by(veil, name, some))
                await asyncio.sleep(0)
        return _Shared(veil, rows)

    async def _send(self, viewer: Viewer, shared: _Shared, parts: tuple[bytes, ...]) -> None:
        if viewer.sink.blocked:
            viewer.behind = viewer.behind or bool(parts)
            return
        if not viewer.behind:
            for part in parts:
                viewer.sink.write(part)
            return
        if not shared.snapshot:
            for part in _parts(shared.rows):
                shared.snapshot.append(part)
                await asyncio.sleep(0)
        viewer.behind = False
        access = shared.veil.access
        about = {"everywhere": access.everywhere, "namespaces": sorted(access.namespaces), "nodes": access.nodes}
        session = viewer.session
        viewer.sink.write(
            event("begin", {"user": session.user.name, "until": session.until, "now": self._clocks.day(), **about})
        )
        for part in shared.snapshot:
            viewer.sink.write(part)
        viewer.sink.write(event("ready", {}))

    def _end_sessions(self, now: float) -> None:
        for viewer in [each for each in self.viewers if not each.lasts(now)]:
            viewer.sink.write(event("end", {"why": "the session has ended; sign in again"}))
            viewer.sink.leave()
            self.viewers.discard(viewer)

    def _send_all(self, part: bytes) -> None:
        for viewer in self.viewers:
            if not viewer.sink.blocked:
                viewer.sink.write(part)


def event(name: str, content: object) -> bytes:
    """A server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(content) + b"\n\n"


def _follow(shared: _Shared, changed: Changed) -> Changed:
    """Bring what these people see up to date; what of it has changed."""
    found: Changed = {}
    for section, rows in changed.items():
        seen = shared.rows[section]
        for key, row in rows.items():
            shown = None if row is None else shared.veil.row(section, row)
            name = shared.veil.key(section, key)
            if seen.get(name) == shown:
                continue
            if shown is None:
                del seen[name]
            else:
                seen[name] = shown
            found.setdefault(section, {})[name] = shown
    return found


def _parts(sections: Mapping[str, Mapping[str, Row | None]]) -> Iterator[bytes]:
    for name in SECTIONS:
        for some in _some(sections.get(name, {})):
            yield event("rows", {name: some})


def _some(rows: Mapping[str, _Row]) -> Iterator[dict[str, _Row]]:
    left = iter(list(rows.items()))
    while some := dict(islice(left, ROWS_A_PART)):
        yield some


def _samples(rows: Iterable[Row]) -> Iterator[tuple[str, int, int, str]]:
    for row in rows:
        for card in row["cards"]:
            memory, used, cores, busy = card[8:12]
            yield card[0], 100 * used // memory if memory else 0, 100 * busy // cores if cores else 0, card[5]
