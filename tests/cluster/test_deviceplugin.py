"""The device plugin on a real kubelet: every container starts with its own grant, whatever is killed meanwhile."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.monitor.processes import Processes
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.inventory import KEY, parse_inventory
from kerf.wire.limiter import parse_ledger
from sandbox import SLEEPER, Command, ControlPlane, Node, await_until, free_ports, parse_report
from sandbox.stack import plugin_on
from tests.cluster.sandbox_pods import PODS

pytestmark = pytest.mark.cluster

USER = "system:serviceaccount:kerf-system:kerf-deviceplugin"
LEDGER = "/usr/local/kerf/ledger"
CARDS = tuple(f"GPU-sim-{i}" for i in range(4))
LIBRARY = b"the sleeper is static: it only shows what was mounted"


@dataclass(frozen=True)
class Plugin:
    """The plugin's process and directories beside a real node."""

    cp: ControlPlane
    node: Node
    state: Path
    fleet: Path
    http: str

    def allocatable(self) -> int:
        status = self.cp.api.get(f"/api/v1/nodes/{self.node.name}")["status"]
        return int(status.get("allocatable", {}).get("nvidia.com/gpu", 0))

    def published(self) -> bool:
        """Whether the node has the inventory: the kubelet may count the slots before that."""
        return KEY in self.cp.api.get(f"/api/v1/nodes/{self.node.name}")["metadata"].get("annotations", {})

    def log(self) -> str:
        return self.cp.supervisor.log("deviceplugin").read_text()

    def kill(self) -> None:
        self.cp.kill("deviceplugin")

    def start_again(self) -> None:
        seen = self.watches()
        self.cp.supervisor.restart("deviceplugin")
        self.await_watch(seen)

    def watches(self) -> int:
        """How often a kubelet has listed the slots and all were healthy."""
        return self.log().count("40 slots, 40 of them healthy")

    def await_watch(self, seen: int) -> None:
        await_until(lambda: self.watches() > seen, "the kubelet to watch the slots again")

    def admitted(self) -> str:
        """The kubelet's checkpoint of its devices."""
        return (Path(self.node.device_plugin_dir) / "kubelet_internal_checkpoint").read_text()


def write_fleet(path: Path, *uses: dict[str, Any]) -> None:
    """Four cards of 80 GiB, and what processes pretend to use of them."""
    cards = {"model": "H100", "memory_mib": 81_920, "ids": list(CARDS), "count": 4}
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"cards": [cards], "uses": list(uses)}))
    fresh.replace(path)


@pytest.fixture(scope="module")
def plugin(control_plane: ControlPlane, node: Node) -> Iterator[Plugin]:
    directory = control_plane.run_dir / "deviceplugin"
    directory.mkdir()
    fleet = directory / "fleet.yaml"
    write_fleet(fleet)
    library = directory / "libkerf.so"
    library.write_bytes(LIBRARY)
    http = f"127.0.0.1:{free_ports(1)[0]}"
    argv = (
        *plugin_on(node, control_plane.kubeconfig_for(USER), fleet, directory / "state"),
        "--cdi-specs-from", str(node.cdi_dirs[0]),
        "--limiter", str(library),
        "--metrics-bind", http,
        "--overuse-report-after", "2",
    )  # fmt: skip
    made = Plugin(control_plane, node, directory / "state", fleet, http)
    control_plane.supervisor.start(Command("deviceplugin", argv, ready=(directory / "state").exists))
    await_until(lambda: made.allocatable() == 40, "the kubelet to count forty slots")
    await_until(made.published, "the inventory to be published")
    yield made
    control_plane.supervisor.stop("deviceplugin")


@pytest.fixture(autouse=True)
def no_pods_left(plugin: Plugin) -> Iterator[None]:
    """Each test gets free cards."""
    yield
    names = [pod["metadata"]["name"] for pod in plugin.cp.api.get(PODS)["items"]]
    remove(plugin, *(name for name in names if name.startswith(PREFIX)))


PREFIX = "dp-"
Slices = list[tuple[int, int, int]]


def submit(plugin: Plugin, name: str, *, args: dict[str, tuple[str, ...]] | None = None, **containers: Slices) -> str:
    """Create a pod whose containers ask for (card, MiB, cores) each, and bind it with that grant. Returns its name."""
    unbound(plugin, name, args or {}, containers)
    bind(plugin, name, containers)
    return name


def unbound(plugin: Plugin, name: str, args: dict[str, tuple[str, ...]], containers: dict[str, Slices]) -> None:
    made = {key: a_container(key, slices, args.get(key, ())) for key, slices in containers.items()}
    plugin.cp.api.post(
        PODS,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "schedulerName": "nobody",
                "terminationGracePeriodSeconds": 1,
                "initContainers": [c for key, c in made.items() if key.startswith(("init", "sidecar"))],
                "containers": [c for key, c in made.items() if not key.startswith(("init", "sidecar"))],
            },
        },
    )


