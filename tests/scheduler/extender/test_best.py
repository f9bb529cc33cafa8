"""Filter names the best node alone where kube-scheduler would take no other, and offers every node otherwise."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.kube.client import Json
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerf.values.policy import Offer, SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.extender.verbs import FEW, Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store, load
from tests.effort import examples

NAMES = [f"n{i:03}" for i in range(FEW + 14)]
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
WEB = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}
GPU = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}


class World:
    """A scheduler that knows more than a few nodes."""

    def __init__(self, *pods: Json, offer: Offer = Offer.BEST, tainted: tuple[str, ...] = ()) -> None:
        self.store = Store(SchedulingPolicy(offer=offer), VENDORS)
        load(self.store, [tainted_node(name) if name in tainted else a_node(name, 1) for name in NAMES], pods)
        self.metrics = Metrics()
        self.verbs = Verbs(self.store.desk, SchedulerMetrics.build(self.metrics))

    def offered(self, pod: Json, names: list[str] = NAMES) -> list[str]:
        answer = json.loads(self.verbs.filter(question(pod, names)))
        assert answer["Error"] == ""
        found: list[str] = answer["NodeNames"]
        return found

    def first(self, pod: Json, names: list[str] = NAMES) -> str:
        """The node that prioritize puts first."""
        scores = json.loads(self.verbs.prioritize(question(pod, names)))
        return str(max(scores, key=lambda entry: entry["Score"])["Host"])


def question(pod: Json, names: list[str]) -> bytes:
    return json.dumps({"Pod": pod, "Nodes": None, "NodeNames": names}, separators=(",", ":")).encode()


def tainted_node(name: str) -> dict[str, Any]:
    node = a_node(name, 1)
    node["spec"]["taints"] = [{"key": "old", "effect": "PreferNoSchedule"}]
    return node


def an_onlooker(kind: str = "podAntiAffinity", strength: str = PREFERRED, **more: Any) -> dict[str, Any]:
    """A pod on a node, without cards, whose affinity looks at pods with the label app=web."""
    term = {"weight": 1, "podAffinityTerm": WEB} if strength == PREFERRED else WEB
    return a_pod("onlooker", node=NAMES[0], containers=[], spec={"affinity": {kind: {strength: [term]}}}, **more)


def a_web_pod(name: str = "web") -> dict[str, Any]:
    return a_pod(name, labels={"app": "web"})


@given(
    st.permutations(NAMES),
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 9)), max_size=12, unique_by=lambda each: each[0]),
    st.sampled_from([4_000, 30_000, 60_000]),
)
@settings(max_examples=examples(20), deadline=None)
def test_the_node_that_is_named_is_the_one_that_prioritize_would_put_first(names, held, mem):
    pods = [a_pod(f"p-{node}", node=node, grant=a_grant(f"GPU-{node}-0", 8_000 * n, 0)) for node, n in held]
    world, everything = World(*pods), World(*pods, offer=Offer.ALL)
    pod = a_pod("new", mem=mem)
    fits = everything.offered(pod, names)

    offered = world.offered(pod, names)

    assert offered == ([everything.first(pod, fits)] if len(fits) > FEW else fits)


def test_both_ways_of_writing_a_query_name_the_same_node():
    pod = a_pod()
    spaced = json.dumps(json.loads(question(pod, NAMES))).encode()

    assert json.loads(World().verbs.filter(spaced))["NodeNames"] == World().offered(pod) == [NAMES[0]]


def test_a_pod_that_is_asked_about_again_may_go_everywhere():
    world, pod = World(), a_pod()

    assert [len(world.offered(pod)) for _ in range(3)] == [1, len(NAMES), len(NAMES)]


def test_among_few_nodes_kube_scheduler_chooses():
    assert World().offered(a_pod(), NAMES[:FEW]) == NAMES[:FEW]


def test_the_policy_may_offer_all():
    assert World(offer=Offer.ALL).offered(a_pod()) == NAMES


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": GPU}]}}},
        {"affinity": {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": WEB}]}}},
        {"affinity": {"podAntiAffinity": {REQUIRED: [WEB]}}},
        {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}]},
        {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
        {"resourceClaims": [{"name": "nic", "resourceClaimName": "nic"}]},
        {"somethingNew": True},
    ],
)
def test_a_pod_for_which_kube_scheduler_has_something_to_weigh_may_go_everywhere(spec):
    world = World()
    assert len(world.offered(a_pod("plain"))) == 1

    assert world.offered(a_pod("other", spec=spec)) == NAMES


@pytest.mark.parametrize("stage", ["containers", "init"])
def test_a_pod_whose_volume_is_mounted_in_a_way_that_is_not_known_may_go_everywhere(stage):
    world = World()
    for mount, count in (({}, 1), ({"readOnly": True}, 1), ({"somethingNew": True}, len(NAMES))):
        mounting = a_container(volumeMounts=[{"name": "v", "mountPath": "/v", **mount}])
        pod = a_pod(f"p-{len(mount)}-{count}", **{"containers": [a_container()], stage: [mounting]})
        assert len(world.offered(pod)) == count


def test_a_pod_with_a_nominated_node_may_go_everywhere():
    pod = a_pod()
    pod["status"] = {"phase": "Pending", "nominatedNodeName": NAMES[3]}

    assert World().offered(pod) == NAMES


def test_required_node_affinity_leaves_nothing_to_weigh():
    required = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [GPU]}}}

    assert len(World().offered(a_pod(spec={"affinity": required}))) == 1


@pytest.mark.parametrize("kind", ["podAffinity", "podAntiAffinity"])
@pytest.mark.parametrize("strength", [PREFERRED, REQUIRED])
def test_a_pod_at_which_another_pods_affinity_looks_may_go_everywhere(kind, strength):
    world = World(an_onlooker(kind, strength))

    assert world.offered(a_web_pod()) == NAMES
    assert len(world.offered(a_pod("other", labels={"app": "api"}))) == 1
    assert len(world.offered(a_pod("elsewhere", namespace="elsewhere", labels={"app": "web"}))) == 1


def test_an_onlooker_that_is_gone_looks_at_nothing():
    onlooker = an_onlooker()
    finished = {**onlooker, "status": {"phase": "Succeeded"}}
    ends = (
        lambda feed: feed.apply_pod("DELETED", onlooker),
        lambda feed: feed.apply_pod("MODIFIED", finished),
        lambda feed: feed.replace_pods([]),
        lambda feed: feed.replace_pods([finished]),
    )
    for end in ends:
        world = World(onlooker)
        assert world.offered(a_web_pod("before")) == NAMES
        end(world.store.feed)
        assert len(world.offered(a_web_pod("after"))) == 1


def test_an_onlooker_of_a_new_list_looks_too():
    world = World()
    world.store.feed.replace_pods([an_onlooker()])

    assert world.offered(a_web_pod()) == NAMES


def test_a_taint_that_keeps_pods_away_from_the_best_node_leaves_the_choice():
    assert World(tainted=(NAMES[0],)).offered(a_pod()) == NAMES
    assert World(tainted=(NAMES[1],)).offered(a_pod()) == [NAMES[0]]


@pytest.mark.parametrize("offer", list(Offer))
def test_refused_nodes_are_counted_whether_one_is_named_or_all_are_offered(offer):
    world = World(a_pod("full", node=NAMES[0], grant=a_grant(f"GPU-{NAMES[0]}-0", 80_000, 0)), offer=offer)
    world.offered(a_pod("new"), [*NAMES, "unknown"])

    page = world.metrics.render().decode()
    assert 'kerf_scheduler_refusals_total{reason="memory"} 1.0' in page
    assert 'kerf_scheduler_refusals_total{reason="no_inventory"} 1.0' in page
