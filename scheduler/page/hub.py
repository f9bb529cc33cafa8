"""Those who watch: each gets a snapshot, then what changes, at its own pace, and only what it may see.

People with the same access share one picture, one comparison and one rendering: ten viewers cost little more than one.
Each viewer gets the next part when it has taken the one before. What changes until then is sent once, as it is by then:
nothing piles up for a slow network, and it never begins again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

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
PART_BYTES = 16 << 10
"""A browser takes an event when it has all of it, so on a slow network a large one looks like silence."""
PIECES_A_TURN = 5
"""Pieces of a round between two looks at the clock of the others."""

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
        self._coming: deque[bytes] = deque()
        self.session = session
        self.sink = sink
        self.lasts = lasts
        self.access: Access | None = None
        self.unsure = False
        """Whether nothing is shown because nobody could say what may be."""
        self.behind = True
        """Whether it needs a snapshot before any change."""
        self.missed: dict[str, set[str]] = {}
        """Keys of rows that have changed while it could not take them, by section."""

    @property
    def busy(self) -> bool:
        """Whether it has not taken all that was sent."""
        return bool(self._coming) or self.sink.blocked

    def begin(self, parts: Iterable[bytes]) -> None:
        """Send a snapshot, and nothing else of what was to come."""
        self._coming, self.missed, self.behind = deque(), {}, False
        self.send(parts)

    def send(self, parts: Iterable[bytes]) -> None:
        """Send these after what is still to come, at the pace at which they are taken."""
        self._coming.extend(parts)
        self.drained()

    def drained(self) -> None:
        while self._coming and not self.sink.blocked:
            self.sink.write(self._coming.popleft())

    def miss(self, changed: Changed) -> None:
        """Note what to send once all else was taken."""
        for section, rows in changed.items():
            self.missed.setdefault(section, set()).update(rows)

    def take_missed(self) -> dict[str, set[str]]:
        """What it has missed, once."""
        missed, self.missed = self.missed, {}
        return missed

    def end(self, why: str) -> None:
        """Its session has ended."""
        self._coming.clear()
        self.sink.write(event("end", {"why": why}))
        self.sink.leave()

    def closed(self) -> None:
        self._hub.viewers.discard(self)


@dataclass(slots=True)
class _Shared:
    """What people with the same access see."""

    veil: Veil
    rows: dict[str, dict[str, Row]]
    snapshot: list[bytes] = field(default_factory=list)
    """Rendered when somebody needs it, until anything changes."""
    outdated: bool = False
    """Whether every text has to be looked through again, for the name of a namespace that was not known."""


class Hub:
    """Lives on the page's event loop."""

    def __init__(self, collector: Collector, history: History, access_of: AccessOf, clocks: Clocks = CLOCKS) -> None:
        """`access_of` raises KubeError where the API server does not answer."""
        self._collector = collector
        self._history = history
        self._access_of = access_of
        self._clocks = clocks
        self._wake = asyncio.Event()
        self._shared: dict[Access, _Shared] = {}
        self._known: frozenset[str] = frozenset()
        self._accesses: dict[User, Access] = {}
        self._sure_at: dict[User, float] = {}
        self._unsure: set[User] = set()
        """Those who see nothing because what they may see could not be asked for too long."""
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
            self._known = known
            for seen, shared in self._shared.items():
                shared.outdated = not seen.everywhere
        if again:
            self._asked_at = now
        users = {viewer.session.user for viewer in self.viewers}
        asked = [user for user in users if again or user not in self._accesses or user in self._unsure]
        await asyncio.gather(*(self._ask_about(user, known, now) for user in asked))
        self._accesses = {user: access for user, access in self._accesses.items() if user in users}
        self._sure_at = {user: at for user, at in self._sure_at.items() if user in users}
        self._unsure &= users
        for viewer in self.viewers:
            access, unsure = self._accesses.get(viewer.session.user), viewer.session.user in self._unsure
            if (viewer.access, viewer.unsure) != (access, unsure):
                viewer.access, viewer.unsure, viewer.behind = access, unsure, True

    async def _ask_about(self, user: User, known: frozenset[str], now: float) -> None:
        """Where the API server does not answer, what it said last counts for a while, and then nothing is shown."""
        try:
            self._accesses[user] = await self._access_of(user, known)
            self._sure_at[user] = now
            self._unsure.discard(user)
        except KubeError as error:
            _LOG.warning("what a viewer may see cannot be asked: %s", error)
            if now - self._sure_at.get(user, float("-inf")) > UNSURE_S:
                self._accesses[user] = Access()
                self._unsure.add(user)

    async def _show(self, changed: Changed) -> None:
        viewers = list(self.viewers)
        wanted = {viewer.access for viewer in viewers if viewer.access is not None}
        self._shared = {access: shared for access, shared in self._shared.items() if access in wanted}
        for access in wanted:
            shared, followed = await self._up_to_date(access, changed)
            parts = tuple(_parts(followed))
            if parts:
                shared.snapshot = []
            for viewer in [each for each in viewers if each.access == access]:
                if viewer.behind:
                    viewer.begin(await self._snapshot(viewer, shared))
                elif viewer.busy:
                    viewer.miss(followed)
                elif missed := viewer.take_missed():
                    viewer.send(_parts(_now(shared, missed, followed)))
                else:
                    viewer.send(parts)

    async def _up_to_date(self, access: Access, changed: Changed) -> tuple[_Shared, Changed]:
        """What people with this access see, and what of it has changed."""
        shared = self._shared.get(access)
        if shared is not None and not shared.outdated:
            return shared, _follow(shared, changed)
        fresh = self._shared[access] = await self._first(access)
        if shared is not None:
            return fresh, _difference(shared.rows, fresh.rows)
        for viewer in self.viewers:
            viewer.behind = viewer.behind or viewer.access == access
        return fresh, {}

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

    async def _snapshot(self, viewer: Viewer, shared: _Shared) -> list[bytes]:
        if not shared.snapshot:
            for part in _parts(shared.rows):
                shared.snapshot.append(part)
                await asyncio.sleep(0)
        access, session = shared.veil.access, viewer.session
        about = {"everywhere": access.everywhere, "namespaces": sorted(access.namespaces), "nodes": access.nodes}
        who = {"user": session.user.name, "until": session.until, "unsure": viewer.unsure}
        return [event("begin", {**who, "now": self._clocks.day(), **about}), *shared.snapshot, event("ready", {})]

    def _end_sessions(self, now: float) -> None:
        for viewer in [each for each in self.viewers if not each.lasts(now)]:
            viewer.end("the session has ended; sign in again")
            self.viewers.discard(viewer)

    def _send_all(self, part: bytes) -> None:
        for viewer in self.viewers:
            if not viewer.busy:
                viewer.send((part,))


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


