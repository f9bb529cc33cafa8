"""A card is lost under running pods, on a real kubelet: only its own pod leaves, and it runs elsewhere soon after.

The cards are simulated. Their faults are lines in a kernel log, as a driver writes them; the times are printed.
"""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from kerf.http.fetch import fetch
from kerf.wire.annotations import FAULT_CORDON, GRANT, parse_grant
from kerf.wire.inventory import KEY, parse_inventory
from sandbox import ControlPlane, Node, await_until, free_ports
from sandbox.stack import EXTENDER, PLUGIN, start_plugin, start_stack, stop_stack
from tests.cluster.gpu_pods import pods
from tests.cluster.one_pod_sets import OnePodSets

pytestmark = pytest.mark.cluster
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
CARDS = 8
CORDON_S, EVICTION_S, RUNNING_S = 1.0, 3.0, 20.0
"""What may pass from the line in the kernel log to the cordon, the eviction, and the successor that runs."""
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {"recovery": {"mode": "recover", "cleanReadings": 2}},
}


@dataclass
class World(OnePodSets):
    """A real node with eight cards, and all of Kerf. Two pods do not fit on one card."""

    mem = 45_000
    cores = 10
    fleet: Path
    log: Path
    metrics: int
    """Port of the device plugin's metrics."""
    falls: Counter[int] = field(default_factory=Counter)
    """How often each card has failed: each time it has to be well for twice as long."""

    # ---- what happens
    def write_fleet(self, *lost: int) -> None:
        cards = {"model": "H100", "memory_mib": 81_920, "count": CARDS, "lost": list(lost)}
        fresh = self.fleet.with_suffix(".new")
        fresh.write_text(yaml.safe_dump({"cards": [cards]}))
        fresh.replace(self.fleet)

    def off_the_bus(self, *indices: int) -> float:
        """The driver writes that these cards are off the bus. When it was, by the monotonic clock."""
        now = time.monotonic()
        self.falls.update(indices)
        with self.log.open("a") as file:
            for index in indices:
                line = f"NVRM: Xid (PCI:0000:{index + 1:02x}:00): 79, pid='<unknown>', GPU has fallen off the bus."
                file.write(f"3,1,{int(now * 1e6)},-;{line}\n")
        return now

    def come_back(self) -> None:
        """Every failed card is away once, and back: all of them are well again."""
        self.write_fleet(*self.sick())
        await_until(lambda: not self.need_a_reset(), "the failed cards to be away")
        self.write_fleet()
        await_until(lambda: not self.sick(), "all cards to be well")
        await_until(lambda: FAULT_CORDON not in self.notes(), "no card to be cordoned for a fault")

    def run_apart(self, *names: str) -> None:
        """The same on cards that have not failed, or seldom; each successor has a card left as well."""
        avoid = [card for card, _ in self.falls.most_common(CARDS - len(names) - 1)]
        self.run(*names, notes={"nvidia.com/nouse-gpuuuid": ",".join(f"GPU-{self.node.name}-{i}" for i in avoid)})

    def hold(self, name: str) -> None:
        """A PodDisruptionBudget that lets the set's only pod not go."""
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}}
        meta = {"name": name, "namespace": "default"}
        body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec}
        self.cp.api.post(BUDGETS, body)

        def counts() -> bool:
            return self.cp.api.get(f"{BUDGETS}/{name}").get("status", {}).get("currentHealthy") == 1

        await_until(counts, "the budget to count its pod")

    # ---- what is seen
    def notes(self) -> dict[str, str]:
        return dict(self.cp.api.get(f"/api/v1/nodes/{self.node.name}")["metadata"].get("annotations", {}))

    def sick(self) -> dict[int, str]:
        """The state of the cards that take no slices."""
        return {c.index: c.health.state.value for c in parse_inventory(self.notes()[KEY]) if not c.healthy}

    def faults_seen(self, card: int) -> int:
        """How often the device plugin that runs now has seen Xid 79 of a card, by its own count."""
        page = fetch(f"http://127.0.0.1:{self.metrics}/metrics", 5.0).decode()
        wanted = rf'^kerf_node_faults_total{{card="GPU-{self.node.name}-{card}",code="79",.*}} (\S+)$'
        return int(sum(float(value) for value in re.findall(wanted, page, re.MULTILINE)))

    def need_a_reset(self) -> list[int]:
        return [card.index for card in parse_inventory(self.notes()[KEY]) if card.health.needs_reset]

    def uids(self) -> dict[str, str]:
        return {name: pod["metadata"]["uid"] for name, pod in self.running().items()}

    def restarts(self) -> int:
        return sum(s["restartCount"] for pod in pods(self.cp) for s in pod["status"].get("containerStatuses", []))

    def card_of(self, name: str) -> int:
        grant = parse_grant(self.running()[name]["metadata"]["annotations"][GRANT])
        return int(grant.of("main")[0].card.rpartition("-")[2])

    def leaves(self, uid: str) -> bool:
        alive = [pod for pod in pods(self.cp) if pod["metadata"]["uid"] == uid]
        return not alive or bool(alive[0]["metadata"].get("deletionTimestamp"))

    def paused(self) -> str:
        conditions = self.cp.api.get(f"/api/v1/nodes/{self.node.name}")["status"]["conditions"]
        return next((c["status"] for c in conditions if c["type"] == "KerfRecoveryPaused"), "")


