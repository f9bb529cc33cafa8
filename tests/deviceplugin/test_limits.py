"""A node whose driver keeps limits of memory: the real plugin, a fake kubelet, and cgroups that are directories."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.probes.simulated_limits import FILE
from kerf.values.device import Backend, Card
from kerf.wire.inventory import KEY, parse_inventory
from tests.deviceplugin.plugin_world import GIB_80, NODE, World, a_sliced_pod, a_world, card, one_slice

NODE_PATH = f"/api/v1/nodes/{NODE}"


def until(holds: Callable[[], bool]) -> None:
    for _ in range(400):
        if holds():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it never became so")


class Limited(World):
    """The world with a policy, and a tree of cgroups below `cgroups`."""

    cgroups: Path

    def ask_for(self, word: str) -> None:
        pool = {"name": "all", "driverLimits": word}
        spec = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"pools": [pool]}}
        fresh = self.root / "policy.new"
        fresh.write_text(yaml.safe_dump(spec))
        fresh.replace(self.root / "policy.yaml")

    def driver(self, *, able: bool) -> None:
        entry = {"model": "NVIDIA H100 80GB HBM3", "memory_mib": GIB_80, "count": 4, "driver_limits": able}
        (self.root / "fleet.yaml").write_text(yaml.safe_dump({"cards": [entry]}))

    def cgroup(self, pod: dict[str, Any]) -> Path:
        """As the kubelet makes it."""
        uid = pod["metadata"]["uid"].replace("-", "_")
        place = self.cgroups / "kubepods.slice" / f"kubepods-pod{uid}.slice"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def limits(self, pod: dict[str, Any]) -> dict[str, int]:
        path = self.cgroup(pod) / FILE
        return json.loads(path.read_text()) if path.exists() else {}

    def start(self, pod: dict[str, Any]) -> None:
        self.cgroup(pod)
        self.kubelet.start_container(self.bind(pod), "main")

    def until(self, holds: Callable[[tuple[Card, ...]], bool]) -> tuple[Card, ...]:
        def found() -> tuple[Card, ...]:
            notes = self.kube.get(NODE_PATH)["metadata"].get("annotations", {})
            cards = parse_inventory(notes[KEY]) if KEY in notes else ()
            return cards if cards and holds(cards) else ()

        until(lambda: bool(found()))
        return found()

    def until_kept_by(self, backend: Backend) -> tuple[Card, ...]:
        return self.until(lambda cards: {each.backend for each in cards} == {backend})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Limited]:
    monkeypatch.setattr("deviceplugin.inventory.modes.LOOK_S", 0.1)
    monkeypatch.setattr("deviceplugin.gate.start.CLEAN_S", 0.3)
    cgroups = tmp_path / "cgroup"
    (cgroups / "kubepods.slice").mkdir(parents=True)
    (cgroups / "cgroup.controllers").write_text("cpu memory dmem\n")
    more = {"config": str(tmp_path / "policy.yaml"), "limiter": "/opt/libkerf.so", "cgroup_root": str(cgroups)}
    with a_world(tmp_path, **more) as plain:
        world = Limited(plain.root, plain.kubelet, plain.kube, plain.settings)
        world.cgroups = cgroups
        world.ask_for("auto")
        world.driver(able=True)
        yield world


def test_the_strongest_back_end_is_chosen_and_a_pod_is_limited_before_its_container_is_made(world: Limited):
    world.run()
    world.until_kept_by(Backend.NATIVE)
    pod = a_sliced_pod("one", main=[(0, 8000, 30), (1, 8000, 30)])

    world.start(pod)

    assert world.limits(pod) == {card(0): 8000 << 20, card(1): 8000 << 20}


def test_a_pod_without_a_cgroup_waits_and_no_card_suffers_for_it(world: Limited):
    world.run()
    world.until_kept_by(Backend.NATIVE)
    pod = one_slice("early", 8000)

    with pytest.raises(Exception, match="the kubelet has made no cgroup for it below"):
        world.kubelet.start_container(world.bind(pod), "main")
    world.start(pod)

    assert world.limits(pod) == {card(0): 8000 << 20}
    world.until_kept_by(Backend.NATIVE)


def test_a_driver_that_refuses_is_given_up_with_a_reason_and_the_pod_starts_as_without_it(world: Limited):
    world.run()
    world.until_kept_by(Backend.NATIVE)
    pod = one_slice("one", 8000)
    (world.cgroup(pod) / "refuses").touch()

    with pytest.raises(Exception, match=r"cannot limit the memory of cgroup .*: the driver does not support it"):
        world.start(pod)
    (first, *others) = world.until(lambda cards: cards[0].backend is Backend.PRELOAD)
    world.start(pod)

    assert "its pool asks for driverLimits auto, and they cannot be had: cannot limit" in first.mode_note
    assert first.healthy
    assert {each.backend for each in others} == {Backend.NATIVE}


def test_where_they_are_required_a_driver_without_them_gives_no_slices(world: Limited):
    world.ask_for("require")
    world.driver(able=False)
    world.run(0)

    cards = world.until(lambda found: not any(each.healthy for each in found))

    assert {each.backend for each in cards} == {Backend.PRELOAD}
    assert {each.health.cause for each in cards} == {
        "its pool asks for driverLimits require: its driver knows no limits of memory (r615 and newer do)"
    }
    world.driver(able=True)
    world.until_kept_by(Backend.NATIVE)


def test_a_limit_that_was_lost_is_set_again_also_for_pods_that_ran_before(world: Limited):
    world.ask_for("never")
    world.run()
    world.until_kept_by(Backend.PRELOAD)
    pod = one_slice("one", 8000)
    world.start(pod)
    assert world.limits(pod) == {}

    world.ask_for("auto")
    world.until_kept_by(Backend.NATIVE)
    until(lambda: world.limits(pod) == {card(0): 8000 << 20})
    (world.cgroup(pod) / FILE).unlink()
    until(lambda: world.limits(pod) == {card(0): 8000 << 20})


def test_a_node_without_the_hosts_cgroups_says_so(world: Limited):
    (world.cgroups / "cgroup.controllers").unlink()
    world.run()

    cards = world.until(lambda found: all(each.mode_note for each in found))

    assert {each.backend for each in cards} == {Backend.PRELOAD}
    assert "is no cgroup v2: mount the host's there" in cards[0].mode_note
