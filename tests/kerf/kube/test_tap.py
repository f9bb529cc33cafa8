"""A tap ends with what the world is, whatever happens while it reads its list, and never goes back in time."""

import threading
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kerf.kube.errors import Unreachable
from kerf.kube.tap import Tap

NAMES = ("a", "b", "c")
Step = tuple[str, str]
Items = list[dict[str, Any]]
STEPS = st.lists(st.tuples(st.sampled_from(("put", "remove", "deliver")), st.sampled_from(NAMES)), max_size=8)


class World:
    """Objects with versions, a follower that is some events behind, and what the tap's callbacks know."""

    path = "/things"

    def __init__(self) -> None:
        self.kube = self
        self.version = 0
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[str, dict[str, Any], str]] = []
        self.delivered = 0
        self.listener: Tap | None = None
        self.known: dict[str, int] = {}
        self.went_back: list[str] = []
        self.lists = 0
        self.while_listing: Callable[[str], None] = lambda moment: None
        self.defects = 0
        self.moved = threading.Condition()

    def do(self, steps: list[Step]) -> None:
        for what, name in steps:
            if what == "put" or (what == "remove" and name in self.objects):
                self.version += 1
                item = {"metadata": {"name": name, "resourceVersion": str(self.version)}}
                self.log.append(("MODIFIED" if what == "put" else "DELETED", item, str(self.version)))
                if what == "put":
                    self.objects[name] = item
                else:
                    del self.objects[name]
            elif what == "deliver":
                self.deliver(1)

    def deliver(self, most: int) -> None:
        for event in self.log[self.delivered : self.delivered + most]:
            self.delivered += 1
            if self.listener is not None:
                self.listener.change(*event)

    # ---- as the tap sees a follower and an API server
    def attach(self, listener: Tap) -> None:
        self.listener = listener

    def detach(self, listener: Tap) -> None:
        assert self.listener is listener
        self.listener = None

    def list(self, path: str) -> tuple[Items, str]:
        self.lists += 1
        self.while_listing("before")
        items, version = list(self.objects.values()), str(self.version)
        self.while_listing("after")
        return items, version

    # ---- callbacks
    def replace(self, items: Items) -> None:
        now = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in items}
        self.went_back += [name for name, version in self.known.items() if now.get(name, version) < version]
        with self.moved:
            self.known = now
            self.moved.notify_all()

    def change(self, kind: str, item: dict[str, Any]) -> None:
        if self.defects:
            self.defects -= 1
            raise ValueError("a defect")
        name, version = item["metadata"]["name"], int(item["metadata"]["resourceVersion"])
        if version < self.known.get(name, 0):
            self.went_back.append(name)
        if kind == "DELETED":
            self.known.pop(name, None)
        else:
            self.known[name] = version

    def becomes_known(self) -> bool:
        with self.moved:
            return self.moved.wait_for(self.is_known, 10)

    def is_known(self) -> bool:
        return self.known == {name: int(each["metadata"]["resourceVersion"]) for name, each in self.objects.items()}


def tapped(world: World) -> Tap:
    return Tap(world, world.replace, world.change)  # type: ignore[arg-type]


@given(STEPS, STEPS, STEPS, STEPS)
def test_the_list_and_the_watch_meet_without_a_gap(
    first: list[Step], before: list[Step], after: list[Step], then: list[Step]
) -> None:
    world = World()
    world.do(first)
    world.while_listing = lambda moment: world.do(before if moment == "before" else after)
    tap = tapped(world)
    tap.start()
    assert tap.synced.wait(10)
    world.do(then)
    world.deliver(len(world.log))
    tap.stop()

    assert world.is_known()
    assert world.went_back == []


def test_where_the_follower_listed_again_the_tap_does_too() -> None:
    world = World()
    world.do([("put", "a")])
    tap = tapped(world)
    tap.start()
    assert tap.synced.wait(10)
    world.do([("put", "b"), ("remove", "a")])
    world.delivered = len(world.log)  # the follower's list has them, no event says so
    current = []
    world.while_listing = lambda _: current.append(tap.current)
    tap.relisted()

    assert world.becomes_known()
    assert current == [False, False]
    tap.stop()


def test_a_list_that_fails_is_read_again() -> None:
    world = World()
    world.do([("put", "a")])
    failures = [Unreachable("no answer"), ValueError("a defect")]

    def fail(moment: str) -> None:
        if failures:
            raise failures.pop()

    world.while_listing = fail
    tap = tapped(world)
    tap.start()
    assert tap.synced.wait(10)
    tap.stop()

    assert world.is_known()


def test_an_event_that_cannot_be_taken_in_makes_it_list_again_and_the_follower_goes_on() -> None:
    world = World()
    tap = tapped(world)
    tap.start()
    assert tap.synced.wait(10)
    world.defects = 1
    world.do([("put", "a"), ("put", "b"), ("deliver", ""), ("deliver", "")])

    assert world.becomes_known()
    assert world.lists == 2
    tap.stop()


def test_after_its_end_it_hears_nothing() -> None:
    world = World()
    tap = tapped(world)
    tap.start()
    assert tap.synced.wait(10)
    tap.stop()

    assert world.listener is None
    assert not [each for each in threading.enumerate() if each.name == "tap /things"]