def a_container(name: str, slices: Slices, args: tuple[str, ...]) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(len(slices))}
    limits |= {"nvidia.com/gpumem": str(slices[0][1]), "nvidia.com/gpucores": str(slices[0][2])}
    ends = ("--exit", "0") if name.startswith("init") else ()
    return {
        "name": name,
        "image": SLEEPER,
        "imagePullPolicy": "Never",
        "args": ["--cat", LEDGER, *ends, *args],
        "resources": {"limits": limits if slices else {}},
        **({"restartPolicy": "Always"} if name.startswith("sidecar") else {}),
    }


def bind(plugin: Plugin, name: str, containers: dict[str, Slices]) -> None:
    grant = Grant(
        tuple(
            ContainerGrant(key, tuple(Slice(CARDS[card], "nvidia", mib, cores) for card, mib, cores in slices))
            for key, slices in containers.items()
        )
    )
    plugin.cp.api.post(
        f"{PODS}/{name}/binding",
        {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "annotations": {GRANT: render_grant(grant)}},
            "target": {"apiVersion": "v1", "kind": "Node", "name": plugin.node.name},
        },
    )


def got(plugin: Plugin, pod: str, container: str = "main") -> Slices:
    """What the container's own process saw. Its environment and its ledger must agree."""

    def complete() -> bool:
        return parse_report(plugin.node.output("default", pod, container)).complete

    try:
        await_until(complete, f"the report of {pod}/{container}")
    except Exception as error:
        raise AssertionError([*events(plugin, pod), plugin.log()[-3000:]]) from error
    report = parse_report(plugin.node.output("default", pod, container))
    ledger = parse_ledger(report.files[LEDGER]).spec
    assert report.environment["KERF_LEDGER"] == LEDGER
    assert report.environment["NVIDIA_VISIBLE_DEVICES"].split(",") == [card.uuid for card in ledger.cards]
    for i, card in enumerate(ledger.cards):
        assert report.environment[f"CUDA_DEVICE_MEMORY_LIMIT_{i}"] == f"{(card.memory_bytes or 0) >> 20}m"
    return [(CARDS.index(c.uuid), (c.memory_bytes or 0) >> 20, c.cores or 0) for c in ledger.cards]


def events(plugin: Plugin, pod: str) -> list[str]:
    found = plugin.cp.api.get("/api/v1/namespaces/default/events")["items"]
    return [each["message"] for each in found if each["involvedObject"]["name"] == pod]


def restarts(plugin: Plugin, pod: str) -> int:
    statuses = plugin.cp.api.get(f"{PODS}/{pod}")["status"].get("containerStatuses", ())
    return sum(each["restartCount"] for each in statuses)


def remove(plugin: Plugin, *pods: str) -> None:
    for pod in pods:
        plugin.cp.api.delete(f"{PODS}/{pod}", grace_seconds=0)


def test_the_node_counts_forty_slots_and_its_inventory_is_published(plugin: Plugin):
    node = plugin.cp.api.get(f"/api/v1/nodes/{plugin.node.name}")

    assert node["status"]["capacity"]["nvidia.com/gpu"] == "40"
    assert [card.id for card in parse_inventory(node["metadata"]["annotations"][KEY])] == list(CARDS)


def test_twenty_pods_with_equal_counts_and_different_memory_get_their_own_twenty_of_twenty(plugin: Plugin):
    asked = {f"dp-twenty-{i:02}": [(i % 4, 1000 + i, 5)] for i in range(20)}
    for name, slices in asked.items():
        unbound(plugin, name, {}, {"main": slices})
    for name, slices in asked.items():
        bind(plugin, name, {"main": slices})

    assert {name: got(plugin, name) for name in asked} == asked


def test_two_containers_a_sidecar_and_an_init_container_per_pod_get_their_own(plugin: Plugin):
    asked: dict[str, dict[str, Slices]] = {
        f"dp-mixed-{i}": {
            "init": [(0, 5000 + i, 10)],
            "sidecar": [(1, 600 + i, 5)],
            "main": [(2, 7000 + i, 20)],
            "second": [(3, 800 + i, 5)],
        }
        for i in range(4)
    }
    for name, containers in asked.items():
        submit(plugin, name, **containers)

    assert {name: {c: got(plugin, name, c) for c in containers} for name, containers in asked.items()} == asked


