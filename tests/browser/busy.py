"""What a page over a quiet fleet does not have: gangs in every state, plans, faults of all kinds, several clusters."""

import time
from collections.abc import Iterator

from kerf.kube.client import Json
from kerf.testing.builders import a_card, a_node, a_pod, cards_of
from kerf.values.ask import PodAsk
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.health import Health, State
from kerf.wire.annotations import FAULT_CORDON
from kerf.wire.fleet import condition
from kerf.wire.gangs import GANG, GANG_SCOPE, GANG_SIZE
from scheduler.solver.problem import Assignment
from scheduler.state.store import Store

GANG_MIB = 30_000
FELL = "XID 79 (GPU has fallen off the bus); NVIDIA: restart the node, and drain it first"


def busy_nodes() -> Iterator[Json]:
    """Nodes of eight cards that are not as they should be, beside empty ones that gangs can have."""
    for number in range(6):
        yield a_node(f"gang-{number}", cards_of(f"gang-{number}", 8))
    ago = int(time.time())
    cards = list(cards_of("ill-0", 8))
    states = (
        Health(State.RECOVERING, "answers well again after XID 94; takes slices in 4 minutes", ago - 600, 94),
        Health(State.CORDONED, FELL, ago - 7 * 86_400, 79, moves=True, needs_reset=True),
        Health(State.SUSPECT),
        Health(State.CORDONED, "12 rows could not be remapped", ago - 4_000, 64),
    )
    cards[:4] = [a_card(i, id=f"GPU-ill-0-{i}", health=health) for i, health in enumerate(states)]
    yield a_node("ill-0", tuple(cards), **{"kerf.dev/cordon": "GPU-ill-0-5", FAULT_CORDON: "GPU-ill-0-6"})
    lost = a_node("ill-1", 8)
    lost["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    yield lost
    closed = a_node("ill-2", 8)
    closed["spec"]["unschedulable"] = True
    yield closed
    unread = a_node("ill-3", 8)
    unread["metadata"]["annotations"]["kerf.dev/inventory"] = '{"version": 99}'
    yield unread


def of_gang(name: str, gang: str, size: int, namespace: str, **changes: object) -> Json:
    """A member of a gang, which waits."""
    labels = {GANG: gang, GANG_SIZE: str(size), GANG_SCOPE: "namespace"}
    return a_pod(name, namespace=namespace, labels=labels, mem=GANG_MIB, cores=25, **changes)


def add_gangs(store: Store) -> None:
    """One that runs, one that has lost a pod, one with a place for each, one that no plan places, one not all there."""
    for number in range(8):
        _add(store, of_gang(f"lora-{number}", "lora", 8, "team-ada", **_place(f"gang-{number % 4}", number // 4)))
    for number in range(3):
        _add(store, of_gang(f"eval-{number}", "eval", 4, "team-bob", **_place("gang-4", number)))
    _add(store, of_gang("eval-3", "eval", 4, "team-bob"))
    for number in range(4):
        _add(store, of_gang(f"dpo-{number}", "dpo", 4, "team-cyd"))
    for number in range(2):
        _add(store, of_gang(f"pretrain-of-the-next-model-{number}", "pretrain-of-the-next-model", 2, "team-dee"))
    for number in range(3):
        _add(store, of_gang(f"sweep-{number}", "sweep", 6, "team-eve"))
    asks = {one.ask.name: one.ask for one in store.desk.waiting()}
    members = [(asks[f"dpo-{number}"], _assigned(asks[f"dpo-{number}"], number)) for number in range(4)]
    assert store.planning.reserve_all(members, time.monotonic() + 86_400) == ""
    gang = "team-dee/pretrain-of-the-next-model"
    note = f"gang {gang} waits for a place for all 2 pods: the planner places 1 of them"
    store.planning.set_plan({asks["waits-000"].uid: "gang-5"}, {gang: note})


def borrower(namespace: str) -> Json:
    """A tenant that holds more than it is guaranteed."""
    classes = [{"model": "H100", "guaranteed": {"memory": "200Gi"}, "burst": {"memory": "2Ti"}}]
    meta = {"name": "borrower", "generation": 1}
    spec = {"namespaces": [namespace], "classes": classes}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": meta, "spec": spec}


def clusters() -> Iterator[Json]:
    """A fleet of five clusters in as many states."""
    yield _cluster("west-1", "Live", "us-west-2", "owned", "0.99", ("NVIDIA H100 80GB HBM3", 4096, 311, 41_000_000))
    yield _cluster(
        "east-1", "Live", "us-east-1", "rented", "0.92",
        ("NVIDIA H200", 512, 12, 9_000_000), ("NVIDIA L4", 2048, 900, 22_000_000), cordoned=True,
    )  # fmt: skip
    yield _cluster("eu-spot", "Lost", "eu-west-1", "rented", "0.41", ("NVIDIA A100-SXM4-80GB", 128, 0, 0), ago=9_000)
    yield _cluster("on-prem-in-the-old-building", "Silent", "", "owned", "0.88", draining=True, ago=70)
    yield _cluster("new", "Joining", "ap-south-1", "rented", "")


def _cluster(
    name: str, phase: str, region: str, supply: str, reliability: str, *kinds: tuple[str, int, int, int],
    ago: int = 1, **spec: bool,
) -> Json:  # fmt: skip
    keys = ("model", "cards", "empty", "freeMiB")
    status: dict[str, object] = {"phase": phase, "epoch": 3}
    if phase != "Joining":
        status |= {"lastContact": int(time.time()) - ago, "reliability": reliability}
        status["classes"] = [dict(zip(keys, kind, strict=True)) for kind in kinds]
    if phase != "Live":
        why = "no answer: connection refused" if ago > 1 else "it has not answered yet"
        status["conditions"] = [condition("Reachable", False, phase, why)]
    return {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {"region": region, "supply": supply, **spec},
        "status": status,
    }


def _add(store: Store, pod: Json) -> None:
    store.feed.apply_pod("ADDED", pod)


def _grant(node: str, card: int) -> Grant:
    return Grant((ContainerGrant("main", (Slice(f"GPU-{node}-{card}", "nvidia", GANG_MIB, 25),)),))


def _place(node: str, card: int) -> dict[str, object]:
    return {"node": node, "grant": _grant(node, card), "phase": "Running"}


def _assigned(ask: PodAsk, number: int) -> Assignment:
    node = f"gang-{number}"
    return Assignment(ask.uid, ask.key, node, _grant(node, 7))