def _difference(before: Mapping[str, Mapping[str, Row]], after: Mapping[str, Mapping[str, Row]]) -> Changed:
    """What has changed between two pictures."""
    found: Changed = {}
    for section, rows in after.items():
        known = before[section]
        other: dict[str, Row | None] = {key: row for key, row in rows.items() if known.get(key) != row}
        found[section] = other | dict.fromkeys(known.keys() - rows.keys())
    return {section: rows for section, rows in found.items() if rows}


def _now(shared: _Shared, missed: Mapping[str, Iterable[str]], followed: Changed) -> Changed:
    """The rows that somebody has missed, and those that have just changed, as they are now."""
    found: Changed = {section: {key: shared.rows[section].get(key) for key in keys} for section, keys in missed.items()}
    for section, rows in followed.items():
        found.setdefault(section, {}).update(rows)
    return found


def _parts(sections: Mapping[str, Mapping[str, Row | None]]) -> Iterator[bytes]:
    """Events of at most `PART_BYTES` each, or of one row that is larger."""
    for name in SECTIONS:
        some: list[bytes] = []
        size = 0
        for key, row in sections.get(name, {}).items():
            piece = orjson.dumps(key) + b":" + orjson.dumps(row)
            if some and size + len(piece) > PART_BYTES:
                yield _rows(name, some)
                some, size = [], 0
            some.append(piece)
            size += len(piece)
        if some:
            yield _rows(name, some)


def _rows(section: str, pieces: Iterable[bytes]) -> bytes:
    return b'event: rows\ndata: {"' + section.encode() + b'":{' + b",".join(pieces) + b"}}\n\n"


def _some(rows: Mapping[str, Row]) -> Iterator[dict[str, Row]]:
    left = iter(list(rows.items()))
    while some := dict(islice(left, ROWS_A_PART)):
        yield some


def _samples(rows: Iterable[Row]) -> Iterator[tuple[str, int, int, str]]:
    for row in rows:
        for card in row["cards"]:
            memory, used, cores, busy = card[8:12]
            yield card[0], 100 * used // memory if memory else 0, 100 * busy // cores if cores else 0, card[5]