def passed(since: float, condition: Callable[[], bool], what: str) -> float:
    """Seconds from `since` until the condition is true."""
    await_until(condition, what)
    return time.monotonic() - since


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, node: Node) -> Iterator[World]:
    folder = control_plane.run_dir / "recovery"
    folder.mkdir()
    policy, log = folder / "policy.yaml", folder / "kmsg"
    policy.write_text(json.dumps(POLICY))
    log.touch()
    (port,) = free_ports(1)
    made = World(control_plane, node, folder / "fleet.yaml", log, port)
    made.write_fleet()
    start_stack(control_plane, policy=policy)
    more = ("--kernel-log", str(log), "--config", str(policy), "--metrics-bind", f"127.0.0.1:{port}")
    start_plugin(control_plane, node, made.fleet, more)
    yield made
    made.clear()
    stop_stack(control_plane, PLUGIN)


@pytest.fixture(autouse=True)
def calm(world: World) -> Iterator[None]:
    """Each test begins with free, healthy cards."""
    yield
    world.clear()
    world.come_back()


def test_a_lost_card_moves_its_own_pod_and_its_neighbours_notice_nothing(world):
    world.run_apart("a", "b", "c", "d")
    before = world.uids()
    victim, card = before["b"], world.card_of("b")

    lost = world.off_the_bus(card)
    cordon = passed(lost, lambda: world.sick().get(card) == "cordoned", "the card to be cordoned")
    eviction = passed(lost, lambda: world.leaves(victim), "its pod to be evicted")
    runs = passed(lost, lambda: world.uids().get("b", victim) != victim, "its pod to run elsewhere")
    print(f"from the signal to the cordon {cordon:.2f} s, to the eviction {eviction:.2f} s, running again {runs:.2f} s")

    after = world.uids()
    assert {name: after[name] for name in "acd"} == {name: before[name] for name in "acd"}
    assert (world.restarts(), world.card_of("b") != card) == (0, True)
    assert (cordon <= CORDON_S, eviction <= EVICTION_S, runs <= RUNNING_S) == (True, True, True)
    assert world.notes()[FAULT_CORDON] == f"GPU-{world.node.name}-{card}"


def test_a_budget_holds_an_eviction_over_the_leaders_death_and_then_it_is_made(world):
    world.run_apart("held")
    uid, card = world.uids()["held"], world.card_of("held")
    world.hold("held")

    world.off_the_bus(card)
    await_until(lambda: FAULT_CORDON in world.notes(), "the card to be cordoned")
    world.cp.kill(EXTENDER)
    world.cp.supervisor.restart(EXTENDER)
    assert not world.leaves(uid)
    world.cp.api.delete(f"{BUDGETS}/held")

    await_until(lambda: world.uids().get("held", uid) != uid, "the pod to run elsewhere")
    assert world.card_of("held") != card


def test_a_device_plugin_that_is_killed_before_it_reports_a_fault_reports_it_when_it_is_back(world):
    world.run_apart("a")
    uid, card = world.uids()["a"], world.card_of("a")

    world.cp.kill(PLUGIN)
    world.off_the_bus(card)
    world.cp.supervisor.restart(PLUGIN)

    await_until(lambda: world.uids().get("a", uid) != uid, "the pod to run elsewhere")
    assert world.sick() == {card: "cordoned"}


def test_a_device_plugin_that_is_killed_between_seeing_a_fault_and_annotating_it_sees_it_again(world):
    world.run_apart("a", "b")
    before, card = world.uids(), world.card_of("a")

    world.cp.kill("kube-apiserver")
    world.off_the_bus(card)
    await_until(lambda: world.faults_seen(card) == 1, "the device plugin to see the fault")
    world.cp.kill(PLUGIN)
    world.cp.restart("kube-apiserver")
    assert world.sick() == {}
    world.cp.supervisor.restart(PLUGIN)

    await_until(lambda: world.uids().get("a", before["a"]) != before["a"], "the pod to run elsewhere")
    assert (world.sick(), world.uids()["b"]) == ({card: "cordoned"}, before["b"])


def test_a_card_that_comes_back_takes_pods_again(world):
    world.run_apart("a")
    uid, card = world.uids()["a"], world.card_of("a")
    world.off_the_bus(card)
    await_until(lambda: world.uids().get("a", uid) != uid, "the pod to run elsewhere")
    others = [f"more-{i}" for i in range(CARDS - 2)]
    world.run(*others)
    assert card not in {world.card_of(name) for name in ("a", *others)}

    world.come_back()

    world.run("last")
    assert world.card_of("last") == card


def test_half_of_the_cards_at_once_evict_nobody_until_a_person_says_so(world):
    names = ["a", "b", "c", "d"]
    world.run_apart(*names)
    before, cards = world.uids(), [world.card_of(name) for name in names]

    world.off_the_bus(*cards)
    await_until(lambda: world.paused() == "True", "recovery to be paused")
    time.sleep(EVICTION_S)  # an eviction would come within that time
    assert world.uids() == before

    resume = "import sys; from kerfctl.main import main; sys.exit(main(sys.argv[1:]))"
    command = (sys.executable, "-c", resume, "faults", "resume", world.node.name)
    subprocess.run([*command, "--kubeconfig", str(world.cp.kubeconfig)], check=True, timeout=60)

    await_until(lambda: all(world.leaves(uid) for uid in before.values()), "all four to be evicted")
    await_until(lambda: world.paused() == "False", "the pause to be over")
