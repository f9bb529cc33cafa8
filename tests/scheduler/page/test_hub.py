"""Those who watch: what they see ends with their session, its key and their rights."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson

from kerf.config.prices import PriceFile
from kerf.kube.errors import Unreachable
from kerf.testing.builders import a_node, a_pod
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.views.page.access import HIDDEN, Access
from kerf.wire.reviews import User
from kerf.wire.sessions import Session
from scheduler.page.collect import LINGER_S, Collector, Sources
from scheduler.page.history import History
from scheduler.page.hub import ASK_AGAIN_S, BEAT_S, PART_BYTES, UNSURE_S, Clocks, Hub
from scheduler.state.store import Store, load
from tests.browser.world import holder
from tests.scheduler.page.page_world import applied

EVERYTHING = Access(everywhere=True, nodes=True, clusters=True)
Rows = dict[str, dict[str, Any]]


class Page:
    """An open page: the events that were sent to it, as a browser takes them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.rows: Rows = {}
        self.left = False
        self.takes = 1_000_000
        """How many events it takes before it is blocked."""
        self.largest = 0

    @property
    def blocked(self) -> bool:
        return len(self.events) >= self.takes

    @blocked.setter
    def blocked(self, value: bool) -> None:
        self.takes = 0 if value else 1_000_000

    def write(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))
        name, content = data.decode().removesuffix("\n\n").split("\n")
        self.events.append((name.removeprefix("event: "), orjson.loads(content.removeprefix("data: "))))
        match self.events[-1]:
            case ("begin", _):
                self.rows = {}
            case ("rows", change):
                self.rows = applied(self.rows, change)

    def leave(self) -> None:
        self.left = True


class World:
    """A store with a node, a hub over it, what each person may see, and the time."""

    def __init__(self) -> None:
        self.now, self.day = 1000.0, 0.0
        self.store = Store(SchedulingPolicy(), VENDORS)
        load(self.store, [a_node("gpu-0000"), a_node("gpu-0001")], [])
        self.may: dict[str, Access] = {"ada": EVERYTHING, "bob": EVERYTHING}
        self.answers = True
        self.keys = True
        sources = Sources(lambda: PriceFile(None).prices, dict)
        collector = Collector(self.store, sources, lambda: self.now)
        self.hub = Hub(collector, History(), self.access_of, Clocks(lambda: self.day + self.now, lambda: self.now))

    async def access_of(self, user: User, known: Iterable[str]) -> Access:
        await asyncio.sleep(0)
        if not self.answers:
            raise Unreachable("no route")
        access = self.may[user.name]
        return Access(access.everywhere, access.namespaces & frozenset(known), access.nodes, access.clusters)

    def open(self, name: str, until: int = 1_000_000) -> Page:
        page = Page()
        self.hub.join(Session(User(name), until), page, lambda now: self.keys and now < until)
        return page

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds
        await self.hub.run_once()


def begun(page: Page) -> dict[str, Any]:
    """What was said about the person last."""
    return [content for name, content in page.events if name == "begin"][-1]


