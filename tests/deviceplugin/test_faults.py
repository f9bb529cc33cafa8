"""Faults through the whole device plugin: a line in the kernel log, the card's state, and restarts."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.inventory.condition import TYPE
from kerf.testing.builders import a_card, a_node
from kerf.values.health import Health, State
from kerf.wire.inventory import KEY, parse_inventory
from tests.deviceplugin.leader import evicted
from tests.deviceplugin.plugin_world import NODE, World, a_world, card, one_slice

NODE_PATH = f"/api/v1/nodes/{NODE}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "kmsg"
    path.touch()
    return path


def health(world: World) -> dict[str, Health]:
    """The published health of the cards that are not simply healthy."""
    text = world.kube.get(NODE_PATH)["metadata"]["annotations"][KEY]
    return {one.id: one.health for one in parse_inventory(text) if not one.healthy}


def conditions(world: World) -> list[dict[str, Any]]:
    found = world.kube.get(NODE_PATH)["status"].get("conditions") or []
    return [condition for condition in found if condition["type"] == TYPE]


def events(world: World) -> list[str]:
    return [event["message"] for event in world.kube.objects("/api/v1/namespaces/default/events")]


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    end = time.monotonic() + 15.0
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


def write(log: Path, *lines: str, ago: float = 0.0) -> None:
    uptime = time.clock_gettime(time.CLOCK_MONOTONIC) - ago
    with log.open("a") as file:
        file.writelines(f"3,1,{int(uptime * 1e6)},-;{line}\n" for line in lines)


def off(bus: str) -> str:
    return f"NVRM: Xid (PCI:0000:{bus}:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def states(world: World) -> dict[str, tuple[State, bool]]:
    return {one: (found.state, found.moves) for one, found in health(world).items()}


def test_a_line_in_the_kernel_log_cordons_its_card_alone(tmp_path, log):
    with a_world(tmp_path, kernel_log=str(log)) as world:
        world.run()
        until(lambda: KEY in world.kube.get(NODE_PATH)["metadata"]["annotations"], lambda: "no inventory")
        write(log, off("02"), off("02"), "NVRM: Xid (PCI:0000:03:00): 31, pid=1, name=a, MMU Fault")

        until(lambda: states(world) == {card(1): (State.CORDONED, True)}, lambda: health(world))
        until(lambda: conditions(world) != [], lambda: "no condition")
        (condition,) = conditions(world)
        assert (condition["status"], condition["message"]) == (
            "False",
            f"card 1 ({card(1)}): XID 79 (GPU has fallen off the bus)",
        )
        until(lambda: len(events(world)) >= 2, lambda: events(world))
        assert sorted(events(world)) == [
            f"card {card(1)} is cordoned: XID 79 (GPU has fallen off the bus)",
            f"card {card(2)} reported XID 31 (GPU memory page fault)",
        ]


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "killed before it published"])
def test_a_restarted_plugin_knows_of_the_fault(tmp_path, log, stopped):
    """A killed plugin has published nothing of a fault that it saw; the kernel log still has it."""
    with a_world(tmp_path, kernel_log=str(log)) as world:
        world.run()
        until(lambda: KEY in world.kube.get(NODE_PATH)["metadata"]["annotations"], lambda: "no inventory")
        if stopped:
            write(log, off("02"))
            until(lambda: states(world) == {card(1): (State.CORDONED, True)}, lambda: health(world))
            before = health(world)
            world.stop_plugin()
            log.write_text("")  # the log is gone, the annotation is not
            assert health(world)[card(1)] == before[card(1)]
            assert {found.cause for one, found in health(world).items() if one != card(1)} == {
                "the device plugin has stopped"
            }
        else:
            world.stop_plugin()
            write(log, off("02"))
        world.start_plugin()

        until(lambda: states(world) == {card(1): (State.CORDONED, True)}, lambda: health(world))


def test_a_fault_of_a_card_that_is_not_served_here_changes_nothing(tmp_path, log):
    with a_world(tmp_path, kernel_log=str(log)) as world:
        world.run()
        until(lambda: KEY in world.kube.get(NODE_PATH)["metadata"]["annotations"], lambda: "no inventory")
        write(log, off("ff"), off("01"))

        until(lambda: states(world) == {card(0): (State.CORDONED, True)}, lambda: health(world))


def test_a_fault_after_a_cards_recovery_counts_and_one_from_before_it_does_not(tmp_path, log):
    """The plugin was killed: the inventory is what it last published."""
    recovered = Health(since=int(time.time()) - 60, falls=1)
    cards = tuple(a_card(i, id=card(i), bus=f"0000:{i + 1:02x}:00", health=recovered) for i in range(4))
    with a_world(tmp_path, kernel_log=str(log)) as world:
        world.kube.put(a_node(NODE, cards))
        write(log, off("02"), ago=100.0)
        write(log, off("03"), ago=10.0)
        world.run(slots=30)

        until(lambda: states(world) == {card(2): (State.CORDONED, True)}, lambda: health(world))


@pytest.mark.parametrize(
    ("verdict", "state", "leave"),
    [(None, None, []), ("suspect", State.SUSPECT, []), ("evict", State.CORDONED, ["beside", "serve"])],
)
def test_what_a_server_says_counts_as_the_policy_says(tmp_path, monkeypatch, verdict, state, leave):
    """By default it warns. Raised, it concerns the server's card, and its neighbours there as well."""
    monkeypatch.setattr("deviceplugin.monitor.servers.LOOK_S", 0.1)
    monkeypatch.setattr("deviceplugin.monitor.watch.RELIST_S", 0.1)
    monkeypatch.setattr("deviceplugin.monitor.watch.PODS_S", 0.1)
    policy = tmp_path / "policy.json"
    spec = {"recovery": {"codes": {"0": verdict} if verdict else {}}}
    policy.write_text(json.dumps({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec}))
    with a_world(tmp_path, config=str(policy), pod_logs=str(tmp_path / "logs")) as world:
        world.run()
        serve = one_slice("serve", 8000, on=1)
        serve["metadata"]["annotations"]["kerf.dev/watch-server"] = "8000"
        for pod in (serve, one_slice("beside", 8000, on=1), one_slice("other", 8000, on=2)):
            world.kube.put(pod)
        log = tmp_path / "logs" / f"default_serve_{serve['metadata']['uid']}" / "main" / "0.log"
        log.parent.mkdir(parents=True)

        def says() -> bool:
            with log.open("a") as file:
                file.write("2026-11-27T12:00:01Z stderr F RuntimeError: CUDA error: unspecified launch failure\n")
            return any(message.startswith("the server reports CUDA error") for message in events(world))

        until(says, lambda: events(world))
        until(lambda: {one: at for one, (at, _) in states(world).items()} == ({card(1): state} if state else {}),
              lambda: health(world))  # fmt: skip
        assert evicted(world.kube) == leave
