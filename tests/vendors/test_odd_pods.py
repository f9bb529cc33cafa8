"""Odd but valid pods: what a vendor's plugin would serve wrongly is refused, and every number has a clear answer."""

import copy
from typing import Any

import pytest

from kerf.testing.builders import a_node, a_pod
from tests.vendors.shop import Outcome, Shop
from tests.vendors.test_ascend import SOFT
from tests.vendors.test_ascend import node as ascend
from tests.vendors.test_never_too_much import FLEETS, NAMES

MLU = {"cambricon.com/vmlu": 1, "cambricon.com/mlu.smlu.vmemory": 4, "cambricon.com/mlu.smlu.vcore": 10}
B3, B3_MEMORY = "huawei.com/Ascend910B3", "huawei.com/Ascend910B3-memory"
NEURON, CORE = "aws.amazon.com/neuron", "aws.amazon.com/neuroncore"
DRS = "enflame.com/drs-gcu"


def pod_of(*asks: dict[str, Any], init: dict[str, Any] | None = None, notes: dict[str, str] | None = None) -> Any:
    """A pod with one app container for each ask."""
    first = [{"name": "first", "resources": {"limits": texts(init)}}] if init else []
    containers = [{"name": f"c{i}", "resources": {"limits": texts(ask)}} for i, ask in enumerate(asks)]
    return a_pod("odd", containers=containers, init=first, annotations=notes or {})


def texts(ask: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in ask.items()}


def of(vendor: str, pod: Any) -> Outcome:
    return Shop(copy.deepcopy(FLEETS[vendor])).take(pod)


# ---- what one pod cannot say to a plugin
@pytest.mark.parametrize(
    ("vendor", "pod", "said"),
    [
        pytest.param(
            "cambricon",
            pod_of(MLU, MLU),
            "spec.containers[c1].resources: 'cambricon.com/…': the pod has one profile, for one container: "
            "ask for cards in one container",
            id="cambricon: two containers",
        ),
        pytest.param(
            "cambricon",
            pod_of({}, init=MLU),
            "spec.initContainers[first].resources: 'cambricon.com/…': its plugin serves app containers alone: "
            "ask for cards in one of them",
            id="cambricon: an init container",
        ),
        pytest.param(
            "kunlun",
            pod_of({"kunlunxin.com/xpu": 1}, {"kunlunxin.com/xpu": 1}),
            "spec.containers[c1].resources: 'kunlunxin.com/…': the pod has one list of cards: "
            "ask for all of them in one container",
            id="kunlun: two containers",
        ),
        pytest.param(
            "neuron",
            pod_of({NEURON: 1}, {CORE: 1}),
            "spec.containers[c1].resources: 'aws.amazon.com/…': the pod has one list, of devices or of cores: "
            f"ask for {NEURON} or for {CORE}",
            id="neuron: devices and cores",
        ),
        pytest.param(
            "ascend910b3",
            pod_of({B3: 1, B3_MEMORY: 1000}, {B3: 1, B3_MEMORY: 30000}),
            "spec.containers[c1].resources: 'huawei.com/…': containers of a pod that share a card get one size: "
            "ask for the same in each",
            id="ascend: templates of two sizes",
        ),
        pytest.param(
            "enflamedrs",
            pod_of({DRS: 1, "enflame.com/gcu-memory": 0}),
            "spec.containers[c0].resources.limits[enflame.com/gcu-memory]: '0': drs-gcu says the size: "
            "drop gcu-memory and gcu-core, or drop drs-gcu",
            id="enflame: parts, and no memory",
        ),
        pytest.param(
            "ascend910c",
            pod_of({"huawei.com/Ascend910C": 2, "huawei.com/Ascend910C-core": 20}),
            "spec.containers[c0].resources.limits[huawei.com/Ascend910C-core]: '20': "
            "Ascend910C modules are not cut: drop the cores",
            id="ascend: cores of a module",
        ),
    ],
)
def test_what_a_plugin_would_serve_wrongly_is_refused(vendor: str, pod: Any, said: str):
    assert of(vendor, pod).refused == said


@pytest.mark.parametrize(
    ("vendor", "pod"),
    [
        ("ascend910b3", pod_of({B3: 1, B3_MEMORY: 1000}, {B3: 1, B3_MEMORY: 16000})),
        ("ascend910b3", pod_of({B3: 1}, {B3: 1, B3_MEMORY: 30000})),
        ("neuron", pod_of({CORE: 1}, {CORE: 1}, {CORE: 2})),
        ("hygon", pod_of({"hygon.com/dcunum": 1, "hygon.com/dcumem": 9, "hygon.com/dcucores": 9}, {})),
    ],
)
def test_what_it_serves_rightly_runs(vendor: str, pod: Any):
    assert of(vendor, pod).slices


def test_soft_slices_of_two_sizes_are_refused_too():
    node = ascend("Ascend910B3", 65536, soft=True)
    core = "huawei.com/Ascend910B3-core"

    unlike = pod_of({B3: 1, B3_MEMORY: 100, core: 5}, {B3: 1, B3_MEMORY: 200, core: 5}, notes=SOFT)
    alike = pod_of({B3: 1, B3_MEMORY: 100, core: 5}, {B3: 1, B3_MEMORY: 100, core: 5}, notes=SOFT)

    assert "ask for the same in each" in Shop(node).take(unlike).refused
    assert Shop(node).take(alike).slices


