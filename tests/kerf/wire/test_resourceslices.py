"""A node's cards as devices of gpu.kerf.dev."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_mig_card, cards_of
from kerf.values.mig import Instance, place_at
from kerf.values.offer import DeviceTaint, OfferedCard
from kerf.wire.devices import card_of, partition_device, partition_of, slice_device, whole_device
from kerf.wire.resourceslices import numbered, render_pool, same_content, shares_kept, with_times

TAINT = DeviceTaint("gpu.kerf.dev/fault", "cordoned", "NoExecute")


@given(st.text(min_size=1, max_size=40))
def test_a_card_is_found_again_by_the_name_of_its_device(text):
    for card in (text, f"GPU-{text}"):
        for name, whole in ((slice_device(card), False), (whole_device(card), True)):
            assert not name or card_of(name) == (card, whole)
            assert len(name) <= 63
            assert name == name.lower()
            assert not name.endswith("-")


@given(st.text(min_size=1, max_size=40), st.integers(0, 999), st.integers(0, 7))
def test_an_instance_is_found_again_by_the_name_of_its_device(text, profile, start):
    for card in (text, f"GPU-{text}"):
        name = partition_device(card, profile, start)
        assert not name or partition_of(name) == (card, profile, start)
        assert len(name) <= 63
        assert partition_of(slice_device(card)) is partition_of(whole_device(card)) is None
        assert not name or card_of(name) is None


def partitions(*offers):
    """Name and memory slices of each device of a pool of cards in MIG mode."""
    devices = [d for s in render_pool("n", "u", offers, shares=True) for d in s["spec"].get("devices", ())]
    return [(d["attributes"]["profile"]["string"], [int(c[-1]) for c in _counters(d)]) for d in devices]


def _counters(device):
    (consumed,) = device["consumesCounters"]
    return consumed["counters"]


def test_a_card_in_mig_mode_is_a_device_for_each_place_and_a_counter_for_each_memory_slice():
    counters, devices = render_pool("n", "u", [OfferedCard(a_mig_card(), 1)], shares=True)

    assert counters["spec"]["sharedCounters"] == [
        {"name": "gpu-0", "counters": {f"memory-slice-{i}": {"value": "1"} for i in range(8)}}
    ]
    first = devices["spec"]["devices"][0]
    assert partition_of(first["name"])[0] == "GPU-0"
    assert first["capacity"] == {"memory": {"value": "9984Mi"}, "cores": {"value": "12"}}
    assert {key: first["attributes"][key] for key in ("kind", "mig", "profile")} == {
        "kind": {"string": "mig"},
        "mig": {"bool": True},
        "profile": {"string": "1g.10gb"},
    }
    assert "allowMultipleAllocations" not in first
    found = partitions(OfferedCard(a_mig_card(), 1))
    assert [name for name, _ in found] == ["1g.10gb"] * 7 + ["1g.20gb"] * 4 + ["2g.20gb"] * 3 + ["3g.40gb"] * 2 + [
        "4g.40gb",
        "7g.80gb",
    ]
    assert found[-1] == ("7g.80gb", list(range(8)))


def test_what_others_made_is_not_offered_and_what_is_held_comes_last():
    foreign = partitions(OfferedCard(a_mig_card(0, Instance(6, 1, 19, 1)), 1))
    assert not [covers for _, covers in foreign if 6 in covers]

    held = partitions(OfferedCard(a_mig_card(), 1, places=place_at(6, 1).adds))
    smallest = [covers for name, covers in held if name == "1g.10gb"]
    assert (len(smallest), smallest[-1]) == (7, [6])
    assert smallest[0] in ([4], [5])  # beside it, so that the other half stays whole


def test_a_cluster_without_counters_gets_no_instance():
    (only,) = render_pool("n", "u", [OfferedCard(a_mig_card(), 1)], shares=False)

    assert only["spec"]["devices"] == []


def test_many_cards_in_mig_mode_stay_within_what_a_slice_may_have():
    slices = render_pool("n", "u", [OfferedCard(a_mig_card(i), 1) for i in range(10)], shares=True)

    assert [len(s["spec"].get("sharedCounters", ())) for s in slices] == [8, 2, 0, 0, 0]
    assert [len(s["spec"].get("devices", ())) for s in slices] == [0, 0, 64, 64, 52]


def test_uuids_of_cards_can_be_read_in_the_names_of_their_devices():
    uuid = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"

    assert slice_device(uuid) == "gpu-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
    assert card_of("nvme-0") is None


def test_a_card_is_a_shared_device_and_a_whole_one_that_exclude_each_other():
    counters, devices = render_pool("n", "u", [OfferedCard(a_card(), 8155)], shares=True)
    consumes = [{"counterSet": "cards-0", "counters": {"gpu-0": {"value": "1"}}}]

    assert counters["spec"]["sharedCounters"] == [{"name": "cards-0", "counters": {"gpu-0": {"value": "1"}}}]
    shared, whole = devices["spec"]["devices"]
    assert (shared["name"], whole["name"]) == ("gpu-0", "card-0")
    assert shared["consumesCounters"] == whole["consumesCounters"] == consumes
    assert shared["capacity"] == {
        "memory": {
            "value": "81559Mi",
            "requestPolicy": {
                "default": "8155Mi",
                "validRange": {"min": "1Mi", "step": "1Mi", "max": "81559Mi"},
            },
        },
        "cores": {
            "value": "100",
            "requestPolicy": {"default": "0", "validRange": {"min": "0", "step": "1", "max": "99"}},
        },
        "slots": {"value": "10", "requestPolicy": {"default": "1", "validValues": ["1"]}},
    }
    assert "allowMultipleAllocations" not in whole
    assert "requestPolicy" not in whole["capacity"]["memory"]


def test_an_overcommitted_card_shares_more_than_it_has_but_no_share_is_larger_than_the_card():
    shared = render_pool("n", "u", [OfferedCard(a_card().overcommitted(2, 3), 8)], shares=True)[1]["spec"]["devices"][0]

    assert shared["capacity"]["memory"]["value"] == "163118Mi"
    assert shared["capacity"]["memory"]["requestPolicy"]["validRange"]["max"] == "81559Mi"
    assert shared["capacity"]["cores"]["requestPolicy"]["validRange"]["max"] == "100"


def test_a_cluster_without_shares_gets_the_healthy_cards_whole():
    cards = [OfferedCard(a_card(0), 8), OfferedCard(a_card(1), 8, taints=(TAINT,))]

    (only,) = render_pool("n", "u", cards, shares=False)

    assert [device["name"] for device in only["spec"]["devices"]] == ["card-0"]
    assert not {"consumesCounters", "allowMultipleAllocations", "taints"} & set(only["spec"]["devices"][0])


def test_forty_cards_are_two_slices_of_at_most_64_devices_and_the_counters_another():
    slices = numbered(render_pool("n", "u", [OfferedCard(c, 8) for c in cards_of("n", 40)], shares=True), 7)

    assert [len(s["spec"].get("devices", ())) for s in slices] == [0, 64, 16]
    assert [len(each["counters"]) for each in slices[0]["spec"]["sharedCounters"]] == [32, 8]
    assert {(s["spec"]["pool"]["generation"], s["spec"]["pool"]["resourceSliceCount"]) for s in slices} == {(7, 3)}
    assert sorted(names := [s["metadata"]["name"] for s in slices]) == names


def test_quantities_as_the_api_server_writes_them_are_no_change_and_another_order_is():
    cards = [OfferedCard(replace(a_card(i), memory_mib=81_920), 8192) for i in range(2)]
    wanted, turned = (render_pool("n", "u", each, shares=True)[1] for each in (cards, cards[::-1]))
    stored = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": "7"}, "spec": {**wanted["spec"]}}
    first = {**stored["spec"]["devices"][0]}
    memory = {**first["capacity"]["memory"], "value": "80Gi"}
    stored["spec"]["devices"] = [
        {**first, "capacity": {**first["capacity"], "memory": memory}},
        *stored["spec"]["devices"][1:],
    ]

    assert same_content(stored, wanted)
    assert not same_content(stored, turned)


def test_a_taint_keeps_the_time_at_which_it_was_added():
    (_, wanted) = render_pool("n", "u", [OfferedCard(a_card(), 8, taints=(TAINT,))], shares=True)
    at_first = with_times(wanted, wanted)
    stored = {
        **wanted,
        "spec": {
            **wanted["spec"],
            "devices": [
                {**device, "taints": [{**taint, "timeAdded": "2026-01-01T00:00:00Z"} for taint in device["taints"]]}
                for device in wanted["spec"]["devices"]
            ],
        },
    }

    assert "timeAdded" not in at_first["spec"]["devices"][0]["taints"][0]
    assert [d["taints"][0]["timeAdded"] for d in with_times(wanted, stored)["spec"]["devices"]] == [
        "2026-01-01T00:00:00Z"
    ] * 2


def test_dropped_fields_are_noticed():
    wanted = render_pool("n", "u", [OfferedCard(a_card(), 8)], shares=True)[1]
    dropped = {"spec": {"devices": [{"name": device["name"]} for device in wanted["spec"]["devices"]]}}

    assert (shares_kept(wanted), shares_kept(dropped)) == (True, False)


def test_the_version_of_the_driver_is_an_attribute_where_it_is_known():
    cards = [OfferedCard(a_card(), 1), OfferedCard(a_card(1, driver="570.86.15"), 1)]
    devices = render_pool("n", "u", cards, shares=True)[1]["spec"]["devices"]

    assert [device["attributes"].get("driver") for device in devices] == [None, {"string": "570.86.15"}] * 2


def test_a_node_of_any_name_and_a_model_in_any_script_make_slices_that_kubernetes_takes():
    node = ".".join(["n" * 62] * 4)  # 251 characters; a name has 253, the longest text of an attribute 64 bytes
    slices = render_pool(node, "uid", [OfferedCard(replace(a_card(), model="昇腾" * 20), 1, 0)], shares=True)

    names = [item["metadata"]["name"] for item in slices]
    models = {device["attributes"]["model"]["string"] for item in slices for device in item["spec"].get("devices", [])}
    assert (names, len(set(names)), max(map(len, names))) == (sorted(names), len(slices), 253)
    assert models == {("昇腾" * 20)[:21]}
