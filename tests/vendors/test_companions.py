"""Vendors whose cards care what lies beside a slice: sharing policies, shares of one size, profiles, core numbers."""

import json
from typing import Any

import pytest

from kerf.testing.builders import a_pod
from tests.vendors.shop import Outcome, Shop, a_vendor_node, asking, registered

SGPU = "metax-tech.com/sgpu"
POLICY, CLASS = "metax-tech.com/sgpu-qos-policy", "metax-tech.com/sgpu-app-class"


def metax(cards: int = 1) -> dict[str, Any]:
    devices = [
        {
            "uuid": f"MX-{i}",
            "model": "MXC500",
            "totalDevCount": 16,
            "totalCompute": 100,
            "totalVRam": 65536,
            "healthy": True,
        }
        for i in range(cards)
    ]
    return a_vendor_node(annotations={"metax-tech.com/node-gpu-devices": json.dumps(devices)}, **{SGPU: "16"})


def sgpu(name: str = "pod-1", memory: Any = 16, core: int = 20, **notes: str) -> dict[str, Any]:
    words = {"policy": POLICY, "app": CLASS}
    limits = {SGPU: 1, "metax-tech.com/vmemory": memory, "metax-tech.com/vcore": core}
    return asking(name, {words[key]: text for key, text in notes.items()}, **limits)


class Unlocked(Shop):
    """Where the plugin serves every pod at once."""

    def take(self, pod: dict[str, Any]) -> Outcome:
        got = super().take(pod)
        self.unlock()
        return got


@pytest.mark.parametrize(
    ("memory", "mib"), [(16, 16384), ("512Mi", 512), ("8Gi", 8192), ("8589934592", 8192), (0, 65536)]
)
def test_metax_reads_a_bare_number_as_gib_and_a_suffix_as_bytes(memory: Any, mib: int):
    got = Shop(metax()).take(sgpu(memory=memory))

    record = f"MX-0,Metax-SGPU,{mib},20:;"
    assert got.slices == [("MX-0", "metaxsgpu", mib, 20)]
    assert {key: text for key, text in got.notes.items() if key != "metax-tech.com/predicate-time"} == {
        "hami.io/metax-sgpu-devices-to-allocate": record,
        "hami.io/metax-sgpu-devices-allocated": record,
        "metax-tech.com/gpu-devices-allocated": f'[[{{"uuid":"MX-0","compute":20,"vRam":{mib}}}]]',
    }
    assert got.stored["metadata"]["annotations"][POLICY] == "best-effort"


def test_what_the_api_server_makes_of_a_thousand_is_no_whole_card():
    """HAMi reads `1k` as no memory, which is a whole card."""
    assert "1,024,000 MiB" in Shop(metax()).take(sgpu(memory="1k")).misfit


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ({}, {}, True),
        ({"policy": "fixed-share"}, {"policy": "fixed-share"}, True),
        ({"policy": "fixed-share"}, {"policy": "burst-share"}, False),
        ({}, {"policy": "burst-share"}, False),
        ({"app": "offline"}, {"app": "online"}, True),
        ({"app": "online"}, {"app": "offline"}, False),
        ({"app": "online"}, {"app": "online"}, True),
        ({"app": "online"}, {}, False),
        ({}, {"app": "online"}, False),
        ({"app": "offline", "policy": "fixed-share"}, {"app": "offline"}, False),
    ],
)
def test_a_used_metax_card_keeps_its_sharing_policy(first: dict[str, str], second: dict[str, str], together: bool):
    shop = Unlocked(metax())
    assert shop.take(sgpu("first", **first)).slices

    got = shop.take(sgpu("second", **second))

    assert bool(got.slices) is together
    assert together or "no free place on a card for such a slice" in got.misfit


def test_another_policy_goes_to_an_empty_metax_card():
    shop = Unlocked(metax(cards=2))
    shop.take(sgpu("first", policy="fixed-share"))

    assert shop.take(sgpu("second", policy="burst-share")).slices[0][0] == "MX-1"


def test_an_online_pod_counts_no_cores():
    assert Shop(metax()).take(sgpu(app="online", core=50)).slices == [("MX-0", "metaxsgpu", 16384, 0)]


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ({"policy": "greedy"}, "use one of best-effort, fixed-share, burst-share"),
        ({"app": "later"}, "use online or offline"),
    ],
)
def test_metax_words_that_do_not_exist_are_refused(notes: dict[str, str], said: str):
    assert said in Shop(metax()).take(sgpu(**notes)).refused


def test_a_metax_pod_of_a_class_has_one_card():
    pod = asking(annotations={CLASS: "online"}, **{SGPU: 2})

    assert "asks for one card a container" in Shop(metax(2)).take(pod).refused


# ---- Kunlunxin
def kunlun(cards: int = 1) -> dict[str, Any]:
    devices = registered(*({"id": f"XPU-{i}", "devmem": 98304, "count": 4, "type": "XPU"} for i in range(cards)))
    return a_vendor_node(annotations={"hami.io/node-register-xpu": devices}, **{"kunlunxin.com/vxpu": "4"})


