"""Kerf's extender beside the real kube-scheduler, on kwok nodes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox import ControlPlane, await_until
from sandbox.stack import EXTENDER
from tests.cluster.gpu_pods import (
    PODS,
    a_fake_node,
    a_fleet,
    a_gpu_pod,
    await_bound,
    await_refused,
    create,
    node_of,
    overcommitted,
    pods,
    refusal,
    remove_pods,
    seconds_until,
)

pytestmark = pytest.mark.cluster
WHOLE = 81_559


@pytest.fixture(scope="module")
def fleet(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    with a_fleet(control_plane, [a_fake_node("gpu-1"), a_fake_node("gpu-2"), a_fake_node("gpu-3")]):
        yield control_plane


@pytest.fixture
def cp(fleet: ControlPlane) -> Iterator[ControlPlane]:
    yield fleet
    remove_pods(fleet)


def priority_class(cp: ControlPlane, name: str, value: int) -> str:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    if name not in {item["metadata"]["name"] for item in cp.api.get(path)["items"]}:
        cp.api.post(
            path,
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value},
        )
    return name


def test_kerf_writes_once_for_each_pod_and_over_commits_nothing(cp):
    before = len([w for w in cp.writes_by(EXTENDER) if w.resource != "events"])
    names = [f"many-{i}" for i in range(40)]

    create(cp, *[a_gpu_pod(name, mem=8000, cores=10) for name in names])
    await_bound(cp, *names)

    writes = [w.resource for w in cp.writes_by(EXTENDER) if w.resource != "events"][before:]
    woken = [resource for resource in writes if resource == "nodes"]  # a new leader's one wake-up of kube-scheduler
    assert sorted(writes) == [*woken[:1], *["pods/binding"] * 40]
    assert overcommitted(cp) == []


def test_a_pod_that_fits_nowhere_reads_why_in_its_own_condition(cp):
    create(cp, a_gpu_pod("too-large", mem=60_000, gpu=3))

    sentence = await_refused(cp, "too-large")

    assert "60,000 MiB" in sentence
    assert "3 cards" in sentence


@pytest.mark.parametrize("cause", ["deleted", "finished", "uncordoned", "node added"])
def test_freed_capacity_reaches_a_waiting_pod_within_two_seconds(cp, cause):
    holders = [f"holder-{i}" for i in range(6)]
    create(cp, *[a_gpu_pod(name, mem=WHOLE, cores=100) for name in holders])
    await_bound(cp, *holders)
    node = node_of(cp, "holder-0")
    waits = []
    for number in range(3):
        name = f"waiter-{number}"
        if cause == "uncordoned":
            cards = ",".join(f"GPU-{node}-{i}" for i in range(2))
            cp.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {"kerf.dev/cordon": cards}}})
            cp.api.delete(f"{PODS}/holder-0", 0)
        create(cp, a_gpu_pod(name, mem=WHOLE, cores=100))
        await_refused(cp, name)
        _free(cp, cause, node, number)
        waits.append(seconds_until(lambda name=name: bool(node_of(cp, name)), f"{name} to be bound"))
        if cause == "node added":
            cp.api.delete(f"{PODS}/{name}", 0)
            cp.api.delete(f"/api/v1/nodes/extra-{number}")
        else:
            cp.api.delete(f"{PODS}/{name}", 0)
            create(cp, a_gpu_pod("holder-0", mem=WHOLE, cores=100)) if not _there(cp, "holder-0") else None
            await_bound(cp, "holder-0")
            node = node_of(cp, "holder-0")

    assert sorted(waits)[1] <= 2.0, f"{waits}: one of three may have met what else this machine does"


def _free(cp: ControlPlane, cause: str, node: str, number: int) -> None:
    match cause:
        case "deleted":
            cp.api.delete(f"{PODS}/holder-0", 0)
        case "finished":
            cp.api.patch(f"{PODS}/holder-0/status", {"status": {"phase": "Succeeded"}})
            cp.api.delete(f"{PODS}/holder-0", 0)
        case "uncordoned":
            cp.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {"kerf.dev/cordon": None}}})
        case "node added":
            cp.add_fake_nodes([a_fake_node(f"extra-{number}")])


def _there(cp: ControlPlane, name: str) -> bool:
    return any(pod["metadata"]["name"] == name for pod in pods(cp))


def test_a_cordoned_card_takes_no_new_slice_and_takes_them_again(cp):
    everything = {f"gpu-{n}": ",".join(f"GPU-gpu-{n}-{i}" for i in range(2)) for n in (1, 2, 3)}
    for node, cards in everything.items():
        cp.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {"hami.io/device-cordon": cards}}})
    create(cp, a_gpu_pod("held-back"))
    assert "cordon" in await_refused(cp, "held-back")

    for node in everything:
        cp.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {"hami.io/device-cordon": None}}})

    await_bound(cp, "held-back")


def test_preemption_evicts_exactly_the_pod_whose_card_makes_room(cp):
    low, high = priority_class(cp, "low", 100), priority_class(cp, "high", 1000)
    create(cp, *[a_gpu_pod(f"low-{i}", mem=60_000, cores=0, priorityClassName=low) for i in range(5)])
    create(cp, a_gpu_pod("precious", mem=60_000, cores=0, priorityClassName=high))
    await_bound(cp, "precious", *[f"low-{i}" for i in range(5)])

    create(cp, a_gpu_pod("important", mem=60_000, cores=0, priorityClassName=high))
    await_bound(cp, "important")

    left = {pod["metadata"]["name"] for pod in pods(cp)}
    assert len(left) == 6
    assert {"important", "precious"} <= left
    assert overcommitted(cp) == []


def test_of_two_gangs_that_each_want_sixty_percent_one_runs_whole_and_the_other_waits_whole(cp):
    for gang in ("red", "blue"):
        create(
            cp,
            *[
                a_gpu_pod(
                    f"{gang}-{i}",
                    mem=WHOLE,
                    cores=100,
                    labels={"kerf.dev/gang": gang},
                    annotations={"kerf.dev/gang-size": "4"},
                )
                for i in range(4)
            ],
        )

    def placed() -> dict[str, int]:
        found = {"red": 0, "blue": 0}
        for pod in pods(cp):
            found[pod["metadata"]["labels"]["kerf.dev/gang"]] += bool(pod["spec"].get("nodeName"))
        return found

    await_until(lambda: max(placed().values()) == 4, "one gang to run whole")
    first = max(placed(), key=lambda gang: placed()[gang])
    second = "blue" if first == "red" else "red"
    assert placed()[second] == 0

    for i in range(4):
        cp.api.delete(f"{PODS}/{first}-{i}", 0)
    await_until(lambda: [p["spec"].get("nodeName") is not None for p in pods(cp)].count(True) == 4, "the other gang")


def test_a_gang_that_is_not_complete_holds_nothing(cp):
    labels, notes = {"kerf.dev/gang": "late"}, {"kerf.dev/gang-size": "3"}
    create(
        cp, a_gpu_pod("late-0", labels=labels, annotations=notes), a_gpu_pod("late-1", labels=labels, annotations=notes)
    )

    await_until(lambda: "2 of 3" in refusal(cp, "late-1"), "the gang's note in the condition")
    create(cp, a_gpu_pod("late-2", labels=labels, annotations=notes))

    await_bound(cp, "late-0", "late-1", "late-2")


def test_what_a_user_prefers_weighs_more_than_packing(cp):
    create(cp, a_gpu_pod("first", mem=8000))
    await_bound(cp, "first")
    elsewhere = next(name for name in ("gpu-1", "gpu-2", "gpu-3") if name != node_of(cp, "first"))
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [elsewhere]}]}
    wish = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}]}}

    create(cp, a_gpu_pod("wishes", mem=8000, affinity=wish))
    await_bound(cp, "wishes")

    assert node_of(cp, "wishes") == elsewhere


def test_topology_spread_is_honoured(cp):
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }
    ]
    for i in range(3):
        create(cp, a_gpu_pod(f"web-{i}", mem=4000, labels={"app": "web"}, topologySpreadConstraints=spread))
        await_bound(cp, f"web-{i}")

    assert {node_of(cp, f"web-{i}") for i in range(3)} == {"gpu-1", "gpu-2", "gpu-3"}


def test_the_extender_killed_in_the_middle_of_five_hundred_binds_loses_and_doubles_nothing(cp):
    names = [f"storm-{i}" for i in range(500)]
    extra = [a_fake_node(f"storm-node-{i}", cards=8) for i in range(8)]
    cp.add_fake_nodes(extra)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: create(cp, a_gpu_pod(name, mem=7000, cores=5)), names))
    await_until(lambda: bound(cp) >= 100, "some binds")

    cp.kill(EXTENDER)
    cp.restart(EXTENDER)

    await_until(lambda: bound(cp) == 500, "five hundred pods to be bound")
    assert overcommitted(cp) == []
    remove_pods(cp)
    for node in extra:
        cp.api.delete(f"/api/v1/nodes/{node.name}")


def bound(cp: ControlPlane) -> int:
    return sum(bool(pod["spec"].get("nodeName")) for pod in pods(cp))
