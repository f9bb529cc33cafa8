"""Vendors whose cards take any size or none at all: units, defaults, records and refusals, each in its own words."""

from typing import Any

import pytest

from tests.vendors.shop import Shop, a_vendor_node, asking, registered

HYGON = a_vendor_node(
    annotations={"hami.io/node-dcu-register": "DCU-0,4,32768,60,DCU-K100,0,true:"}, **{"hygon.com/dcunum": "4"}
)
HCU = a_vendor_node(
    annotations={"hami.io/node-hcu-register": "HCU-T6T8,4,65520,100,HCU-K100_AI,0,true,0,hami:"},
    **{"hygon.com/hcunum": "4"},
)
ILUVATAR = a_vendor_node(
    annotations={"hami.io/node-BI-V150-register": "BI-0,10,32768,100,BI-V150,0,true:BI-1,10,32768,100,BI-V150,0,true:"},
    **{"iluvatar.ai/BI-V150-vgpu": "20"},
)
CAMBRICON = a_vendor_node(
    **{"cambricon.com/mlu.smlu.vcore": "200", "cambricon.com/mlu.smlu.vmemory": "192", "cambricon.com/vmlu": "20"}
)
MTHREADS = a_vendor_node(
    **{"mthreads.com/sgpu-core": "32", "mthreads.com/sgpu-memory": "192", "mthreads.com/vgpu": "200"}
)
AMD = a_vendor_node(
    annotations={
        "hami.io/node-amd-register": registered(
            {"id": "GPU-a", "devmem": 196608, "devcore": 304, "type": "AMD Instinct MI300X"}
        )
    },
    **{"amd.com/gpu": "10"},
)
METAX = a_vendor_node(**{"metax-tech.com/gpu": "2"})
ENFLAME = a_vendor_node(**{"enflame.com/gcu": "2"})
KUNLUN = a_vendor_node(**{"kunlunxin.com/xpu": "4"})
VASTAI = a_vendor_node(
    annotations={"hami.io/node-va-register": registered({"id": "VA-0", "count": 1, "devmem": 65536, "type": "Vastai"})},
    **{"vastaitech.com/va": "1"},
)
BIREN = a_vendor_node(
    annotations={
        "hami.io/node-biren-register": registered({"id": "BR-0", "count": 1, "devmem": 32768, "type": "Biren166"})
    },
    **{"birentech.com/gpu": "1"},
)


ASSIGNED = {"CAMBRICON_DSMLU_ASSIGNED": "false", "CAMBRICON_DSMLU_ASSIGHED": "false"}


def both(prefix: str, text: str) -> dict[str, str]:
    return {f"hami.io/{prefix}-devices-to-allocate": text, f"hami.io/{prefix}-devices-allocated": text}


