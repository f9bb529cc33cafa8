"""Two replicas of the extender: one leads, the other takes over, and no share is ever granted twice."""

import http.client
import json
import random
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kerf.kube.client import connect
from kerf.testing.builders import a_grant
from kerf.wire.annotations import GRANT, render_grant
from sandbox import ControlPlane, await_until
from sandbox.invariants import overcommitted, ungranted
from tests.cluster.gpu_pods import (
    PODS,
    a_fake_node,
    a_gpu_pod,
    await_bound,
    create,
    pods,
    remove_pods,
    seconds_until,
)
from tests.cluster.replicas import Replicas, replicas

pytestmark = pytest.mark.cluster
WHOLE = 81_559
NODES = [f"ha-{i}" for i in range(2)]
CARDS = 8


@pytest.fixture(scope="module")
def fleet(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    control_plane.add_fake_nodes([a_fake_node(name, CARDS) for name in NODES])
    yield control_plane
    for name in NODES:
        control_plane.api.delete(f"/api/v1/nodes/{name}")


@pytest.fixture
def cp(fleet: ControlPlane) -> Iterator[ControlPlane]:
    yield fleet
    remove_pods(fleet)


@pytest.fixture
def pair(cp: ControlPlane) -> Iterator[Replicas]:
    with replicas(cp, "one", "two") as pair:
        yield pair


def violations(cp: ControlPlane) -> list[str]:
    found = pods(cp)
    return overcommitted(cp.api.get("/api/v1/nodes")["items"], found) + ungranted(found)


def bound(cp: ControlPlane) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods(cp) if pod["spec"].get("nodeName")]


def crowd(cp: ControlPlane, count: int, prefix: str = "crowd", **ask: int) -> list[dict]:
    """Pods that only the test binds."""
    names = [f"{prefix}-{i}" for i in range(count)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: create(cp, a_gpu_pod(name, **(ask or {"mem": WHOLE, "cores": 100}))), names))
    return [pod for pod in pods(cp) if pod["metadata"]["name"].startswith(f"{prefix}-")]


