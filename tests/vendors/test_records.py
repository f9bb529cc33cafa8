"""What HAMi recorded of the pods that it bound is read back exactly, whatever the vendor's record leaves out."""

from typing import Any

import pytest

from kerf.testing.builders import a_pod
from kerf.values.grant import Slice
from kerf.values.places import one
from kerf.vendors.registry import VENDORS
from kerf.wire.objects import parse_holding, parse_node
from tests.vendors import test_companions as companions
from tests.vendors.shop import Shop, a_vendor_node, asking, registered
from tests.vendors.test_ascend import SOFT
from tests.vendors.test_ascend import node as ascend
from tests.vendors.test_never_too_much import FLEETS, NAMES, ask_of

MODULES = {"huawei.com/Ascend910C": "2"}
RADEON = a_vendor_node(
    annotations={
        "hami.io/node-amd-register": registered(
            {"id": "RX", "devmem": 24560, "devcore": 96, "type": "AMD RX", "custominfo": {"cuPerWGP": 2}}
        )
    },
    **{"amd.com/gpu": "10"},
)


def bound(key: str, text: str, asks: dict[str, Any], **notes: str) -> dict[str, Any]:
    """A pod that HAMi bound."""
    found = {"hami.io/vgpu-node": "n", key: text, **notes}
    containers = [
        {"name": name, "resources": {"limits": {key: str(value) for key, value in asks.items()}}}
        for name in ("main", "side", "third")[: text.count(";")]
    ]
    return a_pod("old", containers=containers, annotations=found, node="n")