TABLE: list[Any] = [
    pytest.param(
        HYGON,
        {"hygon.com/dcunum": 1, "hygon.com/dcumem": 8000, "hygon.com/dcucores": 30},
        [("DCU-0", "hygon", 8000, 30)],
        both("dcu", "DCU-0,DCU,8000,30:;"),
        id="hygon: MiB and percent",
    ),
    pytest.param(
        HYGON,
        {"hygon.com/dcunum": 1, "hygon.com/dcumem": 8000},
        [("DCU-0", "hygon", 8000, 100)],
        both("dcu", "DCU-0,DCU,8000,100:;"),
        id="hygon: no cores are all cores",
    ),
    pytest.param(
        HYGON,
        {"hygon.com/dcunum": 1},
        [("DCU-0", "hygon", 32768, 100)],
        both("dcu", "DCU-0,DCU,32768,100:;"),
        id="hygon: a whole card",
    ),
    pytest.param(
        HCU,
        {"hygon.com/hcunum": 1, "hygon.com/hcumem": 8000, "hygon.com/hcucores": 30},
        [("HCU-T6T8", "hygonhcu", 8000, 30)],
        both("hcu", "HCU-T6T8,HCU,8000,30:;"),
        id="hygon: the newer words, and a plugin that calls its mode hami",
    ),
    pytest.param(
        ILUVATAR,
        {"iluvatar.ai/BI-V150-vgpu": 1, "iluvatar.ai/BI-V150.vMem": 16},
        [("BI-0", "biv150", 4096, 0)],
        both("BI-V150", "BI-0,BI-V150,4096,0:;"),
        id="iluvatar: units of 256 MiB, no cores are best effort",
    ),
    pytest.param(
        ILUVATAR,
        {"iluvatar.ai/BI-V150-vgpu": 2, "iluvatar.ai/BI-V150.vMem": 16, "iluvatar.ai/BI-V150.vCore": 10},
        [("BI-0", "biv150", 4096, 100), ("BI-1", "biv150", 4096, 100)],
        both("BI-V150", "BI-0,BI-V150,4096,100:BI-1,BI-V150,4096,100:;"),
        id="iluvatar: several cards are taken with all cores",
    ),
    pytest.param(
        CAMBRICON,
        {"cambricon.com/vmlu": 1, "cambricon.com/mlu.smlu.vmemory": 20, "cambricon.com/mlu.smlu.vcore": 10},
        [("n-cambricon-mlu-0", "cambricon", 5120, 10)],
        both("cambricon-mlu", "n-cambricon-mlu-0,MLU,5120,10:;") | ASSIGNED | {"CAMBRICON_DSMLU_PROFILE": "0_10_20"},
        id="cambricon: units of 256 MiB and a profile",
    ),
    pytest.param(
        CAMBRICON,
        {"cambricon.com/vmlu": 1},
        [("n-cambricon-mlu-0", "cambricon", 24576, 100)],
        both("cambricon-mlu", "n-cambricon-mlu-0,MLU,24576,100:;") | ASSIGNED | {"CAMBRICON_DSMLU_PROFILE": "0_100_96"},
        id="cambricon: a whole card",
    ),
    pytest.param(
        AMD,
        {"amd.com/gpu": 1, "amd.com/gpumem": 65536, "amd.com/gpucores": 25},
        [("GPU-a", "amd", 65536, 25)],
        both("amd", "GPU-a,AMD Instinct MI300X,65536,76:;"),
        id="amd: percent are booked in compute units, under the product's name",
    ),
    pytest.param(
        AMD,
        {"amd.com/gpu": 1},
        [("GPU-a", "amd", 196608, 100)],
        both("amd", "GPU-a,AMD Instinct MI300X,196608,304:;"),
        id="amd: a whole card",
    ),
    pytest.param(
        METAX,
        {"metax-tech.com/gpu": 2},
        [("n-metax-0", "metax", 65536, 100), ("n-metax-1", "metax", 65536, 100)],
        both("metax-gpu", "n-metax-0,Metax-GPU,65536,100:n-metax-1,Metax-GPU,65536,100:;"),
        id="metax: whole cards",
    ),
    pytest.param(
        ENFLAME,
        {"enflame.com/gcu": 1},
        [("n-GCU-0", "enflame", 49152, 100)],
        both("enflame-gcu", "n-GCU-0,GCU,100,100:;"),
        id="enflame: whole cards, 100 of both in the record",
    ),
    pytest.param(
        KUNLUN,
        {"kunlunxin.com/xpu": 2},
        [("n-kunlun-0", "kunlun", 98304, 100), ("n-kunlun-1", "kunlun", 98304, 100)],
        {
            "hami.io/kunlun-allocated": "n-kunlun-0,kunlun,98304,100:n-kunlun-1,kunlun,98304,100:;",
            "BAIDU_COM_DEVICE_IDX": "0,1",
        },
        id="kunlun: whole cards, by index",
    ),
    pytest.param(
        VASTAI,
        {"vastaitech.com/va": 1},
        [("VA-0", "vastai", 65536, 100)],
        both("Vastai", "VA-0,Vastai,0,0:;"),
        id="vastai: a card, without amounts in the record",
    ),
    pytest.param(
        BIREN,
        {"birentech.com/gpu": 1},
        [("BR-0", "biren", 32768, 100)],
        both("Biren", "BR-0,Biren,0,0:;"),
        id="biren: a card, without amounts in the record",
    ),
]


