"""What nodes have beside their cards: everything that takes room is counted, once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_container, a_node, a_pod
from kerf.vendors.registry import NAMES
from scheduler.express.closed import AVOID_S, PREEMPTS_S
from scheduler.express.grid import SPARE_ROWS
from scheduler.express.seen import Pending, see
from scheduler.express.terrain import RECENT_S, Open, Terrain
from tests.effort import examples

WORDS = frozenset(name for names in NAMES for name in names.all)
IGNORED = frozenset(name for names in NAMES for name in names.ignored)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.clock = Clock()
        self.refused: list[tuple[str, str]] = []
        self.charged: set[tuple[str, str]] = set()
        self.terrain = Terrain(
            words=WORDS,
            ignored=IGNORED,
            refused=lambda node, why: self.refused.append((node, why)),
            charged=lambda uid, node: (uid, node) in self.charged,
            clock=self.clock,
        )
        for node in nodes:
            self.terrain.change_node("ADDED", node)

    def see(self, *pods: dict[str, Any], kind: str = "ADDED") -> None:
        for pod in pods:
            self.terrain.change_pod(kind, pod)

    def open_to(self, pod: dict[str, Any]) -> list[str]:
        return sorted(self.terrain.open_to(waiting(pod)).names)


def waiting(pod: dict[str, Any]) -> Pending:
    seen = see("ADDED", pod, WORDS, IGNORED)
    assert isinstance(seen, Pending)
    return seen


def a_machine(name: str = "node-1", cpu: str = "4", pods: str = "10", **more: str) -> dict[str, Any]:
    node = a_node(name)
    node["status"]["allocatable"] = {"cpu": cpu, "memory": "8Gi", "pods": pods, "nvidia.com/gpu": "40", **more}
    return node


def asking(name: str = "pod-1", cpu: str = "1", node: str | None = None, **spec: Any) -> dict[str, Any]:
    container = a_container()
    container["resources"]["requests"] = {"cpu": cpu, "nvidia.com/gpu": "1", "nvidia.com/gpumem": "8000"}
    return a_pod(name, containers=[container], node=node, spec={"schedulerName": "kerf-scheduler", **spec})


def plain(name: str, cpu: str, node: str | None = None, **spec: Any) -> dict[str, Any]:
    return a_pod(name, containers=[{"name": "a", "resources": {"requests": {"cpu": cpu}}}], node=node, spec=spec)


@pytest.mark.parametrize(
    ("node", "room"),
    [
        (a_machine(cpu="1"), True),
        (a_machine(cpu="999m"), False),
        (a_machine(pods="0"), False),
        (a_machine(**{"nvidia.com/gpu": "0"}), False),
    ],
)
def test_a_node_is_open_where_every_resource_that_nodes_limit_suffices(node: dict[str, Any], room: bool) -> None:
    assert World(node).open_to(asking()) == (["node-1"] if room else [])


def test_a_resource_that_no_node_has_is_nowhere_and_one_that_only_kerf_counts_is_everywhere() -> None:
    world = World(a_machine())
    fpga = asking()
    fpga["spec"]["containers"][0]["resources"]["requests"]["example.com/fpga"] = "1"

    assert (world.open_to(asking()), world.open_to(fpga)) == (["node-1"], [])


def test_a_resource_that_a_node_gets_later_has_what_runs_there_already_counted() -> None:
    world = World(a_machine())
    fpga = asking("waits")
    fpga["spec"]["containers"][0]["resources"]["requests"]["example.com/fpga"] = "1"
    runs = {**fpga, "metadata": {**fpga["metadata"], "uid": "runs"}, "spec": {**fpga["spec"], "nodeName": "node-1"}}
    world.see(runs)

    world.terrain.change_node("MODIFIED", a_machine(**{"example.com/fpga": "1"}))
    assert world.open_to(fpga) == []

    world.see(runs, kind="DELETED")
    assert world.open_to(fpga) == ["node-1"]


def test_resources_that_a_user_invents_take_no_room_of_the_scheduler() -> None:
    """A pod that names its node itself may ask for as many as its object holds."""
    world = World(a_machine())
    odd = plain("odd", "1", "node-1")
    odd["spec"]["containers"][0]["resources"]["requests"] |= {f"example.com/r{i}": "1" for i in range(5000)}
    size = world.terrain._grid._used.size

    world.see(odd)

    assert world.terrain._grid._used.size == size
    assert world.open_to(asking(cpu="3")) == ["node-1"]
    assert world.open_to(asking(cpu="3001m")) == []


def test_nodes_that_came_and_went_leave_nothing_behind() -> None:
    """A cluster that grows and shrinks gives each node a name of its own."""
    world = World(a_machine("node-1", cpu="4"), a_machine("gone"))
    world.see(plain("runs", "1", "node-1"), asking("promised"), asking("kept"), asking("elsewhere", node="gone"))
    world.terrain.promise(waiting(asking("promised")), "node-1", 10.0)
    world.terrain.keep({"uid-default-kept": "node-1"})
    for number in range(2 * SPARE_ROWS):
        world.terrain.change_node("ADDED", a_machine(f"short-{number}"))
        world.terrain.change_node("DELETED", a_machine(f"short-{number}"))

    world.terrain.tidy()

    assert world.terrain._grid.rows.keys() == {"node-1", "gone"}
    assert world.open_to(asking()) == ["gone", "node-1"]
    assert world.open_to(asking(cpu="1001m")) == ["gone"]
    assert world.open_to(asking(cpu="3001m")) == []


def test_pods_without_cards_and_of_other_schedulers_take_room_too_and_give_it_back() -> None:
    world = World(a_machine(cpu="4"))
    other = plain("other", "3500m", "node-1", schedulerName="default-scheduler")

    world.see(other)
    assert world.open_to(asking()) == []

    world.see({**other, "status": {"phase": "Succeeded"}}, kind="MODIFIED")
    assert world.open_to(asking()) == ["node-1"]


def test_pods_that_are_announced_before_their_node_are_counted() -> None:
    world = World()
    world.see(plain("early", "3500m", "node-1"))

    world.terrain.change_node("ADDED", a_machine(cpu="4"))

    assert world.open_to(asking()) == []


def test_a_pod_that_grows_in_place_takes_more() -> None:
    world = World(a_machine(cpu="4"))
    pod = plain("grows", "1", "node-1")
    world.see(pod)
    grown = {"containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "3500m"}}}]}

    world.see({**pod, "status": grown}, kind="MODIFIED")

    assert world.open_to(asking()) == []


def test_a_promise_takes_room_until_the_watch_shows_the_pod_and_counts_once() -> None:
    world = World(a_machine(cpu="2"))
    world.see(asking("a"), asking("b"))

    world.terrain.promise(waiting(asking("a")), "node-1", 10.0)
    assert world.open_to(asking("b", cpu="1500m")) == []
    assert world.open_to(asking("b")) == ["node-1"]

    world.see(asking("a", node="node-1"), kind="MODIFIED")
    assert world.open_to(asking("b")) == ["node-1"]


def test_no_room_is_promised_that_kube_scheduler_has_taken_since_it_was_looked_for() -> None:
    world = World(a_machine(cpu="1"))
    world.see(asking("theirs"), asking("lanes"))
    assert world.open_to(asking("lanes")) == ["node-1"]

    assert world.terrain.take(waiting(asking("theirs")).uid, "node-1", 10.0)

    assert not world.terrain.promise(waiting(asking("lanes")), "node-1", 10.0)


def test_a_pod_that_is_gone_is_promised_nothing() -> None:
    world = World(a_machine())

    assert not world.terrain.promise(waiting(asking("gone")), "node-1", 10.0)
    assert world.open_to(asking(cpu="4")) == ["node-1"]


def test_a_promise_that_is_withdrawn_or_not_kept_gives_its_room_back() -> None:
    world = World(a_machine(cpu="1"))
    world.see(asking("a"), asking("b"))
    world.terrain.promise(waiting(asking("a")), "node-1", 10.0)
    world.terrain.withdraw(waiting(asking("a")).uid)
    assert world.open_to(asking("b")) == ["node-1"]

    world.terrain.promise(waiting(asking("a")), "node-1", 10.0)
    world.clock.now += 11
    world.terrain.tidy()
    assert world.open_to(asking("b")) == ["node-1"]


def test_a_pod_that_is_bound_keeps_its_room_however_late_the_watch_shows_it() -> None:
    world = World(a_machine(cpu="1"))
    world.see(asking("a"), asking("b"))
    bound = waiting(asking("a"))
    world.terrain.promise(bound, "node-1", 10.0)
    world.charged.add((bound.uid, "node-1"))

    world.clock.now += 60
    world.terrain.tidy()
    assert world.open_to(asking("b")) == []

    world.charged.clear()  # the API server says that it is not bound
    world.terrain.tidy()
    assert world.open_to(asking("b")) == ["node-1"]


@pytest.mark.parametrize(("pods", "containers"), [(1, 9), (9, 1), (100, 100)])
def test_no_amount_that_a_pod_may_ask_for_overflows_what_is_counted(pods: int, containers: int) -> None:
    """The API server lets in 7Ei of memory a container, also of a pod that names its node itself."""
    world = World(a_machine())
    most = [{"name": f"c{i}", "resources": {"requests": {"memory": "7Ei"}}} for i in range(containers)]
    huge = [a_pod(f"huge-{i}", containers=most, node="node-1") for i in range(pods)]
    small = asking()
    small["spec"]["containers"][0]["resources"]["requests"]["memory"] = "1Gi"

    world.see(*huge)
    assert world.open_to(small) == []

    world.see(*huge, kind="DELETED")
    assert world.open_to(small) == ["node-1"]


def test_the_node_that_a_preempting_pod_waits_for_is_closed_to_the_lane() -> None:
    world = World(a_machine("node-1"), a_machine("node-2"))
    preempting = plain("preempting", "1")
    preempting["status"]["nominatedNodeName"] = "node-1"

    world.see(preempting)
    assert world.open_to(asking()) == ["node-2"]

    world.see(preempting, kind="DELETED")
    assert world.open_to(asking()) == ["node-1", "node-2"]


def test_where_kube_scheduler_ends_pods_for_another_the_lane_waits_until_it_is_known_on_which_node() -> None:
    world = World(*[a_machine(f"node-{i}") for i in range(3)])
    preempting = plain("preempting", "1")
    world.see(preempting)

    world.terrain.preempts("uid-default-preempting", ["node-0", "node-1"])
    assert world.open_to(asking()) == ["node-2"]

    world.see({**preempting, "status": {"phase": "Pending"}}, kind="MODIFIED")  # says nothing about it yet
    assert world.open_to(asking()) == ["node-2"]

    world.see({**preempting, "status": {"nominatedNodeName": "node-1"}}, kind="MODIFIED")
    assert world.open_to(asking()) == ["node-0", "node-2"]


@pytest.mark.parametrize("ends", ["it goes", "it is bound", "nothing comes of it"])
def test_a_preemption_that_comes_to_nothing_closes_no_node_for_long(ends: str) -> None:
    world = World(a_machine("node-1"), a_machine("node-2"))
    preempting = plain("preempting", "1")
    world.see(preempting)
    world.terrain.preempts("uid-default-preempting", ["node-1"])

    if ends == "nothing comes of it":
        world.clock.now += PREEMPTS_S + 1
    else:
        node = "node-2" if ends == "it is bound" else None
        world.see(plain("preempting", "1", node), kind="MODIFIED" if node else "DELETED")

    assert world.open_to(asking()) == ["node-1", "node-2"]


def test_a_pod_with_cards_reserved_has_its_cpu_kept_on_the_node_and_takes_it_itself() -> None:
    """Pods were evicted for it, or its gang was planned there: less important pods do not take what it needs there."""
    world = World(a_machine(cpu="2"))
    world.see(asking("important", cpu="2"), asking("other"))
    important, other = waiting(asking("important", cpu="2")), waiting(asking("other"))

    world.terrain.keep({important.uid: "node-1"})
    assert world.open_to(asking("other")) == []
    assert not world.terrain.promise(other, "node-1", 10.0)
    assert world.open_to(asking("important", cpu="2")) == ["node-1"]

    assert world.terrain.promise(important, "node-1", 10.0)
    world.terrain.keep({important.uid: "node-1"})
    world.see(asking("important", cpu="2", node="node-1"), kind="MODIFIED")
    world.terrain.keep({})
    assert world.open_to(asking("other")) == []

    world.see(asking("important", cpu="2", node="node-1"), kind="DELETED")
    assert world.open_to(asking("other", cpu="2")) == ["node-1"]


@pytest.mark.parametrize("then", ["is given back", "is elsewhere", "its pod goes", "it is bound by kube-scheduler"])
def test_what_is_kept_for_a_pod_counts_no_longer_than_its_place(then: str) -> None:
    world = World(a_machine("node-1", cpu="1"), a_machine("node-2", cpu="1"))
    world.see(asking("reserved"), asking("other"))
    uid = waiting(asking("reserved")).uid
    world.terrain.keep({uid: "node-1"})

    match then:
        case "is given back":
            world.terrain.keep({})
        case "is elsewhere":
            world.terrain.keep({uid: "node-2"})
        case "its pod goes":
            world.see(asking("reserved"), kind="DELETED")
            world.terrain.keep({uid: "node-1"})
        case _:
            assert world.terrain.take(uid, "node-2", 10.0)
            world.terrain.keep({uid: "node-1"})

    free = {"is given back": ["node-1", "node-2"], "its pod goes": ["node-1", "node-2"]}.get(then, ["node-1"])
    assert world.open_to(asking("other")) == free


def test_a_pod_that_another_pods_affinity_looks_at_is_left_to_kube_scheduler_as_long_as_that_one_lives() -> None:
    world = World(a_machine())
    rule = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}
    spec = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}}}
    web = asking("web")
    web["metadata"]["labels"] = {"app": "web"}
    world.see(web, asking("api"), plain("database", "1", "node-1", **spec))

    left = {pod.name: pod.left for pod in world.terrain.queue("kerf-scheduler")}
    world.see(plain("database", "1", "node-1", **spec), kind="DELETED")

    assert left == {"web": "spec.affinity of another pod looks at it", "api": ""}
    assert {pod.left for pod in world.terrain.queue("kerf-scheduler")} == {""}


def test_the_queue_has_the_pods_of_one_scheduler_that_have_no_promise_and_leaves_those_without_cards() -> None:
    world = World(a_machine())
    other = asking("other", schedulerName="hami-scheduler")
    world.see(asking("a"), asking("b"), asking("bound", node="node-1"), other)
    world.see(plain("plain", "1", schedulerName="kerf-scheduler"))
    world.terrain.promise(waiting(asking("b")), "node-1", 10.0)

    left = {pod.name: pod.left for pod in world.terrain.queue("kerf-scheduler")}
    assert left == {"a": "", "plain": "spec.containers: none asks for cards"}
    assert world.terrain.eligible("kerf-scheduler") == 2


def test_what_kube_scheduler_passed_over_when_it_took_its_pod_is_not_in_its_queue() -> None:
    """It keeps a pod whose claim does not exist out of its queue, and writes that nowhere."""
    world = World(a_machine())
    first = since(5, asking("first"))
    claims = {"resourceClaims": [{"name": "a", "resourceClaimName": "missing"}]}
    world.see(first, since(1, asking("older", **claims)), since(9, asking("younger", **claims)))
    world.see(since(9, asking("important", priority=1, **claims)), since(1, asking("the-lanes")))
    gated = since(1, asking("gated", **claims, schedulingGates=[{"name": "a"}]))
    world.see(gated)
    world.clock.now += 60
    world.see(since(1, asking("new", priority=1, **claims)))
    gated["spec"]["schedulingGates"] = []
    world.see(gated, kind="MODIFIED")

    assert world.terrain.overtaken(waiting(first), world.clock.now) == {"uid-default-older", "uid-default-important"}
    world.clock.now += 2
    assert world.terrain.overtaken(waiting(first), world.clock.now) > {"uid-default-new", "uid-default-gated"}


def since(second: int, pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{second:02}Z"
    return pod


@pytest.mark.parametrize(
    "said",
    [
        {"reason": "OutOfcpu"},
        {"reason": "TopologyAffinityError", "message": "Pod was rejected: Resources cannot be allocated with Topology"},
        {"reason": "TaintToleration", "message": "Pod was rejected: Predicate TaintToleration failed: taints"},
        {"reason": "Evicted", "message": "Pod was rejected: The node had condition: [MemoryPressure]. "},
    ],
)
def test_a_kubelet_that_refuses_a_pod_of_the_lane_is_counted_and_its_node_avoided_for_a_while(
    said: dict[str, str],
) -> None:
    world = World(a_machine("node-1"), a_machine("node-2"))
    world.see(asking("a"))
    world.terrain.promise(waiting(asking("a")), "node-1", 10.0)
    world.terrain.given(waiting(asking("a")).uid, "node-1")
    bound = asking("a", node="node-1")
    world.see(bound, {**bound, "status": {"phase": "Failed", **said}}, kind="MODIFIED")

    assert (world.refused, world.open_to(asking("b"))) == ([("node-1", said["reason"])], ["node-2"])
    world.clock.now += AVOID_S + 1
    world.terrain.tidy()
    assert world.open_to(asking("b")) == ["node-1", "node-2"]


@pytest.mark.parametrize("reason", ["Error", "Evicted"])
def test_a_pod_that_fails_by_itself_or_is_evicted_later_is_no_refusal(reason: str) -> None:
    world = World(a_machine())
    world.terrain.given("uid-default-a", "node-1")
    bound = asking("a", node="node-1")

    world.see(bound, {**bound, "status": {"phase": "Failed", "reason": reason}}, kind="MODIFIED")

    assert world.refused == []


def test_kube_schedulers_own_choice_is_checked_again_where_the_lane_has_just_given_room_away() -> None:
    world = World(a_machine(cpu="1"))
    world.see(asking("lanes"), asking("theirs"))
    lanes, theirs = waiting(asking("lanes")), waiting(asking("theirs")).uid

    world.terrain.promise(lanes, "node-1", 10.0)
    assert not world.terrain.take(theirs, "node-1", 10.0)
    assert world.terrain.take(lanes.uid, "node-1", 10.0)

    world.see(asking("lanes", node="node-1"), kind="MODIFIED")
    assert not world.terrain.take(theirs, "node-1", 10.0)
    world.clock.now += RECENT_S + 1
    assert world.terrain.take(theirs, "node-1", 10.0)


def test_a_pod_that_kube_scheduler_binds_counts_before_the_watch_shows_it_there() -> None:
    world = World(a_machine(cpu="1"))
    world.see(asking("theirs"), asking("lanes"))

    assert world.terrain.take(waiting(asking("theirs")).uid, "node-1", 10.0)
    assert world.open_to(asking("lanes")) == []
    world.see(asking("theirs", node="node-1"), kind="MODIFIED")
    assert world.open_to(asking("lanes")) == []

    world.see(asking("theirs", node="node-1"), kind="DELETED")
    assert world.open_to(asking("lanes")) == ["node-1"]


def test_a_pod_whose_bind_failed_counts_nowhere() -> None:
    world = World(a_machine(cpu="1"))
    world.see(asking("theirs"), asking("lanes"))
    uid = waiting(asking("theirs")).uid

    assert world.terrain.take(uid, "node-1", 10.0)
    world.terrain.withdraw(uid)

    assert world.open_to(asking("lanes")) == ["node-1"]


def test_a_pod_that_kube_scheduler_puts_elsewhere_counts_there_and_no_longer_where_its_room_was_kept() -> None:
    world = World(a_machine("node-1", cpu="1"), a_machine("node-2", cpu="1"))
    world.see(asking("first"), asking("lanes"))
    first = waiting(asking("first"))
    world.terrain.promise(first, "node-1", 10.0)

    assert world.terrain.take(first.uid, "node-2", 10.0)

    assert world.open_to(asking("lanes")) == ["node-1"]


def test_what_a_relist_does_not_show_is_gone() -> None:
    world = World(a_machine("node-1", cpu="1"), a_machine("node-2", cpu="1"))
    world.see(asking("a", node="node-1"), asking("b"))

    world.terrain.replace_pods([])
    world.terrain.replace_nodes([a_machine("node-1", cpu="1")])

    assert (world.open_to(asking("c")), world.terrain.queue("kerf-scheduler")) == (["node-1"], [])


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(("waits", "runs on node-1", "runs on node-2", "ends", "promised", "kept")),
        st.sampled_from(("1", "2")),
    ),
    max_size=30,
)


@settings(max_examples=examples(100), deadline=None)
@given(EVENTS)
def test_in_any_order_of_events_a_node_is_used_by_what_runs_or_is_promised_there(events: list[tuple[str, ...]]) -> None:
    world = World(a_machine("node-1", cpu="8"), a_machine("node-2", cpu="8"))
    held: dict[str, tuple[str, int]] = {}
    waits: dict[str, str] = {}
    for name, what, cpu in events:
        if cpu == "2":  # as when most nodes have gone
            world.terrain._count_again()
        if what == "kept":
            world.terrain.keep({f"uid-default-{name}": "node-1"})
        elif what == "promised":
            if name in waits and name not in held:
                world.terrain.promise(waiting(asking(name, cpu=waits[name])), "node-1", 10.0)
                held[name] = ("node-1", int(waits[name]))
        elif what == "waits":
            if name not in held:
                world.see(asking(name, cpu=cpu))
                waits[name] = cpu
        elif what == "ends":
            world.see(asking(name), kind="DELETED")
            held.pop(name, None)
            waits.pop(name, None)
        else:
            world.see(asking(name, cpu=cpu, node=what[-6:]))
            held[name] = (what[-6:], int(cpu))
            waits.pop(name, None)
    world.terrain.keep({})
    for node in ("node-1", "node-2"):
        free = 8 - sum(cpu for where, cpu in held.values() if where == node)
        assert node in world.open_to(asking("probe", cpu=str(free))) or free == 0
        assert node not in world.open_to(asking("probe", cpu=f"{free}001m"))


@settings(max_examples=examples(50))
@given(
    st.lists(st.tuples(st.integers(0, 79), st.sampled_from(["a", "b", ""]), st.booleans(), st.booleans()), max_size=100)
)
def test_what_a_pod_demands_and_prefers_is_known_of_each_node_as_it_is_now(
    changes: list[tuple[int, str, bool, bool]],
) -> None:
    term = {"weight": 7, "preference": {"matchExpressions": [{"key": "soft", "operator": "Exists"}]}}
    pod = asking(
        nodeSelector={"zone": "a"},
        affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}},
    )
    world, now = World(), dict[str, dict[str, Any]]()
    for number, zone, soft, asked in changes:
        node = a_machine(f"node-{number}")
        node["metadata"]["labels"] = {"zone": zone, **({"soft": ""} if soft else {})}
        world.terrain.change_node("MODIFIED" if zone else "DELETED", node)
        now.pop(f"node-{number}", None)
        now |= {f"node-{number}": node} if zone else {}
        if asked:
            world.open_to(pod)

    found, fresh = (each.terrain.open_to(waiting(pod)) for each in (world, World(*now.values())))
    assert (
        wished(found)
        == wished(fresh)
        == {
            name: 7 * ("soft" in labels)
            for name, node in now.items()
            if (labels := node["metadata"]["labels"])["zone"] == "a"
        }
    )


def wished(found: Open) -> dict[str, int]:
    weights = [0] * len(found.names) if found.wishes is None else found.wishes.weights.tolist()
    return dict(zip(found.names, weights, strict=True))
