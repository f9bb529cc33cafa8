"""Events of bound pods: written when the lane rests, at the latest after a few seconds, and never in its way."""

import logging
import re
import threading

import pytest

from kerf.kube.errors import Forbidden
from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube
from scheduler.express.announce import LONGEST_S, Announcer
from scheduler.express.seen import Pending, see

EVENTS = "/apis/events.k8s.io/v1"


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.clock_is_ahead_by = 0.0
        self.busy = False
        self.kube = FakeKube()
        clock = lambda: 1_800_000_000 + self.now + self.clock_is_ahead_by  # noqa: E731
        self.announcer = Announcer(self.kube, lambda: self.busy, clock, lambda: self.now)

    def bind(self, *names: str) -> None:
        for name in names:
            pod = see("ADDED", a_pod(name, spec={"schedulerName": "kerf-scheduler"}), frozenset(), frozenset())
            assert isinstance(pod, Pending)
            self.announcer.add(pod, "node-1")

    def written(self) -> list[str]:
        self.announcer.run_once(threading.Event())
        return sorted(event["regarding"]["name"] for event in self.kube.objects(EVENTS))


def test_events_wait_while_the_lane_binds_but_not_for_ever() -> None:
    world = World()
    world.busy = True
    world.bind("a")
    assert world.written() == []

    world.now += LONGEST_S
    world.bind("b")
    assert world.written() == ["a"]

    world.busy = False
    assert world.written() == ["a", "b"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_neither_delays_events_nor_hurries_them(hours: int) -> None:
    world = World()
    world.busy = True
    world.bind("a")
    world.clock_is_ahead_by = hours * 3600.0
    assert world.written() == []

    world.now += LONGEST_S
    assert world.written() == ["a"]


@pytest.mark.parametrize("name", ["a" * 253, f"{'a' * 219}.b", f"{'a' * 218}--.b"])
def test_an_event_has_a_name_that_the_api_server_takes_whatever_the_pod_is_called(name: str) -> None:
    world = World()
    world.bind(name)
    assert world.written() == [name]

    (event,) = world.kube.objects(EVENTS)
    part = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    assert re.fullmatch(rf"(?=.{{1,253}}$){part}(\.{part})*", event["metadata"]["name"])


def test_an_event_that_may_not_be_written_is_dropped_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def forbidden(method: str, path: str) -> None:
        raise Forbidden(403, "Forbidden", f"{method} {path}")

    world.kube.fail = forbidden
    world.bind("a", "b")
    with caplog.at_level(logging.WARNING, "kerf.express"):
        assert world.written() == []

    assert [record.message for record in caplog.records] == [
        f"the Event of default/a was not written: Forbidden (403): POST {EVENTS}/namespaces/default/events"
    ]