def vxpu(name: str = "pod-1", memory: int | None = 20000) -> dict[str, Any]:
    limits = {"kunlunxin.com/vxpu": 1} | ({"kunlunxin.com/vxpu-memory": memory} if memory is not None else {})
    return asking(name, **limits)


@pytest.mark.parametrize(
    ("asked", "mib", "cores"),
    [(0, 24576, 25), (1, 24576, 25), (24577, 49152, 50), (49153, 98304, 100), (None, 98304, 100)],
)
def test_kunlun_shares_are_quarters_halves_and_whole_cards(asked: int | None, mib: int, cores: int):
    got = Shop(kunlun()).take(vxpu(memory=asked))

    record = f"XPU-0,XPU,{mib},{cores}:;"
    assert got.slices == [("XPU-0", "kunlunvxpu", mib, cores)]
    assert got.notes == {"hami.io/xpu-devices-to-allocate": record, "hami.io/xpu-devices-allocated": record}
    assert f"{mib:,} MiB" in got.warnings[0]


def test_a_used_kunlun_card_takes_shares_of_its_size_alone():
    shop = Unlocked(kunlun())
    shop.take(vxpu("quarter", 1))

    said = "card 0 has slices of 24,576 MiB, and takes none of 49,152 MiB beside"
    assert f"no free place on a card for such a slice: {said}" in shop.take(vxpu("half", 30000)).misfit
    assert [shop.take(vxpu(f"more-{i}", 1)).slices[0][0] for i in range(3)] == ["XPU-0"] * 3


def test_more_than_a_kunlun_card_is_refused_and_not_cut():
    assert "a card has 98,304 MiB: write at most that" in Shop(kunlun()).take(vxpu(memory=98305)).refused


# ---- Enflame DRS
DRS = {
    "devices": [{"index": "0", "minor": "3", "capacity": 6}],
    "profiles": {"1g.6gb": "0", "3g.20gb": "1", "6g.40gb": "2"},
}


def enflame() -> dict[str, Any]:
    return a_vendor_node(annotations={"enflame.com/gcu-drs-capacity": json.dumps(DRS)}, **{"enflame.com/drs-gcu": "6"})


@pytest.mark.parametrize(
    ("limits", "granted", "profile", "recorded"),
    [
        ({"enflame.com/drs-gcu": 1}, (6144, 16), ("1", "0", "1g.6gb"), 17),
        ({"enflame.com/drs-gcu": 3}, (20480, 50), ("3", "1", "3g.20gb"), 50),
        ({"enflame.com/gcu-memory": 6}, (6144, 16), ("1", "0", "1g.6gb"), 17),
        ({"enflame.com/gcu-memory": 10}, (20480, 50), ("3", "1", "3g.20gb"), 50),
        ({"enflame.com/gcu-memory": 10240}, (20480, 50), ("3", "1", "3g.20gb"), 50),
        ({"enflame.com/gcu-memory": 6, "enflame.com/gcu-core": 51}, (40960, 100), ("6", "2", "6g.40gb"), 100),
        ({"enflame.com/gcu-core": 20}, (20480, 50), ("3", "1", "3g.20gb"), 50),
    ],
)
def test_an_enflame_slice_has_the_first_profile_that_holds_the_ask(
    limits: dict[str, int], granted: tuple[int, int], profile: tuple[str, str, str], recorded: int
):
    got = Shop(enflame()).take(asking(**limits))

    size, number, name = profile
    assert [piece[2:] for piece in got.slices] == [granted]
    assert got.limits == {key: str(value) for key, value in limits.items()}
    assert {key: text for key, text in got.notes.items() if key != "enflame.com/gcu-assigned-time"} == {
        "hami.io/enflame-vgpu-devices-allocated": f"n-enflame-drs-0,Enflame,{granted[0]},{recorded}:;",
        "enflame.com/gcu-assigned": "false",
        "enflame.com/gcu-assigned-index": "0",
        "enflame.com/gcu-assigned-id": "0",
        "enflame.com/gcu-assigned-minor": "3",
        "enflame.com/gcu-request-size": size,
        "assigned-containers": json.dumps(
            {"main": {"allocated": False, "profileID": number, "profileName": name, "request": int(size)}},
            separators=(",", ":"),
        ),
    }


def test_six_profiles_of_a_sixth_fit_on_a_card_and_no_seventh():
    shop = Shop(enflame())

    assert all(shop.take(asking(f"p{i}", **{"enflame.com/drs-gcu": 1})).slices for i in range(6))
    assert shop.take(asking("p6", **{"enflame.com/drs-gcu": 1})).misfit


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"enflame.com/gcu-core": 0}, "cores are percent: 0 is not from 1 to 100"),
        ({"enflame.com/gcu-memory": "10Gi"}, "the unit is MiB, so 10240"),
        ({"enflame.com/gcu-memory": 0}, "write a memory above 0"),
    ],
)
def test_what_enflame_cannot_do_is_refused(limits: dict[str, Any], said: str):
    assert said in Shop(enflame()).take(asking(**limits)).refused