def test_an_init_container_that_shares_its_slots_with_the_app_gets_its_own_slice_and_so_does_the_app(plugin: Plugin):
    submit(plugin, "dp-lent", init=[(0, 5000, 10)], init2=[(1, 600, 3)], main=[(2, 7000, 20)])

    assert [got(plugin, "dp-lent", c) for c in ("init", "init2", "main")] == [
        [(0, 5000, 10)],
        [(1, 600, 3)],
        [(2, 7000, 20)],
    ]


def test_a_container_that_restarts_gets_the_same_again(plugin: Plugin):
    submit(plugin, "dp-again", args={"main": ("--exit", "3", "--sleep", "1s")}, init=[(3, 900, 1)], main=[(0, 4321, 7)])

    await_until(lambda: restarts(plugin, "dp-again") >= 2, "two restarts")

    assert got(plugin, "dp-again") == [(0, 4321, 7)]


def test_a_pod_that_takes_several_cards_sees_them_in_the_grants_order(plugin: Plugin):
    submit(plugin, "dp-wide", main=[(3, 9000, 25), (1, 9000, 25)])

    assert got(plugin, "dp-wide") == [(3, 9000, 25), (1, 9000, 25)]


def test_the_limiter_its_preload_line_and_the_cards_arbiters_stand_in_the_container(plugin: Plugin):
    inside = "/usr/local/kerf"
    args = ("--cat", "/etc/ld.so.preload", "--cat", f"{inside}/libkerf.so", "--list", inside)
    submit(plugin, "dp-limited", args={"main": args}, main=[(2, 9000, 25), (0, 9000, 25)])
    got(plugin, "dp-limited")

    report = parse_report(plugin.node.output("default", "dp-limited", "main"))
    ledger = parse_ledger(report.files[LEDGER]).spec

    assert report.listings == {inside: ("arbiter-0", "arbiter-1", "ledger", "libkerf.so")}
    assert report.files["/etc/ld.so.preload"] == f"{inside}/libkerf.so\n".encode()
    assert report.files[f"{inside}/libkerf.so"] == LIBRARY
    assert [card.arbiter for card in ledger.cards] == [f"{inside}/arbiter-0", f"{inside}/arbiter-1"]


def test_with_the_plugin_killed_half_way_every_pod_still_gets_its_own(plugin: Plugin):
    asked: dict[str, dict[str, Slices]] = {
        f"dp-killed-{i:02}": {"init": [(3 - i % 4, 10 + i, 1)], "main": [(i % 4, 2000 + i, 5)]} for i in range(20)
    }
    for i, (name, containers) in enumerate(asked.items()):
        # every second pod still waits for its init container when the plugin dies
        submit(plugin, name, args={"init": ("--sleep", f"{i % 2 * 4}s")}, **containers)
    uids = [plugin.cp.api.get(f"{PODS}/{name}")["metadata"]["uid"] for name in asked]
    await_until(lambda: all(plugin.admitted().count(uid) == 2 for uid in uids), "the kubelet to admit all")

    plugin.kill()
    started = [name for name in asked if plugin.node.output("default", name, "main")]
    plugin.start_again()

    assert len(started) < len(asked), "the kill came too late to be half-way"
    assert {name: {c: got(plugin, name, c) for c in containers} for name, containers in asked.items()} == asked


def test_with_the_kubelet_restarted_half_way_every_pod_still_gets_its_own(plugin: Plugin):
    asked = {f"dp-kept-{i}": [(i % 4, 3000 + i, 5)] for i in range(8)}
    for name, slices in list(asked.items())[:4]:
        submit(plugin, name, init=[(0, 10, 1)], main=slices)
    got(plugin, "dp-kept-0", "init")

    seen = plugin.watches()
    plugin.cp.kill(plugin.node.kubelet)
    plugin.node.restart_kubelet()
    plugin.await_watch(seen)
    for name, slices in list(asked.items())[4:]:
        submit(plugin, name, main=slices)

    assert {name: got(plugin, name) for name in asked} == asked


def test_a_plugin_that_is_asked_to_stop_withdraws_its_cards_while_it_still_serves(plugin: Plugin):
    def offered() -> list[bool]:
        notes = plugin.cp.api.get(f"/api/v1/nodes/{plugin.node.name}")["metadata"]["annotations"]
        return [card.healthy for card in parse_inventory(notes[KEY])]

    plugin.cp.kill("deviceplugin", signal.SIGTERM)
    await_until(lambda: offered() == [False] * 4, "the cards to be withdrawn")
    submit(plugin, "dp-on-its-way", main=[(0, 1000, 5)])
    await_until(lambda: not plugin.cp.supervisor.alive("deviceplugin"), "the plugin to end")
    plugin.start_again()

    assert got(plugin, "dp-on-its-way") == [(0, 1000, 5)]
    await_until(lambda: offered() == [True] * 4, "the cards to be offered again")