@pytest.mark.parametrize(("node", "limits", "slices", "notes"), TABLE)
def test_a_pod_gets_its_slice_and_the_plugin_its_record(
    node: dict[str, Any], limits: dict[str, int], slices: list[Any], notes: dict[str, str]
):
    got = Shop(node).take(asking(**limits))

    assert (got.refused, got.misfit) == ("", "")
    assert (got.slices, got.notes) == (slices, notes)


@pytest.mark.parametrize(
    ("limits", "slices", "record", "stored"),
    [
        pytest.param(
            {"mthreads.com/vgpu": 1, "mthreads.com/sgpu-memory": 8, "mthreads.com/sgpu-core": 4},
            [("n-mthreads-0", "mthreads", 4096, 25)],
            "n-mthreads-0,Mthreads,4096,4:;",
            {},
            id="units of 512 MiB, cores of sixteen",
        ),
        pytest.param(
            {"mthreads.com/vgpu": 1, "mthreads.com/sgpu-memory": 8},
            [("n-mthreads-0", "mthreads", 4096, 0)],
            "n-mthreads-0,Mthreads,4096,0:;",
            {},
            id="memory without cores is best effort",
        ),
        pytest.param(
            {"mthreads.com/vgpu": 1},
            [("n-mthreads-0", "mthreads", 49152, 100)],
            "n-mthreads-0,Mthreads,49152,16:;",
            {"mthreads.com/sgpu-memory": "96", "mthreads.com/sgpu-core": "16"},
            id="no memory is a whole card",
        ),
        pytest.param(
            {"mthreads.com/vgpu": 2, "mthreads.com/sgpu-memory": 8},
            [("n-mthreads-0", "mthreads", 49152, 100), ("n-mthreads-1", "mthreads", 49152, 100)],
            "n-mthreads-0,Mthreads,49152,16:n-mthreads-1,Mthreads,49152,16:;",
            {"mthreads.com/sgpu-memory": "192", "mthreads.com/sgpu-core": "32"},
            id="several cards are whole, and the limits are those of all",
        ),
    ],
)
def test_moore_threads(limits: dict[str, int], slices: list[Any], record: str, stored: dict[str, str]):
    got = Shop(MTHREADS).take(asking(**limits))

    assert got.slices == slices
    assert got.notes["hami.io/mthreads-vgpu-devices-allocated"] == record
    assert got.notes["mthreads.com/gpu-index"] == ",".join(card[-1] for card, *_ in slices)
    assert got.notes["mthreads.com/predicate-node"] == "n"
    assert got.limits == {key: str(value) for key, value in limits.items()} | stored


@pytest.mark.parametrize(
    ("node", "limits", "said"),
    [
        (MTHREADS, {"mthreads.com/vgpu": 1, "mthreads.com/sgpu-memory": 3}, "write one of 2, 4, 8, 16, 32, 64, 96"),
        (AMD, {"amd.com/gpu": 1, "amd.com/gpucores": 0}, "cores are percent: 0 is not from 1 to 100"),
        (AMD, {"amd.com/gpu": 1, "amd.com/gpucores": 101}, "cores are percent: 101 is not from 1 to 100"),
        (CAMBRICON, {"cambricon.com/vmlu": 1, "cambricon.com/mlu.smlu.vmemory": "8Mi"}, "the unit is 256 MiB"),
        (CAMBRICON, {"cambricon.com/vmlu": 2, "cambricon.com/mlu.smlu.vcore": 10}, "the pod has one profile"),
        (HYGON, {"hygon.com/dcunum": 1, "hygon.com/dcumem": "0.5"}, "write a whole number"),
        (HYGON, {"hygon.com/dcunum": 0, "hygon.com/dcumem": 5}, "ask for at least one card"),
        (HCU, {"hygon.com/hcunum": 0, "hygon.com/hcumem": 5}, "ask for at least one card"),
        (ILUVATAR, {"iluvatar.ai/BI-V150-vgpu": 1, "iluvatar.ai/BI-V150.vMem": "1.5"}, "the unit is 256 MiB"),
        (METAX, {"metax-tech.com/gpu": "0.5"}, "write a whole number"),
        (KUNLUN, {"kunlunxin.com/xpu": "0.5"}, "write a whole number"),
        (ENFLAME, {"enflame.com/gcu": "0.5"}, "write a whole number"),
        (VASTAI, {"vastaitech.com/va": "0.5"}, "write a whole number"),
        (BIREN, {"birentech.com/gpu": "0.5"}, "write a whole number"),
    ],
)
def test_what_a_vendor_cannot_do_is_refused(node: dict[str, Any], limits: dict[str, Any], said: str):
    assert said in Shop(node).take(asking(**limits)).refused


