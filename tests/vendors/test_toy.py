"""A second vendor, one file and one entry beside NVIDIA's, through every program: its cards are sliced by templates."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_node, a_pod, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.values.device import Card
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.annotations import parse_grant
from kerf.wire.extender import BindQuery
from kerf.wire.inventory import render_inventory
from kerf.wire.objects import parse_node
from kerfctl.main import main
from scheduler.extender.bind import Binder
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.solver.check import broken_rules
from scheduler.solver.problem import Problem
from scheduler.solver.solve import plan
from scheduler.state.store import Store, load
from tests.deviceplugin.plugin_world import NODE, World, a_world
from tests.effort import examples
from tests.scheduler.extender.test_bind import Office
from tests.vendors.toy import LARGEST_MIB, MODEL, SIZES, TOY
from tests.webhook.json_patch import apply
from tests.webhook.tenants import a_book, a_class_book, a_review, settings_of
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

BOTH = (*VENDORS, TOY)
QUARTER, HALF, WHOLE = SIZES[1:]


def a_toy_card(index: int = 0, **changes: Any) -> Card:
    fields = {"id": f"TOY-{index}", "index": index, "vendor": "toy", "model": MODEL, "memory_mib": LARGEST_MIB}
    return Card(**{**fields, **changes})


def a_toy_node(name: str = "n", cards: tuple[Card, ...] = (a_toy_card(),), nvidia: int = 0) -> dict[str, Any]:
    """A node with cards of both vendors, each in its own annotation."""
    node = a_node(name, cards_of(name, nvidia))
    node["metadata"]["annotations"][TOY.inventory_key] = render_inventory(cards)
    return node


def a_toy_pod(name: str = "pod-1", memory: int | None = 5_000, cores: int | None = None, **more: Any) -> dict[str, Any]:
    limits = {"toy.example/npu": "1"}
    limits |= {"toy.example/npu-memory": str(memory)} if memory is not None else {}
    limits |= {"toy.example/npu-cores": str(cores)} if cores is not None else {}
    return a_pod(name, containers=[{"name": "main", "resources": {"limits": limits}}], **more)


def a_store(*objects: dict[str, Any]) -> Store:
    store = Store(SchedulingPolicy(), BOTH)
    load(store, [o for o in objects if o["kind"] == "Node"], [o for o in objects if o["kind"] == "Pod"])
    return store


# ---- webhook
def admit(pod: dict[str, Any]) -> Any:
    return mutate(a_review(pod), Settings(BOTH))


def test_the_webhook_writes_defaults_in_the_vendors_words():
    pod = a_toy_pod()
    del pod["spec"]["containers"][0]["resources"]["limits"]["toy.example/npu"]

    stored = apply(pod, admit(pod).patch)

    (container,) = stored["spec"]["containers"]
    assert container["resources"]["limits"] == {"toy.example/npu": "1", "toy.example/npu-memory": "5000"}
    assert "env" not in container
    assert stored["spec"]["schedulerName"] == "kerf-scheduler"


def test_the_webhook_refuses_what_no_template_and_no_card_holds():
    answer = admit(a_toy_pod(memory=LARGEST_MIB + 1))

    assert not answer.allowed
    assert answer.message.endswith(
        "containers[main].resources.limits[toy.example/npu-memory]: '32769': "
        "no template and no card holds that much: write at most 32768"
    )


def test_quota_counts_the_template_that_the_pod_will_hold():
    settings = settings_of([a_book(a_class_book(MODEL, LARGEST_MIB, "toy"))], vendors=BOTH)
    pod = a_toy_pod(memory=5_000)

    (container,) = apply(pod, mutate(a_review(pod), settings).patch)["spec"]["containers"]

    limits = container["resources"]["limits"]
    assert [limits[f"quota.kerf.dev/toy-{what}"] for what in ("mib", "cores", "cards")] == ["8192", "25", "1"]


# ---- scheduler
@pytest.mark.parametrize(
    ("memory", "cores", "size"),
    [
        (1, None, SIZES[0]),
        (5_000, None, QUARTER),
        (8_192, 25, QUARTER),
        (8_193, None, HALF),
        (1, 26, HALF),
        (16_385, None, WHOLE),
        (None, None, WHOLE),
    ],
)
def test_bind_writes_the_smallest_template_that_holds_the_ask(memory: int | None, cores: int | None, size: Any):
    objects = a_toy_node(nvidia=2), a_toy_pod(memory=memory, cores=cores)
    store, kube = a_store(*objects), FakeKube(*objects)
    query = json.dumps({"Pod": objects[1], "NodeNames": ["n"]}).encode()
    verbs = Verbs(store.desk, SchedulerMetrics.build(Metrics()))

    assert json.loads(verbs.filter(query))["NodeNames"] == ["n"]
    assert [entry["Host"] for entry in json.loads(verbs.prioritize(query))] == ["n"]
    binder = Binder(store, kube, SchedulerMetrics.build(Metrics()), Office())
    assert asyncio.run(binder.bind(BindQuery("default", "pod-1", "uid-default-pod-1", "n"))) == ""

    notes = kube.get("/api/v1/namespaces/default/pods/pod-1")["metadata"]["annotations"]
    (container,) = parse_grant(notes["kerf.dev/grant"]).containers
    assert container.slices == (Slice("TOY-0", "toy", size.memory_mib, size.cores),)


def refusal(*objects: dict[str, Any], pod: dict[str, Any]) -> str:
    store = a_store(*objects, pod)
    query = json.dumps({"Pod": pod, "NodeNames": ["n"]}).encode()
    answer = json.loads(Verbs(store.desk, SchedulerMetrics.build(Metrics())).filter(query))
    return {**answer["FailedNodes"], **answer["FailedAndUnresolvableNodes"]}["n"]


def held(memory: int, cores: int, name: str = "held") -> dict[str, Any]:
    slices = (Slice("TOY-0", "toy", memory, cores),)
    return a_toy_pod(name, memory, node="n", phase="Running", grant=Grant((ContainerGrant("main", slices),)))


def test_a_full_card_refuses_by_the_size_of_the_template_and_advises_a_template_that_fits():
    said = refusal(a_toy_node(), held(16_384, 50), held(8_192, 25, "also"), pod=a_toy_pod(memory=9_000))

    assert "8,192 MiB free" in said
    assert "8,192 MiB would fit on n" in said


def test_a_card_without_templates_says_so():
    said = refusal(a_toy_node(cards=(a_toy_card(model="Toy S1"),)), pod=a_toy_pod())

    assert "Toy S1 has no templates" in said


def test_two_inventories_with_one_card_are_refused():
    node = a_node("n", (replace(a_toy_card(), vendor="nvidia", model="NVIDIA H100"),))
    node["metadata"]["annotations"][TOY.inventory_key] = render_inventory((a_toy_card(),))

    problem = parse_node(node, BOTH).problem

    assert problem == (
        "kerf.dev/inventory-toy: 'TOY-0': give every card its own id: another vendor's inventory has this one too"
    )


# ---- solver
def test_the_solver_packs_templates_not_asks():
    asks = [a_store().desk.read(a_toy_pod(f"p{i}", memory=memory))[0] for i, memory in enumerate([9_000] * 3 + [5_000])]
    nodes = tuple(a_store(a_toy_node(cards=(a_toy_card(), a_toy_card(1)))).desk.states())
    problem = Problem(nodes, tuple(asks))

    found = plan(problem)

    assert broken_rules(problem, found.assignments) == ()
    assert (found.unplaced, found.score[-1]) == ((), -2)  # 3 halves and a quarter: both cards
    sizes = [(s.memory_mib, s.cores) for a in found.assignments for s in a.grant.of("main")]
    assert sorted(sizes) == [(8_192, 25), *[(16_384, 50)] * 3]


# ---- device plugin
@pytest.fixture
def node(tmp_path: Path) -> Iterator[World]:
    fleet = {"cards": [{"model": MODEL, "memory_mib": LARGEST_MIB, "vendor": "toy", "ids": ["TOY-0"], "slots": 4}]}
    with a_world(tmp_path, resource=("toy.example/npu",)) as world:
        Path(world.settings.probe.partition(":")[2]).write_text(yaml.safe_dump(fleet))
        world.vendors = BOTH
        yield world.run(slots=4)


def granted(memory: int, cores: int) -> dict[str, Any]:
    grant = Grant((ContainerGrant("main", (Slice("TOY-0", "toy", memory, cores),)),))
    return a_toy_pod("bound", memory=5_000, grant=grant, node=NODE)


def test_the_device_plugin_injects_what_the_vendor_says(node: World):
    name = node.kubelet.start_container(node.bind(granted(8_192, 25)), "main")

    assert node.runtime_edits(name)["env"] == {"TOY_VISIBLE_CARDS": "TOY-0", "TOY_TEMPLATES": "toy_2c"}


def test_the_device_plugin_refuses_a_grant_that_is_no_template(node: World):
    with pytest.raises(grpc.RpcError, match="was granted 5,000 MiB and 12 % of the cores of TOY-0"):
        node.kubelet.start_container(node.bind(granted(5_000, 12)), "main")


# ---- CLI
@pytest.fixture
def kerf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr("kerfctl.main.VENDORS", BOTH)
    state = tmp_path / "state.yaml"

    def run(verb: str, *words: str, objects: list[dict[str, Any]]) -> Any:
        state.write_text(yaml.safe_dump_all(objects))
        monkeypatch.setattr("kerfctl.cluster.connect_to", lambda _: FakeKube(*objects))
        where = {"simulate": [str(state)], "explain": ["--file", str(state)]}.get(verb, [])
        main([verb, *words, *where, "--json"])
        return json.loads(capsys.readouterr().out)

    return run


def test_simulate_shows_the_template_that_a_pod_gets(kerf: Any):
    found = kerf("simulate", objects=[a_toy_node(), a_toy_pod()])

    (pod,) = found["pods"]
    assert (pod["node"], [(s["card"], s["memory_mib"], s["cores"]) for s in pod["slices"]]) == (
        "n",
        [("TOY-0", 8_192, 25)],
    )


def test_inventory_lists_the_cards_of_both_vendors(kerf: Any):
    found = kerf("inventory", objects=[a_toy_node(nvidia=1), held(8_192, 25)])

    assert {(card["card"], card["used_mib"]) for card in found["cards"]} == {("GPU-n-0", 0), ("TOY-0", 8_192)}


def test_explain_shows_a_pod_that_waits_what_would_fit(kerf: Any):
    found = kerf("explain", "waits", objects=[a_toy_node(), held(16_384, 50), a_toy_pod("waits", memory=20_000)])

    assert "16,384 MiB would fit on n" in str(found)


# ---- never too much
@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.integers(1, LARGEST_MIB), st.integers(0, 100), st.booleans()), max_size=14))
def test_no_card_is_over_granted_and_every_grant_is_a_template(asks: list[tuple[int, int, bool]]):
    store = a_store(a_toy_node(cards=tuple(a_toy_card(i) for i in range(3))))
    live: list[str] = []
    for i, (memory, cores, leaves) in enumerate(asks):
        pod = a_toy_pod(f"p{i}", memory=memory, cores=cores)
        ask, stages = store.desk.read(pod)
        grant = store.desk.assume(ask, "n", stages)
        if isinstance(grant, Grant):
            live.append(ask.uid)
            (piece,) = grant.of("main")
            sizes = [size for size in SIZES if size.memory_mib >= memory and size.cores >= cores]
            assert (piece.memory_mib, piece.cores) == (sizes[0].memory_mib, sizes[0].cores)
        if leaves and live:
            store.ledger.undo(live.pop(0))
        for state in store.desk.state("n").cards:
            assert state.used.memory_mib <= LARGEST_MIB
            assert state.used.cores <= 100


def test_an_nvidia_pod_beside_it_is_placed_as_ever():
    store = a_store(a_toy_node(nvidia=1))
    ask, stages = store.desk.read(a_pod())

    grant = store.desk.assume(ask, "n", stages)

    assert isinstance(grant, Grant)
    assert grant.of("main") == (Slice("GPU-n-0", "nvidia", 8_000, 30),)