def test_all_enflame_slices_of_a_pod_are_of_one_card():
    node = copy.deepcopy(FLEETS["enflamedrs"])
    key = "enflame.com/gcu-drs-capacity"
    spec = node["metadata"]["annotations"][key]
    two = spec.replace('"devices": [', '"devices": [{"index": "5", "minor": "9", "capacity": 6}, ')
    assert two != spec
    node["metadata"]["annotations"][key] = two
    shop = Shop(node)

    got = shop.take(pod_of({DRS: 1}, {DRS: 3}, init={DRS: 1}))

    assert len({card for card, *_ in got.slices}) == 1


def test_a_cambricon_pod_says_its_cores_because_its_plugin_is_called_for_them():
    got = of("cambricon", pod_of({"cambricon.com/vmlu": 1, "cambricon.com/mlu.smlu.vmemory": 4}))

    assert got.limits["cambricon.com/mlu.smlu.vcore"] == "100"


# ---- numbers
AMOUNTS = [
    "0",
    "1",
    "3",
    "1e3",
    "1k",
    "1000m",
    "1.5",
    "1.5Gi",
    "8Gi",
    "512Mi",
    "100m",
    "9E",
    "-1",
    "1e19",
    "x",
    "",
    "65",
]


@pytest.mark.parametrize("vendor", FLEETS)
def test_every_amount_is_refused_with_its_field_or_stored_so_that_it_reads_back(vendor: str):
    words = NAMES[vendor]
    for word in filter(None, (words.count, words.memory, words.cores)):
        for amount in AMOUNTS:
            asks = {words.count: 1, word: amount}
            if word == words.count and amount == "0":
                continue  # no cards, so no pod of Kerf's
            got = of(vendor, pod_of(asks))
            assert got.refused.startswith("spec.containers[c0].resources") or (got.slices or got.misfit), (word, amount)
            assert "spec." not in got.misfit, "what the webhook lets in, the scheduler reads"


def test_a_memory_in_bytes_is_answered_with_the_units_that_it_is():
    asks = {"iluvatar.ai/BI-V150-vgpu": 1, "iluvatar.ai/BI-V150.vMem": "1.5Gi"}

    assert "(the unit is 256 MiB, so 6; 1.5Gi is outside 0..65536)" in of("biv150", pod_of(asks)).refused


@pytest.mark.parametrize(
    ("vendor", "asks", "why"),
    [
        (
            "mthreads",
            {"mthreads.com/vgpu": 1, "mthreads.com/sgpu-core": 2},
            "2 asked, 16 written: without mthreads.com/sgpu-memory a container gets a whole card",
        ),
        ("neuron", {NEURON: 1, CORE: 1}, f"1 asked, 2 written: {NEURON} is of whole devices: drop it"),
    ],
)
def test_what_is_raised_says_why(vendor: str, asks: dict[str, Any], why: str):
    assert why in " ".join(of(vendor, pod_of(asks)).warnings)


# ---- several vendors
def mixed(*vendors: str) -> dict[str, Any]:
    """One node with NVIDIA's cards and those of these vendors."""
    node = a_node("n", 2)
    status = node["status"] = {"capacity": {}, "allocatable": {"cpu": "96", "memory": "768Gi"}}
    for vendor in vendors:
        theirs = FLEETS[vendor]
        node["metadata"]["annotations"] |= theirs["metadata"]["annotations"]
        for part in status:
            status[part] |= {key: text for key, text in theirs["status"][part].items() if "/" in key}
    return node


def test_a_pod_with_cards_of_three_vendors_has_what_each_plugin_reads():
    asks = {"nvidia.com/gpumem": 1000, "hygon.com/dcunum": 1, "hygon.com/dcumem": 1000, **MLU}

    got = Shop(mixed("hygon", "cambricon", "metaxsgpu")).take(pod_of(asks))

    assert sorted((vendor, mib) for _, vendor, mib, _ in got.slices) == [
        ("cambricon", 1024),
        ("hygon", 1000),
        ("nvidia", 1000),
    ]
    assert got.notes["CAMBRICON_DSMLU_PROFILE"] == "0_10_4"
    assert got.notes["hami.io/dcu-devices-to-allocate"] == "DCU-0,DCU,1000,100:;"


@pytest.mark.parametrize("note", ["nvidia.com/use-gputype", "nvidia.com/use-gpuuuid", "hygon.com/use-dcutype"])
def test_a_pod_of_several_vendors_that_chooses_among_cards_is_refused(note: str):
    asks = {"nvidia.com/gpumem": 1000, "hygon.com/dcunum": 1}

    refused = Shop(mixed("hygon")).take(pod_of(asks, notes={note: "x"})).refused

    assert refused.startswith(f"metadata.annotations[{note}]: 'x': a pod with cards of several vendors cannot choose")
