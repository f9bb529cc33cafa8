"""Huawei Ascend: what is asked, what is granted, what its plugin reads, and what is refused."""

import json
from typing import Any

import pytest

from tests.vendors.shop import Shop, a_vendor_node, asking, registered

HUAWEI, LOCK = "huawei.com", "hami.io/mutex.lock"
SOFT = {"huawei.com/vnpu-mode": "hami-core"}


def node(word: str, mib: int, cards: int = 1, soft: bool = False, **more: Any) -> dict[str, Any]:
    devices = (registered(*({"id": f"{word}-{i}", "devmem": mib, "devcore": 20, "type": word} for i in range(cards))),)
    notes = {f"hami.io/node-register-{word}": devices[0], "hami-vnpu-core": "true" if soft else "false"}
    return a_vendor_node(annotations=notes, **{f"{HUAWEI}/{word}": "10"})


def limits(word: str, count: int = 1, memory: int | None = None, core: int | None = None) -> dict[str, int]:
    found = {f"{HUAWEI}/{word}": count, f"{HUAWEI}/{word}-memory": memory, f"{HUAWEI}/{word}-core": core}
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("word", "mib", "asked", "granted", "template"),
    [
        ("Ascend910A", 32768, 2184, (2184, 6), "vir02"),
        ("Ascend910A", 32768, 2185, (4369, 13), "vir04"),
        ("Ascend910A", 32768, 17477, (32768, 100), None),
        ("Ascend910B2", 65536, 8192, (8192, 12), "vir03_1c_8g"),
        ("Ascend910B2", 65536, 16385, (32768, 50), "vir12_3c_32g"),
        ("Ascend910B3", 65536, 0, (16384, 25), "vir05_1c_16g"),
        ("Ascend910B3", 65536, 1, (16384, 25), "vir05_1c_16g"),
        ("Ascend910B3", 65536, 20000, (32768, 50), "vir10_3c_32g"),
        ("Ascend910B3", 65536, 32769, (65536, 100), None),
        ("Ascend910B3", 65536, None, (65536, 100), None),
        ("Ascend910B4", 32768, 9000, (16384, 50), "vir10_3c_16g"),
        ("Ascend910B4-1", 65536, 16384, (16384, 25), "vir05_1c_16g"),
        ("Ascend310P", 24576, 3072, (3072, 12), "vir01"),
        ("Ascend310P", 24576, 12289, (21527, 100), None),
        ("Ascend310P", 24576, 24576, (21527, 100), None),
    ],
)
def test_an_ask_becomes_the_smallest_template_that_holds_it(
    word: str, mib: int, asked: int | None, granted: tuple[int, int], template: str | None
):
    shop = Shop(node(word, mib))

    got = shop.take(asking(**limits(word, memory=asked)))

    runtime = {"UUID": f"{word}-0"} | ({"temp": template} if template else {})
    place = f"{word}-0,{word},{granted[0]},0:;"
    assert [(memory, cores) for _, _, memory, cores in got.slices] == [granted]
    assert {key: text for key, text in got.notes.items() if key != "predicate-time"} == {
        f"hami.io/{word}-devices-to-allocate": place,
        f"hami.io/{word}-devices-allocated": place,
        f"huawei.com/{word}": json.dumps([runtime], separators=(",", ":")),
    }


def test_the_pods_message_says_what_the_ask_became():
    got = Shop(node("Ascend910B3", 65536)).take(asking(**limits("Ascend910B3", memory=20000)))

    field = "spec.containers[main].resources.limits[huawei.com/Ascend910B3-memory]"
    became = (
        "20,000 MiB asked: the pod gets the template vir10_3c_32g, 32,768 MiB, the smallest that holds what is asked"
    )
    assert got.warnings == (f"{field}: {became}",)
    assert got.limits == {"huawei.com/Ascend910B3": "1", "huawei.com/Ascend910B3-memory": "32768"}


@pytest.mark.parametrize(
    ("word", "asks", "field", "became"),
    [
        ("Ascend910B3", {"memory": 40000}, "-memory", "40,000 MiB asked: the pod gets the whole card, 65,536 MiB"),
        ("Ascend910C", {"count": 1}, "", "1 asked, 2 written: Ascend910C come in pairs"),
    ],
)
def test_an_ask_that_becomes_whole_cards_says_so(word: str, asks: dict[str, int], field: str, became: str):
    (warning,) = Shop(node(word, 65536)).take(asking(**limits(word, **asks))).warnings

    assert warning.startswith(f"spec.containers[main].resources.limits[huawei.com/{word}{field}]: {became}")


@pytest.mark.parametrize("memory", [None, 16384, 32768])
def test_an_ask_that_gets_what_it_says_has_no_message(memory: int | None):
    assert Shop(node("Ascend910B3", 65536)).take(asking(**limits("Ascend910B3", memory=memory))).warnings == ()


