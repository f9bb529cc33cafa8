"""Cards shared through MPS on a node: the plugin, the supervisor and a fake control daemon together."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.mps.control import Control
from deviceplugin.mps.supervisor import Supervisor
from kerf.values.device import Backend, Card, Mode
from kerf.values.mps import SERVER_MIB
from kerf.wire.inventory import KEY, parse_inventory
from tests.deviceplugin.leader import evicted
from tests.deviceplugin.mps.fake_control import a_program
from tests.deviceplugin.plugin_world import GIB_80, NODE, World, a_sliced_pod, a_world, card, one_slice, read_ledger

NODE_PATH = f"/api/v1/nodes/{NODE}"


class Sharing(World):
    """The world with a policy and a supervisor."""

    policy: Path
    supervisor: Supervisor
    stop: threading.Event

    def ask_for(self, mode: str, **more: str) -> None:
        pool = {"name": "all", "mode": mode, **more}
        spec = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"pools": [pool]}}
        fresh = self.policy.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(spec))
        fresh.replace(self.policy)

    def supervise(self) -> None:
        def look() -> None:
            while not self.stop.wait(0.2):
                self.supervisor.run_once()
            self.supervisor.end()

        self.thread = threading.Thread(target=look, daemon=True)
        self.thread.start()

    def cards(self) -> tuple[Card, ...]:
        notes = self.kube.get(NODE_PATH)["metadata"].get("annotations", {})
        return parse_inventory(notes[KEY]) if KEY in notes else ()

    def until(self, holds: Callable[[tuple[Card, ...]], bool], what: str) -> tuple[Card, ...]:
        for _ in range(400):
            found = self.cards()
            if found and holds(found):
                return found
            threading.Event().wait(0.05)
        raise AssertionError(f"never: {what}; {[(c.mode.value, str(c.health), c.mode_note) for c in self.cards()]}")

    def until_mode(self, mode: Mode) -> tuple[Card, ...]:
        return self.until(lambda cards: all(c.mode is mode and c.healthy for c in cards), f"mode {mode}")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sharing]:
    monkeypatch.setattr("deviceplugin.inventory.modes.LOOK_S", 0.1)
    policy = tmp_path / "policy.yaml"
    with a_world(tmp_path, config=str(policy), limiter="/opt/libkerf.so") as plain:
        world = Sharing(plain.root, plain.kubelet, plain.kube, plain.settings)
        world.policy, world.stop = policy, threading.Event()
        state = Path(world.settings.state_dir) / "mps"
        world.supervisor = Supervisor(state, Control(str(a_program(tmp_path))))
        state.mkdir(parents=True)
        world.ask_for("preload")
        try:
            yield world
        finally:
            world.stop.set()
            if hasattr(world, "thread"):
                world.thread.join(20)


def started(world: World, pod: dict[str, Any]) -> dict[str, Any]:
    return world.runtime_edits(world.kubelet.start_container(world.bind(pod), "main"))


def test_a_pool_of_mode_mps_shares_its_cards_through_daemons(world: Sharing):
    world.ask_for("mps")
    world.supervise()
    world.run()

    cards = world.until_mode(Mode.MPS)
    edits = started(world, one_slice("one", 8000, cores=30))

    assert {(c.backend, c.joint, c.memory_mib) for c in cards} == {(Backend.MPS, False, GIB_80 - SERVER_MIB)}
    mps = {name: value for name, value in edits["env"].items() if name.startswith("CUDA_MPS")}
    assert mps == {
        "CUDA_MPS_PIPE_DIRECTORY": "/usr/local/kerf/mps",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{card(0)}=8000M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
    }
    assert edits["mounts"]["/usr/local/kerf/mps"] == f"{world.settings.state_dir}/mps/{card(0)}/pipe"
    (limit,) = read_ledger(edits["mounts"]["/usr/local/kerf/ledger"]).spec.cards
    assert (limit.memory_bytes, limit.cores, limit.arbiter) == (8000 << 20, None, "")
    assert not [place for place in edits["mounts"] if "arbiter" in place]


def test_containers_that_have_their_cards_whole_are_no_clients_and_may_have_several(world: Sharing):
    world.ask_for("mps")
    world.supervise()
    world.run()
    world.until_mode(Mode.MPS)
    whole = GIB_80 - SERVER_MIB

    edits = started(world, a_sliced_pod("big", main=[(0, whole, 100), (1, whole, 100)]))

    assert [name for name in edits["env"] if name.startswith("CUDA_MPS")] == []


def test_containers_of_several_cards_share_them_through_one_daemon_for_the_node(world: Sharing):
    world.ask_for("mps", mpsDaemon="node")
    world.supervise()
    world.run()
    world.until_mode(Mode.MPS)

    edits = started(world, a_sliced_pod("pair", main=[(0, 8000, 40), (1, 8000, 40)]))

    assert edits["env"]["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == f"{card(0)}=8000M,{card(1)}=8000M"
    assert (Path(edits["mounts"]["/usr/local/kerf/mps"]) / "cards").read_text() == ",".join(map(card, range(4)))


def test_a_card_changes_only_once_its_pods_are_gone_and_the_others_before(world: Sharing):
    world.supervise()
    world.run()
    pod = one_slice("one", 8000)
    started(world, pod)

    world.ask_for("mps")
    cards = world.until(lambda found: sum(c.mode is Mode.MPS for c in found) == 3, "three empty cards to change")
    assert (cards[0].mode, cards[0].backend) == (Mode.SHARED, Backend.PRELOAD)
    assert cards[0].mode_note.startswith("its pool asks for mode mps: it changes once no pod holds a slice")

    world.kube.delete(f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}")
    world.until_mode(Mode.MPS)
    world.ask_for("preload")
    world.until_mode(Mode.SHARED)


def test_a_pod_that_does_not_accept_the_mode_is_refused_by_the_node_too(world: Sharing):
    world.ask_for("mps")
    world.supervise()
    world.run()
    world.until_mode(Mode.MPS)
    pod = one_slice("strict", 8000)
    pod["metadata"]["annotations"]["kerf.dev/mode"] = "preload"

    with pytest.raises(Exception, match="in mode mps: the pod accepts preload alone"):
        started(world, pod)


def test_auto_falls_back_to_the_limiter_and_says_why_while_mps_gives_no_slices(world: Sharing):
    world.ask_for("auto")
    world.run()

    (first, *_) = world.until(lambda cards: all(c.mode_note for c in cards), "a reason")
    assert (first.mode, first.backend, first.healthy) == (Mode.SHARED, Backend.PRELOAD, True)
    assert first.mode_note == (
        "its pool asks for mode auto, and mps cannot be had: "
        "no supervisor of MPS daemons answers on this node (DaemonSet kerf-mps)"
    )
    world.ask_for("mps")
    world.until(lambda cards: not any(c.healthy for c in cards), "cards that give no slices")
    world.supervise()
    world.until_mode(Mode.MPS)


def test_while_a_daemon_is_down_its_card_is_suspect_and_no_container_starts_without_its_share(world: Sharing):
    world.ask_for("mps")
    world.supervise()
    world.run()
    world.until_mode(Mode.MPS)
    pod = world.bind(one_slice("one", 8000))
    world.kubelet.start_container(pod, "main")
    (Path(world.root) / "broken").touch()

    world.supervisor._ones[card(0)].process.kill()  # type: ignore[union-attr]
    cards = world.until(lambda found: not found[0].healthy, "a suspect card")

    assert "its MPS daemon does not run" in cards[0].health.cause
    assert [c.healthy for c in cards[1:]] == [True] * 3
    with pytest.raises(Exception, match="its MPS daemon does not run"):
        world.kubelet.start_container(pod, "main")
    (Path(world.root) / "broken").unlink()
    world.until_mode(Mode.MPS)
    world.kubelet.start_container(pod, "main")


@pytest.fixture
def sharers(world: Sharing, tmp_path: Path) -> Callable[[str], None]:
    """Pods `one` and `two` share card 0 through MPS, `other` has card 1. Writes a line into the kernel log."""
    log = tmp_path / "kmsg"
    log.touch()
    world.settings = replace(world.settings, kernel_log=str(log))
    world.ask_for("mps")
    world.supervise()
    world.run()
    world.until_mode(Mode.MPS)
    for name, on in (("one", 0), ("two", 0), ("other", 1)):
        started(world, one_slice(name, 8000, on=on))

    def write(line: str) -> None:
        now = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
        with log.open("a") as file:
            file.write(f"3,1,{now},-;NVRM: Xid (PCI:0000:01:00): {line}\n")

    return write


def about(world: World, name: str) -> list[str]:
    found = world.kube.objects("/api/v1/namespaces/default/events")
    return [each["message"] for each in found if each["involvedObject"]["name"] == name]


def test_a_programs_fatal_fault_is_reported_to_every_pod_of_the_card_and_moves_none(world: Sharing, sharers):
    sharers("31, pid=4242, name=python, Ch 00000008")
    world.until(lambda _: bool(about(world, "one")) and bool(about(world, "two")), "events about both pods")

    assert about(world, "one") == about(world, "two")
    assert "every program on the card may have ended with an error" in about(world, "one")[0]
    assert about(world, "other") == []
    assert world.cards()[0].healthy
    assert evicted(world.kube) == []


def test_a_cards_fatal_fault_moves_every_client_of_it_although_it_names_one_process(world: Sharing, sharers):
    sharers("95, pid=4242, name=python, Uncontained memory error")
    (card, *others) = world.until(lambda cards: not cards[0].healthy, "a cordoned card")

    assert (card.mode, str(card.health)) == (Mode.MPS, "cordoned: XID 95 (uncontained memory error)")
    assert all(each.healthy for each in others)
    assert evicted(world.kube) == ["one", "two"]


def test_a_restarted_plugin_leaves_daemons_and_modes_as_they_are(world: Sharing):
    world.ask_for("mps")
    world.supervise()
    world.run()
    world.until_mode(Mode.MPS)
    started(world, one_slice("one", 8000))
    pids = {name: one.process.pid for name, one in world.supervisor._ones.items() if one.process}

    world.restart_plugin()
    cards = world.until_mode(Mode.MPS)

    assert {c.mode_note for c in cards} == {""}
    assert {name: one.process.pid for name, one in world.supervisor._ones.items() if one.process} == pids
    assert replace(cards[0], index=0).joint is False
