"""How often a node's pods are listed while one of them keeps a card in its mode."""

from types import SimpleNamespace

import pytest

from deviceplugin.core.modes import CardMode
from deviceplugin.inventory import modes
from deviceplugin.inventory.modes import LONGEST_PAUSE_S, CardModes, Floor
from deviceplugin.state.node import LocalNode
from kerf.testing.builders import a_card
from kerf.values.device import Backend
from kerf.values.mps import DaemonState, MpsReport
from kerf.values.policy import Pool, PoolMode, SchedulingPolicy
from kerf.wire.mps import render_report


class World:
    """One card whose daemon runs, and a pod on it or none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.held: frozenset[str] = frozenset({"GPU-0"})
        self.lists = 0
        self.mode = PoolMode.MPS
        self.node = LocalNode("node-1")
        self.node.update_labels({})
        monkeypatch.setattr(modes.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(modes.time, "time", lambda: self.now)
        reader = SimpleNamespace(mps_cards=lambda: (a_card(0, id="GPU-0"),), show_again=lambda: None)
        self.files = SimpleNamespace(mps_wanted=lambda: "", mps_report=self.report, write_mps_wanted=lambda _: None)
        gate = SimpleNamespace(while_held=self.while_held, policy=self.policy)
        self.modes = CardModes([reader], self.node, self.files, gate, Floor())  # type: ignore[list-item, arg-type]

    def report(self) -> str:
        return render_report(MpsReport(int(self.now), daemons=(DaemonState("GPU-0", running=True),)))

    def policy(self) -> SchedulingPolicy:
        return SchedulingPolicy(pools=(Pool("all", mode=self.mode),))

    def while_held(self, change) -> None:  # type: ignore[no-untyped-def]
        self.lists += 1
        change(self.held)

    def pass_time(self, seconds: int) -> int:
        """Look once a second; how often the pods were listed."""
        before = self.lists
        for _ in range(seconds):
            self.modes.run_once()
            self.now += 1.0
        return self.lists - before


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_pods_in_the_way_are_asked_for_less_and_less_often(world: World):
    assert [world.pass_time(60), world.pass_time(160)] == [7, 10]
    assert world.node.modes["GPU-0"].daemon == ""


def test_a_card_changes_within_the_longest_pause_after_its_pod_has_gone(world: World):
    world.pass_time(100)
    world.held = frozenset()

    world.pass_time(int(LONGEST_PAUSE_S))

    assert world.node.modes["GPU-0"] == CardMode("GPU-0", Backend.MPS, joint=False)


def test_another_wish_of_the_pool_is_looked_at_at_once(world: World):
    world.pass_time(100)
    world.mode = PoolMode.PRELOAD
    world.pass_time(1)
    world.mode = PoolMode.MPS

    assert world.pass_time(1) == 1