def test_a_pod_without_a_grant_never_runs_and_its_events_say_why(plugin: Plugin):
    unbound(plugin, "dp-stranger", {}, {"main": [(0, 1000, 5)]})
    target = {"apiVersion": "v1", "kind": "Node", "name": plugin.node.name}
    plugin.cp.api.post(f"{PODS}/dp-stranger/binding", {"metadata": {"name": "dp-stranger"}, "target": target})

    expected = "pod default/dp-stranger has no grant (kerf.dev/grant): it was not placed by Kerf's scheduler"
    await_until(lambda: expected in events(plugin, "dp-stranger"), "the event")
    assert plugin.node.output("default", "dp-stranger", "main") == ""


def test_of_two_pods_that_over_commit_a_card_one_runs_and_the_other_waits_with_the_numbers(plugin: Plugin):
    asked = {"dp-large": 50_000, "dp-small": 40_000}
    for name, mib in asked.items():
        submit(plugin, name, main=[(0, mib, 5)])
    await_until(lambda: any(refusals(plugin, name) for name in asked), "a refusal")

    loser = next(name for name in asked if refusals(plugin, name))
    winner = next(name for name in asked if name != loser)

    assert got(plugin, winner) == [(0, asked[winner], 5)]
    expected = (
        f"pod default/{loser} was granted {asked[loser]:,} MiB of card {CARDS[0]}, but {asked[winner]:,} of its 81,920 "
        f"are held (default/{winner}): {81_920 - asked[winner]:,} are free"
    )
    assert refusals(plugin, loser) == [expected]
    remove(plugin, winner)
    assert got(plugin, loser) == [(0, asked[loser], 5)]


def refusals(plugin: Plugin, pod: str) -> list[str]:
    return [message for message in events(plugin, pod) if message.startswith(f"pod default/{pod} ")]


def test_what_was_written_for_pods_goes_with_them(plugin: Plugin):
    submit(plugin, "dp-passing", main=[(0, 1000, 5)])
    got(plugin, "dp-passing")
    uid = plugin.cp.api.get(f"{PODS}/dp-passing")["metadata"]["uid"]
    assert (plugin.state / "ledgers" / uid / "main").exists()

    remove(plugin, "dp-passing")

    await_until(lambda: not (plugin.state / "ledgers" / uid).exists(), "the ledgers to be removed")
    await_until(lambda: not specs_of(plugin, uid), "the CDI specs to be removed")


def specs_of(plugin: Plugin, uid: str) -> list[str]:
    """The CDI specs that name a pod; one may be removed while they are read."""
    found = []
    for path in plugin.node.cdi_dirs[0].glob("kerf.dev-grant_*.json"):
        with suppress(FileNotFoundError):
            found += [path.name] if uid in path.read_text() else []
    return found


def test_memory_that_bypassed_the_limiter_is_reported_on_the_pod_that_uses_it(plugin: Plugin):
    submit(plugin, "dp-bypass", main=[(0, 8000, 30)])
    got(plugin, "dp-bypass")
    uid = plugin.cp.api.get(f"{PODS}/dp-bypass")["metadata"]["uid"]
    host = max(pid for pid, inside, _ in Processes().in_pod(uid) if inside == 1)  # the sandbox's pause came first

    write_fleet(plugin.fleet, {"card": CARDS[0], "pid": host, "memory_mib": 9000, "percent": 40})

    expected = f"container main uses 9,000 MiB of card {CARDS[0]} past the limiter: 8,000 MiB granted"
    await_until(lambda: expected in events(plugin, "dp-bypass"), "the event")
    top = json.loads(fetch(plugin, "/top"))
    row = next(each for each in top["containers"] if each["pod"] == "dp-bypass")
    assert (row["limit_mib"], row["driver_mib"], row["busy_percent"], row["bypassed"]) == (8000, 9000, 40, True)
    write_fleet(plugin.fleet)


def test_starts_are_counted_and_timed(plugin: Plugin):
    submit(plugin, "dp-timed", main=[(0, 8000, 30)])
    got(plugin, "dp-timed")

    lines = fetch(plugin, "/metrics").splitlines()

    counts = dict(line.rsplit(" ", 1) for line in lines if line.startswith("kerf_node_start"))
    assert float(counts['kerf_node_starts_total{result="started"}']) >= 1
    assert float(counts["kerf_node_start_seconds_count"]) >= 1


def fetch(plugin: Plugin, path: str) -> str:
    with urllib.request.urlopen(f"http://{plugin.http}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_the_plugin_writes_the_inventory_and_nothing_else_but_events(plugin: Plugin):
    writes = {(w.verb, w.resource) for w in plugin.cp.writes_by(USER)}

    nodes = {("patch", "nodes"), ("patch", "nodes/status")}
    assert nodes <= writes <= {*nodes, ("create", "events")}