def test_parts_without_a_profile_fit_nowhere():
    said = Shop(enflame()).take(asking(**{"enflame.com/drs-gcu": 2})).misfit

    assert "its profiles are of 1, 3, 6 parts, and none of 2" in said


# ---- AWS Neuron
NEURON, CORE = "aws.amazon.com/neuron", "aws.amazon.com/neuroncore"


def inf2(devices: int = 2, cores: int = 2) -> dict[str, Any]:
    labels = {"node.kubernetes.io/instance-type": "inf2.24xlarge"}
    return a_vendor_node(labels=labels, **{NEURON: str(devices), CORE: str(devices * cores)})


def test_neuron_devices_go_by_index():
    got = Shop(inf2()).take(asking(**{NEURON: 2}))

    assert got.slices == [("n-AWSNeuron-0", "neuron", 32768, 100), ("n-AWSNeuron-1", "neuron", 32768, 100)]
    assert got.notes["AWS_NEURON_IDS"] == "0,1"
    assert (
        got.notes["hami.io/aws-neuron-devices-allocated"] == "n-AWSNeuron-0,AWSNeuron,0,3:n-AWSNeuron-1,AWSNeuron,0,3:;"
    )
    assert "NEURON_RESOURCE_TYPE" not in got.notes


def test_neuron_cores_go_by_their_number_on_the_node():
    shop = Shop(inf2())

    got = [shop.take(asking(f"p{i}", **{CORE: 1})) for i in range(5)]

    assert [one.notes.get("AWS_NEURON_IDS") for one in got] == ["0", "1", "2", "3", None]
    assert [one.notes["hami.io/aws-neuron-devices-allocated"][-4:] for one in got[:2]] == [",1:;", ",2:;"]
    assert got[0].notes["NEURON_RESOURCE_TYPE"] == CORE
    assert got[0].limits == {CORE: "1"}


def test_four_neuron_cores_are_two_devices():
    got = Shop(inf2()).take(asking(**{CORE: 4}))

    assert got.notes["AWS_NEURON_IDS"] == "0,1,2,3"


def test_a_core_that_is_taken_leaves_no_whole_device():
    shop = Shop(inf2(devices=1))
    shop.take(asking("first", **{CORE: 1}))

    assert shop.take(asking("second", **{NEURON: 1})).misfit


def test_three_neuron_cores_are_refused():
    assert "write 1 or an even number" in Shop(inf2()).take(asking(**{CORE: 3})).refused


def test_devices_of_more_cores_are_given_whole():
    shop = Shop(inf2(2, 4))

    got = shop.take(asking("device", **{NEURON: 1}))

    assert got.slices == [("n-AWSNeuron-0", "neuron", 32768, 100)]
    assert got.notes["hami.io/aws-neuron-devices-allocated"] == "n-AWSNeuron-0,AWSNeuron,0,15:;"
    assert got.notes["AWS_NEURON_IDS"] == "0"
    said = shop.take(asking("core", **{CORE: 1})).misfit
    assert f"its 4 cores are given together: ask for {NEURON}" in said
    assert [shop.take(asking(f"p{i}", **{NEURON: 1})).slices != [] for i in range(2)] == [True, False]


def test_devices_of_too_many_cores_are_not_given():
    assert "Kerf knows devices of at most 8 cores" in Shop(inf2(2, 16)).take(asking(**{NEURON: 1})).misfit


def test_several_neuron_devices_are_neighbours():
    shop = Shop(inf2(devices=3))
    shop.take(asking("middle", {"aws.amazon.com/use-neuron-uuid": "n-AWSNeuron-1"}, **{NEURON: 1}))

    assert "no linked cards are free" in shop.take(asking("pair", **{NEURON: 2})).misfit


# ---- Moore Threads
def test_all_containers_of_a_moore_threads_pod_are_on_one_card():
    node = a_vendor_node(
        **{"mthreads.com/sgpu-core": "32", "mthreads.com/sgpu-memory": "192", "mthreads.com/vgpu": "99"}
    )
    limits = {"mthreads.com/vgpu": "1", "mthreads.com/sgpu-memory": "64", "mthreads.com/sgpu-core": "8"}
    fitting = {**limits, "mthreads.com/sgpu-memory": "32"}
    one, other = ({"name": name, "resources": {"limits": fitting}} for name in ("a", "b"))

    got = Shop(node).take(a_pod(containers=[one, other]))
    assert {card for card, *_ in got.slices} == {"n-mthreads-0"}

    too_much = [{"name": name, "resources": {"limits": limits}} for name in ("a", "b")]
    assert "together they exceed best node n" in Shop(node).take(a_pod(containers=too_much)).misfit