def held(node: dict[str, Any], pod: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    """What the ledger says the pod holds: card, MiB, percent, places."""
    shop = Shop(node)
    shop.store.feed.apply_pod("ADDED", pod)
    return sorted(
        (piece.card, piece.memory_mib, piece.cores, piece.place)
        for holding in shop.store.ledger.holdings()
        for piece in holding.grant.slices
    )


RECORDS: list[Any] = [
    pytest.param(
        FLEETS["amd"], "amd", "GPU-a,AMD Instinct MI300X,65536,91:;", [("GPU-a", 65536, 30, 0)], id="amd: compute units"
    ),
    pytest.param(
        FLEETS["amd"], "amd", "GPU-a,AMD Instinct MI300X,196608,304:;", [("GPU-a", 196608, 100, 0)], id="amd: a card"
    ),
    pytest.param(RADEON, "amd", "RX,AMD RX,8192,32:;", [("RX", 8192, 34, 0)], id="amd: 33 % are 32 units of 96"),
    pytest.param(
        FLEETS["vastai"], "vastai", "VA-0,Vastai,0,0:;", [("VA-0", 65536, 100, 0)], id="vastai: nothing is written"
    ),
    pytest.param(
        FLEETS["biren"], "biren", "BR-0,Biren,0,0:;", [("BR-0", 32768, 100, 0)], id="biren: nothing is written"
    ),
    pytest.param(
        FLEETS["enflame"], "enflame", "n-GCU-1,GCU,100,100:;", [("n-GCU-1", 49152, 100, 0)], id="enflame: 100 is a card"
    ),
    pytest.param(
        companions.enflame(),
        "enflamedrs",
        "n-enflame-drs-0,Enflame,6144,17:;",
        [("n-enflame-drs-0", 6144, 16, 0)],
        id="enflame: cores of a profile are rounded up",
    ),
    pytest.param(
        companions.inf2(2),
        "neuron",
        "n-AWSNeuron-1,AWSNeuron,0,2:;",
        [("n-AWSNeuron-1", 16384, 50, one(1))],
        id="neuron: the second core",
    ),
    pytest.param(
        companions.inf2(2),
        "neuron",
        "n-AWSNeuron-0,AWSNeuron,0,3:n-AWSNeuron-1,AWSNeuron,0,3:;",
        [(f"n-AWSNeuron-{i}", 32768, 100, one(0, 1)) for i in (0, 1)],
        id="neuron: both devices",
    ),
    pytest.param(
        companions.inf2(1, 4),
        "neuron",
        "n-AWSNeuron-0,AWSNeuron,0,5:;",
        [("n-AWSNeuron-0", 16384, 50, one(0, 2))],
        id="neuron: two of four cores",
    ),
    pytest.param(
        ascend("Ascend910B3", 65536),
        "ascend910b3",
        "Ascend910B3-0,Ascend910B3,16384,0:;",
        [("Ascend910B3-0", 16384, 25, 0)],
        id="ascend: cores are the template's",
    ),
    pytest.param(
        ascend("Ascend310P", 24576),
        "ascend310p",
        "Ascend310P-0,Ascend310P,21527,0:;",
        [("Ascend310P-0", 21527, 100, 0)],
        id="ascend: a whole 310P",
    ),
    pytest.param(
        companions.kunlun(),
        "kunlunvxpu",
        "XPU-0,XPU,24576,25:;",
        [("XPU-0", 24576, 25, one(0))],
        id="kunlun: a quarter, beside quarters alone",
    ),
]


@pytest.mark.parametrize(("node", "vendor", "text", "slices"), RECORDS)
def test_a_record_of_hamis_means_slices_of_the_nodes_cards(
    node: dict[str, Any], vendor: str, text: str, slices: list[tuple[str, int, int, int]]
):
    key = next(one for one in VENDORS if one.name == vendor).hami_allocated

    assert held(node, bound(key, text, {NAMES[vendor].count: 1})) == slices


@pytest.mark.parametrize(
    ("text", "slices"),
    [
        pytest.param("{0},{1}", [("{0}", 131072, 100, 0)], id="a module"),
        pytest.param("{0}", [("{0}", 65536, 50, 0)], id="its first processor"),
        pytest.param("{1}", [("{0}", 65536, 50, 0)], id="its second processor"),
        pytest.param("{1},{2}", [("{0}", 65536, 50, 0), ("{2}", 65536, 50, 0)], id="two halves"),
        pytest.param("{2},{0},{3},{1}", [("{0}", 131072, 100, 0), ("{2}", 131072, 100, 0)], id="two modules"),
    ],
)
def test_processors_of_an_ascend_910c_are_parts_of_their_module(text: str, slices: list[tuple[str, int, int, int]]):
    node = ascend("Ascend910C", 65536, 4)
    ids = [f"Ascend910C-{i}" for i in range(4)]
    record = "".join(f"{one},Ascend910C,65536,0:" for one in text.format(*ids).split(",")) + ";"

    found = held(node, bound("hami.io/Ascend910C-devices-allocated", record, MODULES))

    assert found == [(card.format(*ids), *amounts) for card, *amounts in slices]


@pytest.mark.parametrize("processor", [0, 1])
def test_no_pod_gets_a_module_of_which_hami_gave_one_processor(processor: int):
    shop = Shop(ascend("Ascend910C", 65536, 2))
    record = f"Ascend910C-{processor},Ascend910C,65536,0:;"
    shop.store.feed.apply_pod("ADDED", bound("hami.io/Ascend910C-devices-allocated", record, MODULES))

    assert shop.take(asking("new", **MODULES)).misfit


def test_pods_of_both_processors_hold_the_whole_module():
    shop = Shop(ascend("Ascend910C", 65536, 2))
    for i in range(2):
        record = f"Ascend910C-{i},Ascend910C,65536,0:;"
        pod = bound("hami.io/Ascend910C-devices-allocated", record, MODULES)
        pod["metadata"] |= {"name": f"old-{i}", "uid": f"old-{i}"}
        shop.store.feed.apply_pod("ADDED", pod)

    used = shop.store.desk.state("n").cards[0]

    assert (used.free.memory_mib, used.free.cores, used.free.slots) == (0, 0, 0)


def test_a_metax_card_keeps_the_policy_of_what_hami_put_there():
    shop = Shop(companions.metax())
    record = bound(
        "hami.io/metax-sgpu-devices-allocated",
        "MX-0,Metax-SGPU,16384,20:;",
        {companions.SGPU: 1},
        **{companions.POLICY: "fixed-share"},
    )
    shop.store.feed.apply_pod("ADDED", record)

    assert shop.take(companions.sgpu("other")).misfit
    assert shop.take(companions.sgpu("alike", policy="fixed-share")).slices


def test_a_kunlun_card_keeps_the_size_of_what_hami_put_there():
    shop = Shop(companions.kunlun())
    pod = bound("hami.io/xpu-devices-allocated", "XPU-0,XPU,24576,25:;", {"kunlunxin.com/vxpu": 1})
    shop.store.feed.apply_pod("ADDED", pod)

    assert shop.take(companions.vxpu("half", 40000)).misfit
    assert shop.take(companions.vxpu("quarter", 20000)).slices


def test_a_soft_slice_is_what_is_written():
    node = ascend("Ascend910B3", 65536, soft=True)
    pod = bound(
        "hami.io/Ascend910B3-devices-allocated",
        "Ascend910B3-0,Ascend910B3,5000,7:;",
        {"huawei.com/Ascend910B3": 1},
        **SOFT,
    )

    assert held(node, pod) == [("Ascend910B3-0", 5000, 7, one(0))]


def test_cards_of_two_vendors_in_one_container_are_both_counted():
    cards = registered({"id": "DCU-0", "devmem": 32768, "type": "DCU"})
    node = a_vendor_node(
        annotations={"hami.io/node-dcu-register": cards}, **{"hygon.com/dcunum": "4", "metax-tech.com/gpu": "1"}
    )
    pod = bound(
        "hami.io/dcu-devices-allocated",
        "DCU-0,DCU,1000,10:;",
        {"hygon.com/dcunum": 1, "metax-tech.com/gpu": 1},
        **{"hami.io/metax-gpu-devices-allocated": "n-metax-0,Metax-GPU,65536,100:;"},
    )

    assert held(node, pod) == [("DCU-0", 1000, 10, 0), ("n-metax-0", 65536, 100, 0)]


# ---- the pod before its node, and a node that changes
def test_a_record_is_read_again_when_its_node_is_seen():
    node = ascend("Ascend910C", 65536, 2)
    shop = Shop()
    shop.store.feed.apply_pod(
        "ADDED", bound("hami.io/Ascend910C-devices-allocated", "Ascend910C-1,Ascend910C,65536,0:;", MODULES)
    )

    shop.store.feed.apply_node("ADDED", node)

    assert [state.used.memory_mib for state in shop.store.desk.state("n").cards] == [65536]
    shop.store.feed.apply_pod("DELETED", a_pod("old", node="n"))
    assert [state.used.memory_mib for state in shop.store.desk.state("n").cards] == [0]
    assert len(shop.store.ledger) == 0


def test_a_record_is_read_again_when_its_nodes_cards_have_changed():
    shop = Shop(companions.enflame())
    key = "hami.io/enflame-gcu-devices-allocated"
    whole = a_vendor_node(**{"enflame.com/gcu": "2"})
    shop.store.feed.apply_pod("ADDED", bound(key, "n-GCU-1,GCU,100,100:;", {"enflame.com/gcu": 1}))

    shop.store.feed.apply_node("MODIFIED", whole)

    assert [state.used.memory_mib for state in shop.store.desk.state("n").cards] == [0, 49152]


def test_a_grant_of_kerfs_is_never_read_again():
    shop = Shop(FLEETS["hygon"])
    shop.take(asking("ours", **{"hygon.com/dcunum": 1, "hygon.com/dcumem": 1000}))
    before = shop.store.ledger.holdings()
    smaller = a_vendor_node(
        annotations={"hami.io/node-dcu-register": "DCU-0,4,16384,60,DCU-K100,0,true:"}, **{"hygon.com/dcunum": "4"}
    )

    shop.store.feed.apply_node("MODIFIED", smaller)

    assert shop.store.ledger.holdings() == before


# ---- every vendor
def as_hami_left_it(vendor: str, asks: dict[str, int]) -> tuple[tuple[Slice, ...], dict[str, Any]]:
    """What Kerf gave a pod, and that pod with the vendor's record alone, as HAMi would have bound it."""
    shop = Shop(FLEETS[vendor])
    got = shop.take(asking("old", **asks))
    assert (got.refused, got.misfit) == ("", "")
    notes = {**got.stored["metadata"].get("annotations", {}), **got.notes, "hami.io/vgpu-node": "n"}
    notes.pop("kerf.dev/grant", None)
    meta = {**got.stored["metadata"], "annotations": notes, "uid": "uid-old"}
    slices = shop.store.ledger.holdings()[0].grant.slices
    return slices, {**got.stored, "metadata": meta, "spec": {**got.stored["spec"], "nodeName": "n"}}


@pytest.mark.parametrize("vendor", FLEETS)
@pytest.mark.parametrize(("memory", "cores"), [(0, 0), (8, 20), (2, 1)])
def test_a_vendors_record_reads_back_as_what_was_given(vendor: str, memory: int, cores: int):
    asks = ask_of(NAMES[vendor], 1, memory, cores)
    if vendor == "enflamedrs":
        asks = {"enflame.com/drs-gcu": 1 + memory // 4} if not cores else {"enflame.com/gcu-core": cores}
    if vendor == "neuron":
        asks = {"aws.amazon.com/neuroncore": cores % 2 or 2}
    if vendor == "ascend910c":
        asks = MODULES
    if vendor.startswith("ascend"):
        asks.pop(NAMES[vendor].cores, None)
    slices, pod = as_hami_left_it(vendor, asks)
    node = parse_node(FLEETS[vendor], VENDORS)

    read = parse_holding(pod, VENDORS, lambda _: node.cards)

    assert read is not None
    assert read.grant.slices == slices


@pytest.mark.parametrize("vendor", FLEETS)
def test_a_whole_card_that_hami_gave_is_given_to_nobody_else(vendor: str):
    slices, pod = as_hami_left_it(vendor, ask_of(NAMES[vendor], 1, 0, 0))
    shop = Shop(FLEETS[vendor])
    shop.store.feed.apply_pod("ADDED", pod)

    next_one = shop.take(asking("new", **ask_of(NAMES[vendor], 1, 0, 0)))

    whole = vendor not in {"enflamedrs", "biv150"}  # these give a part, or best effort, to a pod that names no amounts
    assert not whole or not {card for card, *_ in next_one.slices} & {piece.card for piece in slices}