def run(check: Callable[[World], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(check(World()), 60)

    asyncio.run(bounded())


def test_a_page_ends_with_its_session_and_the_others_go_on():
    async def check(world: World) -> None:
        short, long = world.open("ada", until=1005), world.open("ada")
        await world.pass_time(4)
        assert (short.rows, short.left) == (long.rows, False)

        await world.pass_time(1)
        assert (short.events[-1][0], short.left) == ("end", True)
        assert (long.left, len(world.hub.viewers)) == (False, 1)

    run(check)


def test_every_open_page_ends_once_the_key_of_its_session_is_gone_and_gets_nothing_more():
    async def check(world: World) -> None:
        page = world.open("ada")
        await world.pass_time(1)
        before = len(page.events)
        world.keys = False
        world.store.feed.apply_pod("ADDED", holder("new", "team-ada", "gpu-0000", 0, 1000))
        await world.pass_time(1)

        assert [name for name, _ in page.events[before:]] == ["end"]
        assert (page.left, world.hub.viewers) == (True, set())

    run(check)


def test_a_right_that_somebody_loses_is_gone_from_their_page_with_the_next_question():
    async def check(world: World) -> None:
        ada, bob = world.open("ada"), world.open("bob")
        await world.pass_time(1)
        assert set(ada.rows["nodes"]) == {"gpu-0000", "gpu-0001"}
        world.may["ada"] = Access()
        await world.pass_time(ASK_AGAIN_S)

        assert ada.rows == {}
        assert set(bob.rows["nodes"]) == {"gpu-0000", "gpu-0001"}

    run(check)


def test_what_the_api_server_said_last_counts_for_a_while_and_then_nothing_is_shown():
    async def check(world: World) -> None:
        early = world.open("ada")
        await world.pass_time(1)
        world.answers = False
        late = world.open("bob")
        await world.pass_time(UNSURE_S)
        assert (bool(early.rows), late.rows) == (True, {})

        await world.pass_time(ASK_AGAIN_S)
        assert (early.rows, early.left) == ({}, False)
        assert [begun(page)["unsure"] for page in (early, late)] == [True, True]

        world.answers = True
        await world.pass_time(1)
        assert [begun(page)["unsure"] for page in (early, late)] == [False, False]
        assert early.rows == late.rows
        assert set(early.rows["nodes"]) == {"gpu-0000", "gpu-0001"}

    run(check)


def test_a_page_that_does_not_take_its_parts_gets_none_and_once_what_it_missed_later():
    async def check(world: World) -> None:
        slow, quick = world.open("ada"), world.open("ada")
        await world.pass_time(1)
        slow.blocked, before = True, len(slow.events)
        for number in range(4):
            world.store.feed.apply_pod("ADDED", holder(f"new-{number}", "team-ada", "gpu-0000", number, 1000))
            await world.pass_time(1)
        world.store.feed.apply_node("DELETED", a_node("gpu-0001"))
        await world.pass_time(1)
        assert len(slow.events) == before

        slow.blocked = False
        await world.pass_time(1)
        assert [name for name, _ in slow.events[before:]].count("rows") == len(slow.events) - before
        assert slow.rows == quick.rows
        assert len(slow.rows["nodes"]["gpu-0000"]["pods"]) == 4
        assert "gpu-0001" not in slow.rows["nodes"]

    run(check)


def test_a_whole_picture_comes_at_the_pace_at_which_it_is_taken_with_what_changes_meanwhile_after_it():
    async def check(world: World) -> None:
        for number in range(200):
            world.store.feed.apply_node("ADDED", a_node(f"more-{number:03}", 8))
        slow = world.open("ada")
        slow.takes = 3
        viewer = next(iter(world.hub.viewers))
        await world.pass_time(1)
        assert [name for name, _ in slow.events] == ["begin", "rows", "rows"]
        world.store.feed.apply_pod("ADDED", holder("new", "team-ada", "more-000", 0, 1000))
        await world.pass_time(BEAT_S)
        assert len(slow.events) == 3

        while viewer.busy:
            slow.takes += 3
            viewer.drained()
        assert [name for name, _ in slow.events].count("begin") == 1
        assert slow.events[-1] == ("ready", {})
        assert slow.rows["nodes"]["more-000"]["pods"] == []
        slow.takes += 100
        await world.pass_time(1)
        assert len(slow.rows["nodes"]["more-000"]["pods"]) == 1
        assert slow.largest <= PART_BYTES + 100

    run(check)


def test_the_name_of_a_namespace_stays_hidden_after_its_last_pod_as_long_as_a_sentence_may_have_it():
    async def check(world: World) -> None:
        theirs = a_pod("theirs", namespace="team-bob", mem=100_000, cores=10)
        world.may["ada"] = Access(namespaces=frozenset({"team-ada"}), nodes=True)
        page = world.open("ada")
        world.store.feed.apply_node("MODIFIED", a_node("gpu-0000"))
        world.store.feed.apply_pod("ADDED", theirs)
        await world.pass_time(1)
        world.store.feed.apply_pod("DELETED", theirs)
        await world.pass_time(LINGER_S - 1)
        assert "team-bob" in world.hub.known()

        await world.pass_time(1)
        assert "team-bob" not in world.hub.known()
        assert HIDDEN not in str(page.rows)

    run(check)


def test_a_time_of_day_that_is_set_back_delays_nothing_but_the_end_of_sessions():
    async def check(world: World) -> None:
        page, short = world.open("ada"), world.open("bob", until=1010)
        await world.pass_time(1)
        world.day = -7200.0
        world.may["ada"] = Access()
        await world.pass_time(ASK_AGAIN_S)
        assert (page.rows, short.left) == ({}, False)
        assert page.events[-1] == ("beat", {"now": world.now - 7200})

        world.day = 0.0
        await world.pass_time(1)
        assert (page.left, short.left) == (False, True)

    run(check)