def test_cores_beyond_a_card_are_cut_and_the_user_is_warned():
    got = Shop(HYGON).take(asking(**{"hygon.com/dcunum": 1, "hygon.com/dcucores": 150}))

    assert got.slices == [("DCU-0", "hygon", 32768, 100)]
    assert "a card has 100, so 100 was written for 150" in got.warnings[0]


def test_the_api_servers_notation_of_a_number_is_read():
    got = Shop(HYGON).take(asking(**{"hygon.com/dcunum": 1, "hygon.com/dcumem": "3k", "hygon.com/dcucores": 1}))

    assert got.slices == [("DCU-0", "hygon", 3000, 1)]


def test_iluvatars_runtime_is_given_the_containers_name():
    got = Shop(ILUVATAR).take(asking(**{"iluvatar.ai/BI-V150-vgpu": 1}))

    assert got.stored["spec"]["containers"][0]["env"] == [{"name": "SOL_CONTINER_NAME", "value": "main"}]


def test_the_second_half_of_kunlun_cards_is_on_the_second_numa_node():
    node = Shop(KUNLUN).store.desk.node("n")

    assert node is not None
    assert [card.numa for card in node.cards] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("node", "limits", "notes", "misfit"),
    [
        (
            HYGON,
            {"hygon.com/dcunum": 1},
            {"hygon.com/use-dcutype": "Z100"},
            "no card is of the vendor, type, id or mode",
        ),
        (HYGON, {"hygon.com/dcunum": 1}, {"hygon.com/nouse-gpuuuid": "DCU-0"}, "no card is of the vendor"),
        (HCU, {"hygon.com/hcunum": 1}, {"hygon.com/nouse-hcutype": "K100"}, "no card is of the vendor"),
        (METAX, {"metax-tech.com/gpu": 3}, {}, "the largest node, n, has 2 such cards"),
        (VASTAI, {"vastaitech.com/va": 1}, {"vastaitech.com/use-gpuuuid": "VA-9"}, "no card is of the vendor"),
    ],
)
def test_selection_is_by_the_vendors_own_words(
    node: dict[str, Any], limits: dict[str, int], notes: dict[str, str], misfit: str
):
    assert misfit in Shop(node).take(asking(annotations=notes, **limits)).misfit


def test_no_node_lock_for_vendors_whose_plugin_needs_none():
    shop = Shop(METAX)

    shop.take(asking(**{"metax-tech.com/gpu": 1}))

    assert [kind for kind, _ in shop.kube.writes] == ["POST"]


def test_cambricons_lock_is_its_own_and_has_a_time_alone():
    shop = Shop(CAMBRICON)
    whole = {"cambricon.com/vmlu": 1, "cambricon.com/mlu.smlu.vmemory": 1, "cambricon.com/mlu.smlu.vcore": 1}
    shop.take(asking("first", **whole))

    lock = shop.kube.get("/api/v1/nodes/n")["metadata"]["annotations"]["cambricon.com/dsmlu.lock"]
    assert lock.endswith("Z")
    assert "," not in lock
    assert "is locked for another pod" in shop.take(asking("second", **whole)).misfit