def test_a_body_that_comes_late_finds_a_binding_that_the_api_server_has_given_up(cp):
    create(cp, a_gpu_pod("late"))
    where = urlsplit(cp.url)
    connection = http.client.HTTPSConnection(
        where.hostname, where.port, context=ssl.create_default_context(cafile=cp.ca), timeout=10
    )
    grant = render_grant(a_grant(f"GPU-{NODES[0]}-0"))
    target = {"apiVersion": "v1", "kind": "Node", "name": NODES[0]}
    body = json.dumps({"metadata": {"name": "late", "annotations": {GRANT: grant}}, "target": target}).encode()
    connection.putrequest("POST", f"{PODS}/late/binding?timeout=500ms")
    for name, value in {
        "Authorization": f"Bearer {cp.token}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Expect": "100-continue",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    with connection.sock.makefile("rb", buffering=0) as raw:
        assert raw.readline().split()[1] == b"100"
        raw.readline()
    time.sleep(1.0)  # the test is about the pause itself

    connection.send(body)

    assert connection.getresponse().status == 504
    connection.close()
    time.sleep(0.5)
    assert bound(cp) == []


def test_a_leader_that_is_killed_is_replaced_within_five_seconds(cp, pair):
    pod, *_ = crowd(cp, 1)

    cp.kill("one")
    took = seconds_until(lambda: pair.bind("two", pod, NODES[0]) == "", "a bind at the other replica")

    assert took <= 5.0
    assert pair.leader() == "two"
    print(f"fail-over after SIGKILL: {took:.2f} s")


def test_a_leader_that_is_asked_to_stop_hands_over_within_a_second_and_exits_cleanly(cp, pair):
    pod, *_ = crowd(cp, 1)

    start = time.monotonic()
    cp.kill("one", signal.SIGTERM)
    process = cp.supervisor._running["one"]
    assert process.wait(10) == 0
    ended = time.monotonic()
    took = seconds_until(lambda: pair.bind("two", pod, NODES[0]) == "", "a bind at the other replica")

    assert ended - start <= 3.0
    assert took <= 1.0
    print(f"exit after {ended - start:.2f} s, hand-over {took:.2f} s after it")


def test_a_follower_answers_and_passes_binds_on_to_the_leader(cp, pair):
    (pod,) = crowd(cp, 1)

    answer = json.loads(
        pair.call("two", "POST", "/filter", json.dumps({"Pod": pod, "NodeNames": NODES}).encode(), 5)[1]
    )

    assert sorted(answer["NodeNames"]) == NODES
    assert pair.bind("two", pod, NODES[0]) == ""
    assert 'kerf_scheduler_binds_total{outcome="bound"} 1.0' in pair.metrics("one")
    assert 'kerf_scheduler_forwarded_total{outcome="answered",verb="bind"} 1.0' in pair.metrics("two")


def test_under_split_brain_no_share_is_granted_twice(cp, pair):
    """The leader is stopped during binds, the other replica takes over and fills every card, the first continues."""
    chance = random.Random(7)
    for attempt in range(3):
        stopped = pair.await_leader()
        other = "two" if stopped == "one" else "one"
        crowd(cp, 40, f"round{attempt}")
        over = threading.Event()

        def push(name: str, start: int, over: threading.Event = over) -> None:
            """Keep trying to bind every pending pod at one replica."""
            number = start
            while not over.is_set():
                for pod in [p for p in pods(cp) if not p["spec"].get("nodeName")][start::4] or [None]:
                    if pod is not None and not over.is_set():
                        pair.bind(name, pod, NODES[number % len(NODES)], 1.0)
                    number += 1

        with ThreadPoolExecutor(8) as pool:
            for start in range(4):
                pool.submit(push, stopped, start)
            time.sleep(chance.uniform(0.02, 0.15))  # anywhere in the middle
            cp.kill(stopped, signal.SIGSTOP)
            for start in range(4):
                pool.submit(push, other, start)
            pair.await_leader(other)
            await_until(lambda: len(bound(cp)) == len(NODES) * CARDS, "every card to be taken")
            cp.kill(stopped, signal.SIGCONT)
            time.sleep(2.0)  # time for the first to cause harm
            over.set()

        assert pair.leader() == other
        assert violations(cp) == []
        assert len(bound(cp)) == len(NODES) * CARDS
        remove_pods(cp)


def test_a_rolling_upgrade_under_a_stream_of_pods_loses_and_doubles_nothing(cp):
    """Two pods as the chart makes them: a leader-elected kube-scheduler with its own extender. Both are replaced."""
    with replicas(cp, "old-1", "old-2", schedulers=True) as shop:
        names: list[str] = []
        over = threading.Event()

        def stream() -> None:
            while not over.wait(0.1):
                name = f"stream-{len(names)}"
                create(cp, a_gpu_pod(name, mem=2000, cores=2))
                names.append(name)

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            for old, new in (("old-1", "new-1"), ("old-2", "new-2")):
                shop.start(new)
                shop.start_scheduler(new)
                cp.supervisor.stop(f"kube-scheduler-{old}")
                cp.supervisor.stop(old)
                shop.ports.pop(old)
        finally:
            over.set()
            thread.join()
        await_bound(cp, *names)

        assert violations(cp) == []
        assert {pod["metadata"]["name"] for pod in pods(cp)} == set(names)
        assert shop.await_leader() in ("new-1", "new-2")
        print(f"{len(names)} pods during the upgrade")


def test_a_replica_whose_clocks_are_a_day_off_does_not_disturb_and_can_lead(cp, pair):
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kerf-scheduler"
    kube = connect(str(cp.kubeconfig))
    cp.kill("one", signal.SIGSTOP)
    kube.patch(lease, {"spec": {"renewTime": "2099-01-01T00:00:00.000000Z"}})
    pod, *_ = crowd(cp, 1)

    took = seconds_until(lambda: pair.bind("two", pod, NODES[0], 2.0) == "", "a bind at the other replica")
    cp.kill("one", signal.SIGCONT)
    kube.close()

    assert took <= 5.0
    assert violations(cp) == []


def test_a_flood_of_bodies_is_turned_away_and_memory_stays(cp, pair):
    """400 connections announce 1 MiB each and send half of it: 64 MiB are accepted, the others get 503."""
    pid = cp.supervisor.pid("one")

    def resident_mib() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024

    before = resident_mib()
    head = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n"
    with ExitStack() as held:
        flood = [held.enter_context(socket.create_connection(("127.0.0.1", pair.ports["one"]))) for _ in range(400)]
        for connection in flood:
            connection.sendall(head + b" " * 524_288)
        await_until(lambda: len(select.select(flood, [], [], 0)[0]) >= 336, "those above 64 to be answered")
        answered = [connection.recv(4096) for connection in select.select(flood, [], [], 0)[0]]
        during = resident_mib()
        alive = pair.call("one", "GET", "/healthz", None, 5)[0]

    turned_away = [each for each in answered if b" 503 " in each]  # bodies that are late are answered otherwise
    assert len(turned_away) == 336
    assert all(b"Retry-After: 1" in each for each in turned_away)
    assert alive == 200
    assert during - before <= 200
    (pod,) = crowd(cp, 1)
    await_until(lambda: pair.bind("one", pod, NODES[0]) == "", "a bind after the flood")
    print(f"{len(turned_away)} of 400 turned away, {before} MiB before, {during} MiB during")


def test_a_gang_and_a_preemption_go_through_a_kube_scheduler_that_asks_the_follower(cp, pair):
    """The leader has the reservations and refusals; kube-scheduler gets both through the follower."""
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    document = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "ha-high"}}
    cp.api.post(path, {**document, "value": 1000})
    pair.start_scheduler("two")
    gang = {"labels": {"kerf.dev/gang": "red"}, "annotations": {"kerf.dev/gang-size": "12"}}
    names = [f"red-{i}" for i in range(12)]

    create(cp, *[a_gpu_pod(name, mem=60_000, cores=0, **gang) for name in names])
    await_bound(cp, *names)
    rest = [f"rest-{i}" for i in range(4)]
    create(cp, *[a_gpu_pod(name, mem=60_000, cores=0) for name in rest])
    await_bound(cp, *rest)
    cp.kill("one")
    create(cp, a_gpu_pod("important", mem=60_000, cores=0, priorityClassName="ha-high"))

    await_bound(cp, "important")
    assert violations(cp) == []
    cp.api.delete(f"{path}/ha-high")
