"""Filter, prioritize and preempt as kube-scheduler calls them. They write nothing."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_card, a_container, a_grant, a_node, a_pod
from kerf.values.hard_quota import HardLimit, HardQuota
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import Bound
from kerf.vendors.registry import VENDORS
from scheduler.extender.verbs import Verbs, rank
from scheduler.metrics import SchedulerMetrics
from scheduler.quota.capacity import capacity
from scheduler.quota.shares import Shares
from scheduler.state.store import Store, load


def verbs(*objects: dict) -> Verbs:
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [o for o in objects if o["kind"] == "Node"], [o for o in objects if o["kind"] == "Pod"])
    return Verbs(store.desk, SchedulerMetrics.build(Metrics()))


def ask(pod: dict, *names: str) -> bytes:
    """As kube-scheduler writes it."""
    return json.dumps({"Pod": pod, "Nodes": None, "NodeNames": list(names)}, separators=(",", ":")).encode()


def test_filter_returns_every_node_that_fits_and_a_reason_for_each_other():
    small = a_node("small", (a_card(id="GPU-s", memory_mib=4000),))
    answer = json.loads(verbs(a_node("a"), a_node("b"), small).filter(ask(a_pod(), "a", "b", "small", "unknown")))

    assert answer["NodeNames"] == ["a", "b"]
    assert answer["FailedNodes"] == {}
    assert set(answer["FailedAndUnresolvableNodes"]) == {"small", "unknown"}
    assert answer["Error"] == ""


def test_a_pod_that_fits_nowhere_gets_the_nearest_miss_with_numbers_on_one_node_only():
    full = [
        a_pod(f"p{i}", node=f"node-{i % 50}", grant=a_grant(f"GPU-node-{i % 50}-0", 70_000 - i, 0)) for i in range(50)
    ]
    nodes = [a_node(f"node-{i}", 1) for i in range(50)]
    answer = json.loads(verbs(*nodes, *full).filter(ask(a_pod(mem=40_000), *[f"node-{i}" for i in range(50)])))

    sentences = sorted(set(answer["FailedNodes"].values()), key=len)
    assert len(sentences) == 2
    assert not any(char.isdigit() for char in sentences[0])
    assert "40,000 MiB" in sentences[1]
    assert "11,608" in sentences[1]  # 81,559 - (70,000 - 49): the emptiest card


def test_a_pod_without_asks_fits_everywhere():
    answer = json.loads(verbs(a_node("a", 0)).filter(ask(a_pod(containers=[{"name": "x"}]), "a", "b")))

    assert answer["NodeNames"] == ["a", "b"]


def test_an_ask_that_cannot_be_read_is_refused_with_the_field_and_the_fix():
    answer = json.loads(verbs(a_node("a")).filter(ask(a_pod(mem="8Gi"), "a")))

    text = answer["FailedAndUnresolvableNodes"]["a"]
    assert "nvidia.com/gpumem" in text
    assert "8192" in text


def test_prioritize_gives_every_node_its_own_place():
    names = [f"node-{i}" for i in range(20)]
    answer = json.loads(verbs(*[a_node(name) for name in names]).prioritize(ask(a_pod(), *names)))

    assert [entry["Host"] for entry in answer] == names
    assert sorted(entry["Score"] for entry in answer) == list(range(20))


def test_places_never_outweigh_a_wish_of_the_user():
    places = rank(np.arange(25_000))

    assert places.max() * 10 < 100_000
    assert len(np.unique(places[-9_999:])) == 9_999


def test_preempt_answers_with_the_fewest_pods_whose_cards_make_room():
    held = [("low-a", "GPU-n-0", 30_000), ("low-b", "GPU-n-0", 40_000), ("low-c", "GPU-n-1", 60_000)]
    pods = [a_pod(name, node="n", grant=a_grant(card, memory, 0), spec={"priority": 1}) for name, card, memory in held]
    asking = a_pod("high", mem=50_000, cores=0, spec={"priority": 100})
    uids = [pod["metadata"]["uid"] for pod in pods]
    victims = {"n": {"Pods": [{"UID": uid} for uid in uids], "NumPDBViolations": 0}}
    body = json.dumps({"Pod": asking, "NodeNameToMetaVictims": victims}).encode()

    answer = json.loads(verbs(a_node("n", 2), *pods).preempt(body))

    # GPU-n-0 has 11,559 free: low-b's 40,000 make 51,559. GPU-n-1 needs low-c. One victim either way: the name decides.
    assert answer["NodeNameToMetaVictims"]["n"]["Pods"] == [{"UID": "uid-default-low-b"}]


def test_preempt_leaves_kube_schedulers_victims_where_the_cards_have_room():
    pods = [a_pod("cards", node="n", grant=a_grant("GPU-n-0", 1000, 0)), a_pod("cpu", node="n", containers=[])]
    asking = a_pod("high", mem=8000, cores=0, spec={"priority": 100})
    victims = {"n": {"Pods": [{"UID": "uid-default-cpu"}], "NumPDBViolations": 1}}
    body = json.dumps({"Pod": asking, "NodeNameToMetaVictims": victims}).encode()

    assert json.loads(verbs(a_node("n", 1), *pods).preempt(body))["NodeNameToMetaVictims"] == victims


def test_preempt_leaves_out_a_node_that_evictions_cannot_help():
    pods = [a_pod("low", node="n", grant=a_grant("GPU-n-0", 1000, 0))]
    asking = a_pod("high", containers=[a_container(gpu=2, mem=8000)], spec={"priority": 100})
    body = json.dumps({"Pod": asking, "NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "uid-default-low"}]}}}).encode()

    assert json.loads(verbs(a_node("n", 1), *pods).preempt(body)) == {"NodeNameToMetaVictims": {}}


def test_preempt_names_nobody_for_a_pod_that_quota_refuses():
    pods = [a_pod("low", node="n", grant=a_grant("GPU-n-0", 81_559, 0))]
    asking = a_pod("high", mem=8000, cores=0, spec={"priority": 100})
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("n", 1)], pods)
    hard = {"default": HardQuota((HardLimit("rq", (("nvidia", Bound(memory_mib=81_559)),)),))}
    store.feed.set_quota(Shares(), capacity(store.desk.nodes(), SchedulingPolicy()), hard)
    body = json.dumps({"Pod": asking, "NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "uid-default-low"}]}}}).encode()

    answer = json.loads(Verbs(store.desk, SchedulerMetrics.build(Metrics())).preempt(body))

    assert answer == {"NodeNameToMetaVictims": {}}


@given(st.permutations([f"n{i}" for i in range(8)] + ["unknown"]), st.sampled_from([4_000, 30_000, 60_000, 80_000]))
def test_both_ways_of_writing_a_query_get_the_same_answers(names, mem):
    held = [a_pod(f"p{i}", node=f"n{i}", grant=a_grant(f"GPU-n{i}-0", 9_000 * i, 0)) for i in range(8)]
    world = verbs(*[a_node(f"n{i}", 1) for i in range(8)], *held)
    short = ask(a_pod(mem=mem), *names)
    spaced = json.dumps(json.loads(short)).encode()

    assert json.loads(world.filter(short)) == json.loads(world.filter(spaced))
    assert json.loads(world.prioritize(short)) == json.loads(world.prioritize(spaced))


def test_prioritize_of_what_filter_answered_is_the_same_as_of_any_list():
    world = verbs(*[a_node(f"n{i}", 1) for i in range(5)])
    fits = json.loads(world.filter(ask(a_pod(), *[f"n{i}" for i in range(5)])))["NodeNames"]

    assert json.loads(world.prioritize(ask(a_pod(), *fits))) == json.loads(
        verbs(*[a_node(f"n{i}", 1) for i in range(5)]).prioritize(ask(a_pod(), *fits))
    )


def test_nodes_that_come_and_go_are_known_by_their_new_rows():
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("a"), a_node("b")], [])
    world = Verbs(store.desk, SchedulerMetrics.build(Metrics()))
    assert json.loads(world.filter(ask(a_pod(), "a", "b", "c")))["NodeNames"] == ["a", "b"]

    store.feed.apply_node("DELETED", a_node("a"))
    store.feed.apply_node("ADDED", a_node("c"))

    assert json.loads(world.filter(ask(a_pod(), "a", "b", "c")))["NodeNames"] == ["b", "c"]


def test_names_of_nodes_that_are_gone_are_forgotten():
    world = verbs(a_node("a"))
    for turn in range(4):
        world.filter(ask(a_pod(), "a", *[f"gone-{turn}-{i}" for i in range(500)]))

    assert len(world._roster.names) < 2_000
    assert json.loads(world.filter(ask(a_pod(), "a")))["NodeNames"] == ["a"]


@pytest.mark.parametrize("tail", ['"NodeNames":["a"]', '"NodeNames":[]', '"x":{"NodeNames":["a"]}'])
def test_a_key_within_the_pod_is_not_the_list(tail):
    body = ('{"NodeNames":["a"],"Pod":{"metadata":{"uid":"u"},' + tail + "}}").encode()

    assert json.loads(verbs(a_node("a")).filter(body))["NodeNames"] == ["a"]
