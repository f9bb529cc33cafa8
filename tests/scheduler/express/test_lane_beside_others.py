"""What the lane does where others act at the same moment: preemption, quota, a gap in the watch, a lost answer."""

import json
import time

from kerf.kube.errors import Unreachable
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_card, a_container, a_grant, a_pod, cards_of
from kerf.values.grant import Grant
from kerf.wire.extender import BindQuery
from scheduler.express.seen import Pending
from scheduler.extender.app import Extender
from scheduler.extender.verbs import Verbs
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.metrics import SchedulerMetrics
from tests.scheduler.express.test_lane import World, a_machine, no_answer_about_pod_2, until, waiting


def test_what_a_preemption_frees_is_not_taken_before_the_preempting_pods_node_is_named() -> None:
    """Its victims may be gone before the watch shows where kube-scheduler means it to go."""
    victim = a_pod("victim", node="node-1", grant=a_grant("GPU-node-1-0"))
    world = World(a_machine(), victim, *[waiting(f"pod-{i}", i) for i in range(5)])
    world.kube.put(preempting := waiting("preempting", spec={"priority": 100}))
    verbs = Verbs(world.store.desk, SchedulerMetrics.build(Metrics()))
    Extender(verbs, world.binder, SchedulerMetrics.build(Metrics()), lambda: True, bytes)

    async def test(world: World) -> None:
        await world.filter("preempting")
        before = world.bound()
        chosen = {"node-1": {"Pods": [{"UID": "uid-default-victim"}]}}
        verbs.preempt(json.dumps({"Pod": preempting, "NodeNameToMetaVictims": chosen}).encode())
        world.kube.remove("/api/v1/namespaces/default/pods/victim")
        for i in range(5, 9):
            world.kube.put(waiting(f"pod-{i}", 30))
        await until(lambda: world.lane.wants("uid-default-pod-5"))
        await world.filter("pod-5")
        assert world.bound().keys() == before.keys() - {"victim"}

        world.kube.put({**preempting, "status": {"phase": "Pending", "nominatedNodeName": "node-2"}})
        terrain = world.lane._terrain
        await until(lambda: bool((pod := terrain.pending("uid-default-preempting")) and pod.nominated))
        await world.filter("pod-6")
        assert {"pod-7", "pod-8"} <= world.bound().keys()

    world.live(test)


def test_a_pod_that_others_were_evicted_for_finds_its_cpu_where_its_cards_are_reserved() -> None:
    node = a_machine()
    node["status"]["allocatable"]["cpu"] = "4"
    pods = [waiting("important", 0, spec={"priority": 100}), *[waiting(f"pod-{i}", i) for i in range(4)]]
    for pod in pods:
        pod["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "2"}
    world = World(node, *pods)

    async def test(world: World) -> None:
        assert world.store.seating.hold("uid-default-important", ["node-1"], None, time.monotonic() + 60) == "node-1"
        world.lane.passes("uid-default-important")  # kube-scheduler was refused it, and asks again later
        await world.filter("pod-0")
        assert world.bound() == {}
        assert await world.binder.bind(BindQuery("default", "important", "uid-default-important", "node-1")) == ""

    world.live(test)


def test_while_pods_are_listed_again_after_a_gap_in_the_watch_nothing_is_bound() -> None:
    """What others have bound meanwhile is not known then."""
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(5)])

    async def test(world: World) -> None:
        world.kube.fail = _refuse_lists
        world.lane._taps[1].relisted()
        assert await world.filter("pod-0") < 0.5
        assert world.bound() == {}

        world.kube.fail = lambda method, path: None
        await until(lambda: world.lane.wants("uid-default-pod-1"))
        await world.filter("pod-1")
        assert {"pod-2", "pod-3", "pod-4"} <= world.bound().keys()

    world.live(test)


def test_a_round_ends_where_the_watch_has_a_gap_in_the_middle_of_it() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])
    queue_of = world.lane._terrain.queue

    def queue(scheduler: str) -> list[Pending]:
        found = queue_of(scheduler)
        world.lane._taps[1].relisted()
        return found

    async def test(world: World) -> None:
        world.lane._terrain.queue = queue  # type: ignore[method-assign]
        world.kube.fail = _refuse_lists
        await world.filter("pod-0")
        assert world.bound() == {}

    world.live(test)


def _refuse_lists(method: str, path: str) -> None:
    if (method, path) == ("GET", "/api/v1/pods"):
        raise Unreachable("no answer")


def test_pods_of_a_priority_class_that_no_quota_limits_are_bound_beside_others_that_it_keeps_from_free_cards() -> None:
    small, big = a_card(0, model="L4", memory_mib=23_034), a_card(1, model="H100", memory_mib=81_559)
    nodes = [a_machine("small", (small,)), a_machine("big", (big, *cards_of("big", 3)))]
    whole = [a_container(mem=None, cores=100)]
    full = a_pod("full", containers=whole, node="small", grant=a_grant(small.id, 23_034, 100))
    pods = [waiting(f"pod-{i}", i) for i in range(5)]
    for number, pod in enumerate(pods):
        pod["spec"] |= {"containers": whole, "priorityClassName": "low" if 0 < number < 3 else "high"}
    world = World(*nodes, full, *pods)
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}
    spec = {"hard": {"limits.nvidia.com/gpumem": "30000"}, "scopeSelector": {"matchExpressions": [scope]}}
    keeper = QuotaKeeper(world.store)
    keeper.replace_tenants([])
    keeper.replace_hard([{"metadata": {"name": "low", "namespace": "default"}, "spec": spec}])

    async def test(world: World) -> None:
        keeper.refresh()
        await world.filter("pod-0")
        assert world.bound() == {"full": "small", "pod-3": "big", "pod-4": "big"}

    world.live(test)


def test_a_pod_that_may_be_bound_keeps_its_room_where_kube_scheduler_chooses_another_node() -> None:
    world = World(a_machine(), *[waiting(f"pod-{i}", i) for i in range(4)])

    async def test(world: World) -> None:
        world.kube.fail = no_answer_about_pod_2
        await world.filter("pod-0")
        await until(lambda: world.count("kerf_express_pods_total", "unknown") == 1)
        world.kube.put(a_machine("node-2"))
        await until(lambda: "node-2" in world.lane._terrain._places and "node-2" in world.store.desk.node_names())

        refused = await world.binder.bind(BindQuery("default", "pod-2", "uid-default-pod-2", "node-2"))

        assert "already assumed on node-1" in refused
        assert world.lane._terrain._promises["uid-default-pod-2"].node == "node-1"

    world.live(test)


def test_a_pod_that_may_be_bound_since_before_the_lane_opened_has_its_cpu_counted() -> None:
    node = a_machine()
    node["status"]["allocatable"]["cpu"] = "4"
    pods = [waiting(f"pod-{i}", i) for i in range(5)]
    for pod in pods:
        pod["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "2"}
    world = World(node, *pods)

    async def test(world: World) -> None:
        ask, stages = world.store.desk.read(pods[4])
        assert isinstance(world.store.desk.assume(ask, "node-1", stages), Grant)
        await world.filter("pod-0")
        assert world.bound() == {}

    world.live(test)
