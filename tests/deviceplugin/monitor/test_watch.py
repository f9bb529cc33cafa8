"""What the node monitor shows, reports and writes into ledgers."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from deviceplugin.core.usage import ContainerRef
from deviceplugin.gate.pods import BoundPods
from deviceplugin.monitor.processes import Processes
from deviceplugin.monitor.watch import Limits, Monitor
from deviceplugin.state.files import Files
from deviceplugin.state.ledgers import Ledgers
from deviceplugin.state.node import LocalNode
from deviceplugin.state.node_specs import NodeSpecs
from kerf.http.pages import serve_pages
from kerf.obs.metrics import Metrics
from kerf.probes.base import ProcessUse
from kerf.testing.builders import a_card, a_container, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.units import MIB
from kerf.vendors.registry import VENDORS
from kerf.wire.limiter import CARDS_AT, RECORDS, SLOTS_AT, CardLimit, LedgerSpec, parse_ledger, render_ledger
from kerf.wire.top import render_top, top_object

UID = "0d2a6c1e-1111-2222-3333-444455556666"
ID = "ab" * 32


class World:
    """One node with one card and one pod that was granted 8,000 MiB and 30 % of it."""

    def __init__(self, root: Path, **limits: Any) -> None:
        pod = a_pod("pod", uid=UID, node="node-1", phase="Running")
        pod["status"]["containerStatuses"] = [{"name": "main", "containerID": f"containerd://{ID}"}]
        self.kube = FakeKube(a_node("node-1", cards=()), pod)
        self.files = Files(str(root / "state"), str(root / "cdi"), None, NodeSpecs((), VENDORS))
        node = LocalNode("node-1")
        node.update_cards((a_card(0, memory_mib=80_000),))
        pods = BoundPods(self.kube, node, VENDORS)
        self.monitor = Monitor(self.kube, pods, node, Ledgers(self.files), Limits(**limits))
        self.proc = root / "proc"
        self.proc.mkdir()
        self.monitor.processes = Processes(str(self.proc))
        self.said: list[str] = []
        limit = CardLimit("GPU-0", 8000 * MIB, 30)
        self.files.write_ledger(UID, "main", render_ledger(LedgerSpec((limit,))))

    def a_process(self, pid: int, *, inside: int = 7, start: int = 99, pod: str = UID, container: str = ID) -> int:
        folder = self.proc / str(pid)
        folder.mkdir()
        (folder / "cgroup").write_text(f"0::/kubepods/pod{pod}/{container}\n" if pod else "0::/user.slice\n")
        (folder / "status").write_text(f"Name:\tx\nNSpid:\t{pid}\t{inside}\n")
        (folder / "stat").write_text(f"{pid} (a b) c) S {' '.join(['0'] * 18)} {start} 0\n")
        return pid

    def patch_ledger(self, base: int, record: str, **values: int) -> None:
        path = Path(self.files.ledger_path(UID, "main"))
        data = bytearray(path.read_bytes())
        RECORDS[record].write(data, base, **values)
        with path.open("r+b") as file:
            file.write(data)

    def look(self, *uses: ProcessUse) -> None:
        self.monitor.run_once(uses, lambda pod, sentence: self.said.append(f"{pod['metadata']['name']}: {sentence}"))

    def metrics(self) -> list[str]:
        registry = CollectorRegistry()
        registry.register(self.monitor)
        return generate_latest(registry).decode().splitlines()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, report_after_s=0.0)


def test_metrics_name_the_container_its_grant_and_its_use(world: World):
    world.patch_ledger(CARDS_AT, "card", charged=3000 * MIB, peak=4000 * MIB, denied=2, busy_ns=1_500_000_000)
    world.look(ProcessUse("GPU-0", world.a_process(41), 3100 * MIB, 25))

    labels = '{card="GPU-0",container="main",namespace="default",pod="pod"}'
    assert {
        f"kerf_container_memory_used_bytes{labels} {float(3000 * MIB)}",
        f"kerf_container_memory_limit_bytes{labels} {float(8000 * MIB)}",
        f"kerf_container_cores_limit_percent{labels} 30.0",
        f"kerf_container_denied_total{labels} 2.0",
        f"kerf_container_gpu_seconds_total{labels} 1.5",
        f'kerf_node_card_used_bytes{{card="GPU-0"}} {float(3100 * MIB)}',
    } <= {normal(line) for line in world.metrics()}


def test_on_demand_the_same_look_has_hamis_names_too(tmp_path: Path):
    world = World(tmp_path, hami=True)
    world.patch_ledger(CARDS_AT, "card", charged=3000 * MIB)
    world.look(
        ProcessUse("GPU-0", world.a_process(41), 3100 * MIB, 25),
        ProcessUse("GPU-0", world.a_process(42, pod=""), 500 * MIB, 0),
    )

    host = f'{{device_index="0",device_type="{a_card(0).model}",device_uuid="GPU-0",node="node-1"}}'
    container = '{container="main",device_uuid="GPU-0",namespace="default",pod="pod",vdevice_index="0"}'
    assert {normal(line) for line in world.metrics() if line.startswith("hami_")} == {
        f"hami_host_gpu_memory_used_bytes{host} {float(3600 * MIB)}",
        f"hami_host_gpu_utilization_ratio{host} 25.0",
        f"hami_vgpu_memory_used_bytes{container} {float(3000 * MIB)}",
        f"hami_vgpu_memory_limit_bytes{container} {float(8000 * MIB)}",
        f"hami_container_device_memory_bytes{container} {float(3100 * MIB)}",
        f"hami_container_device_utilization_ratio{container} 25.0",
    }


def test_without_a_demand_no_series_has_hamis_names(world: World):
    world.look(ProcessUse("GPU-0", world.a_process(41), 3100 * MIB, 25))

    assert [line for line in world.metrics() if "hami_" in line] == []


def normal(line: str) -> str:
    """A sample with its number as Python prints it."""
    name, _, number = line.rpartition(" ")
    return line if line.startswith("#") else f"{name} {float(number)}"


def test_busy_sms_by_the_driver_are_a_series_of_the_container(world: World):
    world.look(ProcessUse("GPU-0", world.a_process(41), MIB, 25))

    labels = '{card="GPU-0",container="main",namespace="default",pod="pod"}'
    assert f"kerf_container_busy_percent{labels} 25.0" in {normal(line) for line in world.metrics()}


def test_top_shows_use_against_grant(world: World):
    world.patch_ledger(CARDS_AT, "card", charged=3000 * MIB, peak=4000 * MIB, denied=2, throttled_ns=7_000_000)
    world.look(
        ProcessUse("GPU-0", world.a_process(41), 3100 * MIB, 25),
        ProcessUse("GPU-0", world.a_process(42, pod=""), 500 * MIB, 0),
    )

    assert top_object(world.monitor.top()) == {
        "v": 1,
        "cards": [
            {
                "card": "GPU-0",
                "model": "NVIDIA H100 80GB HBM3",
                "memory_mib": 80_000,
                "used_mib": 3600,
                "foreign_mib": 500,
                "healthy": True,
            }
        ],
        "containers": [
            {
                "namespace": "default",
                "pod": "pod",
                "container": "main",
                "card": "GPU-0",
                "limit_mib": 8000,
                "used_mib": 3000,
                "peak_mib": 4000,
                "driver_mib": 3100,
                "denied": 2,
                "cores": 30,
                "busy_percent": 25,
                "throttled_ms": 7,
                "launches": 0,
                "processes": [],
                "events": {},
                "bypassed": False,
            }
        ],
        "overuse": [],
    }


def test_memory_past_the_limiter_is_reported_once_while_it_lasts(world: World):
    use = ProcessUse("GPU-0", world.a_process(41), 9000 * MIB)

    for _ in range(3):
        world.look(use)

    assert world.said == ["pod: container main uses 9,000 MiB of card GPU-0 past the limiter: 8,000 MiB granted"]
    labels = '{card="GPU-0",container="main",namespace="default",pod="pod"}'
    assert f"kerf_container_overuse_bytes{labels} {float(1000 * MIB)}" in {normal(line) for line in world.metrics()}
    assert world.monitor.top().containers[0].bypassed
    assert world.kube.writes == []


def test_a_card_that_was_not_granted_is_reported_from_the_first_byte(world: World):
    world.look(ProcessUse("GPU-1", world.a_process(41), MIB))

    assert world.said == ["pod: container main uses 1 MiB of card GPU-1, which it was not granted"]


HAMI_UID = "1d2a6c1e-1111-2222-3333-444455556666"
BOTH = {"main": "GPU-0,NVIDIA,4000,30:;", "side": "GPU-0,NVIDIA,1000,10:;"}


@pytest.mark.parametrize(
    ("names", "record", "most"),
    [
        (["main", "side"], "".join(BOTH.values()), 4000),
        (["main", "side"], BOTH["main"], 4000),
        (["main", "side", "plain"], "".join(BOTH.values()), 5000),
    ],
    ids=["a place for each container", "one place for two", "two places for three"],
)
def test_what_hami_gave_its_pods_is_no_overuse(world: World, names: list[str], record: str, most: int):
    """HAMi leaves out the place of a container without cards, so a record may not say whose a slice is."""
    notes = {"hami.io/vgpu-node": "node-1", "hami.io/vgpu-devices-allocated": record}
    containers = [a_container(name) for name in names]
    pod = a_pod("theirs", uid=HAMI_UID, node="node-1", phase="Running", annotations=notes, containers=containers)
    pod["status"]["containerStatuses"] = [{"name": "main", "containerID": f"containerd://{'cd' * 32}"}]
    world.kube.put(pod)
    world.look()
    pid = world.a_process(51, pod=HAMI_UID, container="cd" * 32)

    world.look(ProcessUse("GPU-0", pid, (most + 512) * MIB))
    assert world.said == []
    world.look(ProcessUse("GPU-0", pid, (most + 513) * MIB))

    granted = f"{most:,} MiB granted"
    assert world.said == [f"theirs: container main uses {most + 513:,} MiB of card GPU-0 past the limiter: {granted}"]
    world.look(ProcessUse("GPU-9", pid, MIB))
    assert world.said[1:] == ["theirs: container main uses 1 MiB of card GPU-9, which it was not granted"]


def test_eviction_only_where_it_is_asked_for(tmp_path: Path):
    world = World(tmp_path, report_after_s=0.0, evict_after_s=1e-9)
    use = ProcessUse("GPU-0", world.a_process(41), 9000 * MIB)

    world.look(use)
    world.look(use)

    assert ("POST", "/api/v1/namespaces/default/pods/pod/eviction") in world.kube.writes


def test_the_ledger_gets_the_measured_share_and_the_pids_on_the_host(world: World):
    world.patch_ledger(SLOTS_AT, "slot", pid=7, start=99)
    # a living process holds its slot's mutex: the first word of `life` is its thread's id
    life = SLOTS_AT + RECORDS["slot"].offsets["life"]
    path = Path(world.files.ledger_path(UID, "main"))
    with path.open("r+b") as file:
        file.seek(life)
        file.write(struct.pack("<I", 7))

    world.look(ProcessUse("GPU-0", world.a_process(41), MIB, 25))

    data = path.read_bytes()
    view = parse_ledger(data)
    assert [(process.pid, process.host_pid) for process in view.processes] == [(7, 41)]
    assert view.cards[0].measured_permille == 250
    assert RECORDS["card"].number(data, CARDS_AT, "measured_at_ns") > 0


def test_a_damaged_ledger_is_skipped_and_the_others_are_shown(world: World):
    world.files.write_ledger(UID, "broken", b"not a ledger")

    world.look()

    assert list(Ledgers(world.files).read()) == [ContainerRef(UID, "main")]


@pytest.fixture
def served(world: World) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    registry = Metrics()
    registry.registry.register(world.monitor)
    pages = {"/top": lambda _: render_top(world.monitor.top())}
    server = serve_pages(("127.0.0.1", port), registry, pages, lambda: "not yet")
    yield port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/healthz", b"200 OK"),
        ("/readyz", b"503 Service Unavailable"),
        ("/metrics", b"kerf_container_memory_used_bytes"),
        ("/top", b'"v": 1'),
        ("/none", b"404 Not Found"),
    ],
)
def test_the_pages_answer(served: int, path: str, expected: bytes):
    with socket.create_connection(("127.0.0.1", served)) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert expected in answer