def test_a_percentage_where_there_are_none_is_refused():
    percentage = "huawei.com/Ascend910B3-memory-percentage"

    got = Shop(node("Ascend910B3", 65536)).take(asking(**limits("Ascend910B3"), **{percentage: 50}))

    fix = "no percentage can be asked of these cards: write huawei.com/Ascend910B3-memory"
    assert got.refused == f"spec.containers[main].resources.limits[{percentage}]: '50': {fix}"


def test_a_refusal_because_of_cores_names_the_cores():
    got = Shop(node("Ascend910B3", 65536)).take(asking(**limits("Ascend910B3", core=50)))

    assert got.refused.startswith(
        "spec.containers[main].resources.limits[huawei.com/Ascend910B3-core]: '50': cores can"
    )


@pytest.mark.parametrize(
    ("word", "asks", "notes", "said"),
    [
        ("Ascend910B3", {"memory": 65537}, {}, "a card has 65,536 MiB: write at most that"),
        ("Ascend910B3", {"count": 2, "memory": 16384}, {}, "several cards cannot be cut by a template"),
        ("Ascend910B3", {"memory": 100, "core": 5}, {}, "cores can be asked of soft slices alone"),
        ("Ascend910B3", {}, {"huawei.com/vnpu-mode": "soft"}, "write hami-core for soft slices"),
        ("Ascend910C", {"count": 3}, {}, "write 1 or an even number: Ascend910C come in pairs, 3 were asked"),
        ("Ascend910C", {"count": 2, "memory": 16384}, {}, "Ascend910C modules are not cut: drop the memory"),
        ("Ascend910C", {"memory": 16384}, {}, "Ascend910C modules are not cut: drop the memory"),
    ],
)
def test_what_no_card_can_do_is_refused(word: str, asks: dict[str, int], notes: dict[str, str], said: str):
    assert said in Shop(node(word, 65536)).take(asking(annotations=notes, **limits(word, **asks))).refused


def test_several_whole_cards_may_name_their_memory():
    got = Shop(node("Ascend910B3", 65536, cards=2)).take(asking(**limits("Ascend910B3", 2, memory=40000)))

    assert [(card, memory) for card, _, memory, _ in got.slices] == [("Ascend910B3-0", 65536), ("Ascend910B3-1", 65536)]


def test_soft_slices_are_taken_as_asked_where_the_nodes_plugin_makes_them():
    got = Shop(node("Ascend910B3", 65536, soft=True)).take(
        asking(annotations=SOFT, **limits("Ascend910B3", memory=5000, core=30))
    )

    assert got.slices == [("Ascend910B3-0", "ascend910b3", 5000, 30)]
    assert got.notes["huawei.com/Ascend910B3"] == '[{"UUID":"Ascend910B3-0","memory":5000,"core":30}]'
    assert got.notes["hami.io/Ascend910B3-devices-allocated"] == "Ascend910B3-0,Ascend910B3,5000,30:;"


@pytest.mark.parametrize(("soft_node", "notes"), [(True, {}), (False, SOFT)])
def test_templates_and_soft_slices_never_meet(soft_node: bool, notes: dict[str, str]):
    got = Shop(node("Ascend910B3", 65536, soft=soft_node)).take(
        asking(annotations=notes, **limits("Ascend910B3", memory=5000))
    )

    assert "gives no slice to pods of" in got.misfit


def test_the_processors_of_a_910c_are_granted_in_pairs():
    shop = Shop(node("Ascend910C", 65536, cards=4))

    got = shop.take(asking(**limits("Ascend910C", 1)))

    assert got.limits["huawei.com/Ascend910C"] == "2"
    assert got.slices == [("Ascend910C-0", "ascend910c", 131072, 100)]
    assert got.notes["hami.io/Ascend910C-devices-to-allocate"] == (
        "Ascend910C-0,Ascend910C,65536,0:Ascend910C-1,Ascend910C,65536,0:;"
    )
    assert got.notes["huawei.com/Ascend910C"] == '[{"UUID":"Ascend910C-0"},{"UUID":"Ascend910C-1"}]'


def test_the_node_is_locked_for_one_pod_until_the_plugin_has_served_it():
    shop = Shop(node("Ascend910B3", 65536))
    shop.take(asking("first", **limits("Ascend910B3", memory=1)))
    assert shop.kube.get("/api/v1/nodes/n")["metadata"]["annotations"][LOCK].endswith(",default,first")

    second = shop.take(asking("second", **limits("Ascend910B3", memory=1)))
    assert "node n is locked for default/first until its device plugin has served it" in second.misfit

    shop.unlock()
    assert shop.take(asking("third", **limits("Ascend910B3", memory=1))).slices


def test_a_card_whose_plugin_has_stopped_takes_nothing_new():
    stopped = node("Ascend910B3", 65536)
    stopped["status"]["allocatable"] = {"cpu": "64", "huawei.com/Ascend910B3": "0"}

    assert "unhealthy" in Shop(stopped).take(asking(**limits("Ascend910B3"))).misfit
