"""An API server that does not answer: since when that is so, and that many who watch do not wait for it in turn."""

import pytest

from kerf.kube.errors import Unreachable
from kerf.testing.builders import a_node
from kerf.wire.reviews import User
from scheduler.page.people import DOWN_S, People
from scheduler.page.pulse import Pulse
from tests.browser.world import ReviewingKube


class Away:
    """An API server that is away while `away` is set; how often it was asked; the time."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.now = 1000.0
        self.kube = ReviewingKube(a_node("gpu-0000"))
        self.kube.fail = self._fail

    def _fail(self, method: str, path: str) -> None:
        self.asked += 1
        if self.away:
            raise Unreachable(f"{method} {path}: no route to host")


def test_since_when_the_api_server_does_not_answer_is_the_time_of_its_last_answer():
    world = Away()
    pulse = Pulse(world.kube, lambda: True, lambda: world.now)
    pulse.run_once()
    world.away = True
    found = []
    for _ in range(3):
        world.now += 5
        pulse.run_once()
        found.append(pulse.lost)
    assert found == [1000.0] * 3

    world.away = False
    pulse.run_once()
    assert pulse.lost == 0.0


def test_while_nobody_looks_the_api_server_is_not_asked():
    world = Away()
    pulse = Pulse(world.kube, lambda: False, lambda: world.now)
    pulse.run_once()

    assert (world.asked, pulse.lost) == (0, 0.0)


def test_after_no_answer_nobody_else_waits_for_one_for_a_while():
    world = Away()
    world.away = True
    people = People(world.kube, lambda: world.now)
    for name in ("ada", "bob", "cyd"):
        with pytest.raises(Unreachable, match="no route to host"):
            people.access_of(User(name), ())
    assert world.asked == 1

    world.away = False
    world.now += DOWN_S
    assert people.access_of(User("admin"), ()).everywhere
