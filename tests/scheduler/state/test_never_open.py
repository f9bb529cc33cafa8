"""A promise never fails open: what cannot be read, matched or understood limits to nothing and says so."""

import json
from typing import Any

import pytest

from kerf.testing.builders import a_card, a_container, a_grant, a_node, a_pod, cards_of
from kerf.values.grant import Grant
from kerf.values.verdict import Misfit, Reason
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.objects import cards_without_grant, parse_holding
from kerf.wire.resources import parse_pod
from scheduler.state.answers import ByCards
from scheduler.state.store import Store
from tests.scheduler.quota.tenants import SLUG
from tests.scheduler.state.test_quotas import a_quota, a_store, a_tenant, assume

NO_CARDS = {"burst": {"memory": 0, "cores": 0, "cards": 0}}
L4 = cards_of("l", 1, model="NVIDIA L4", memory_mib=23_034)
L40S = cards_of("s", 2, model="NVIDIA L40S", memory_mib=46_068)
PCIE = cards_of("p", 1, model="NVIDIA H100 PCIe", memory_mib=81_559)


def nothing(why: str, tenant: str = "team") -> Misfit:
    return Misfit(Reason.QUOTA, 1, 0, f"quota: tenant {tenant} may hold no card: {why}")


def fits(store: Store, pod: dict[str, Any]) -> ByCards | Misfit:
    return store.desk.fits(parse_pod(pod, NAMES, store.desk.policy.defaults), store.desk.node_names())


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            "B200",
            (
                "no card of model B200 in mode shared is known "
                "(known models: NVIDIA H100 80GB HBM3, NVIDIA H100 PCIe): it counts as none"
            ),
        ),
        (
            "H100",
            "model H100 means several classes of cards (NVIDIA H100 80GB HBM3, NVIDIA H100 PCIe): write one of them",
        ),
    ],
)
def test_a_tenant_whose_class_means_no_card_or_several_holds_nothing(model: str, why: str) -> None:
    store, _ = a_store(a_tenant(model=model), nodes=[a_node(), a_node("p", PCIE)])

    assert assume(store, "a", mem=1) == nothing(why)
    assert fits(store, a_pod("b", namespace="team", mem=1)) == nothing(why)
    assert isinstance(assume(store, "c", namespace="default", mem=1), Grant)


def test_a_tenant_keeps_what_can_be_kept_of_its_file() -> None:
    tenant = a_tenant()
    tenant["spec"]["classes"].append({"model": "B200", "guaranteed": "8 cards", **NO_CARDS})
    store, _ = a_store(tenant)

    assert isinstance(assume(store, "a", mem=81_559, cores=100), Grant)
    assert isinstance(assume(store, "b", mem=1), Misfit)


def test_the_exact_name_of_a_model_beats_a_part_of_another() -> None:
    nodes = [a_node("l", L4), a_node("s", L40S)]
    store, _ = a_store(a_tenant(model="NVIDIA-L4"), nodes=nodes)  # as the label nvidia.com/gpu.product spells it

    assert isinstance(assume(store, "a", "l", mem=20_000), Grant)
    assert assume(store, "b", "s", mem=20_000) == Misfit(
        Reason.QUOTA,
        20_000,
        3_034,
        "quota: tenant team holds 20,000 MiB of at most 23,034 MiB of NVIDIA L4; 20,000 MiB asked, 3,034 MiB would fit",
    )


def test_a_pods_type_is_looked_for_among_all_models_of_the_fleet() -> None:
    store, _ = a_store(nodes=[a_node("l", L4), a_node("s", L40S), a_node("n", cards_of("n", 1, model="NVIDIA L40"))])

    def nodes_for(written: str) -> list[str]:
        found = fits(store, a_pod(mem=100, annotations={"nvidia.com/use-gputype": written}))
        assert isinstance(found, ByCards)
        return found.fits

    assert nodes_for("L4") == ["l"]
    assert nodes_for("NVIDIA-L40") == ["n"]
    assert nodes_for("l40s") == ["s"]
    assert nodes_for("L40,L4") == ["l", "n"]


def test_of_two_tenants_that_claim_one_namespace_the_first_has_it_and_the_second_holds_nothing() -> None:
    second = a_tenant("zeta")
    second["spec"]["namespaces"] = ["zeta", "team"]
    store, _ = a_store(second, a_tenant())

    assert isinstance(assume(store, "a", namespace="team", mem=81_559, cores=100), Grant)
    why = "namespace team belongs to tenant team already: drop it from one of the two"
    assert assume(store, "b", namespace="zeta", mem=1) == nothing(why, "zeta")


def test_a_file_that_cannot_be_read_holds_its_namespaces_to_nothing_and_takes_none_of_others() -> None:
    broken = a_tenant("broken")
    broken["spec"] |= {"weight": "heavy", "namespaces": ["broken", "team", 7]}
    store, keeper = a_store(broken, a_tenant())

    why = "spec.namespaces[2]: '7': write a name of a-z, 0-9 and - with at most 63 characters"
    assert assume(store, "a", namespace="broken", mem=1) == nothing(why, "broken")
    assert isinstance(assume(store, "b", namespace="team", mem=1), Grant)
    keeper.change_tenant("DELETED", broken)
    keeper.refresh()
    assert isinstance(assume(store, "c", namespace="broken", mem=1), Grant)


def test_an_edit_that_cannot_be_read_keeps_the_namespaces_that_the_tenant_had() -> None:
    store, keeper = a_store(a_tenant())
    edited = a_tenant(weight="heavy")
    edited["spec"]["namespaces"] = "all of them"
    keeper.change_tenant("MODIFIED", edited)
    keeper.refresh()

    assert isinstance(assume(store, "a", namespace="team", mem=1), Misfit)


def test_use_is_billed_to_the_tenant_whose_quota_counts_it_and_stays_with_one_that_cannot_be_read() -> None:
    second = a_tenant("zeta")
    second["spec"]["namespaces"] = ["zeta", "team"]
    _, keeper = a_store(a_tenant(), second)

    assert keeper.tenants_by_namespace() == {"team": "team", "zeta": "zeta"}
    keeper.change_tenant("MODIFIED", second | {"spec": second["spec"] | {"weight": "heavy"}})
    assert keeper.tenants_by_namespace() == {"team": "team", "zeta": "zeta"}
    keeper.change_tenant("DELETED", second)
    assert keeper.tenants_by_namespace() == {"team": "team"}


def test_limits_are_not_known_before_both_kinds_of_quota_are_listed() -> None:
    _, keeper = a_store()
    assert keeper.ready

    fresh = type(keeper)(a_store()[0])
    fresh.replace_tenants([])
    fresh.refresh()
    assert not fresh.ready
    fresh.replace_hard([])
    fresh.refresh()
    assert fresh.ready


def test_cards_of_a_vendor_of_which_the_tenant_has_nothing_are_refused_before_the_bind() -> None:
    store, _ = a_store(a_tenant(vendor="acme"))

    assert isinstance(fits(store, a_pod(namespace="team", mem=1)), Misfit)


# ---- ResourceQuota
def test_a_resource_quota_counts_cards() -> None:
    store, _ = a_store(quotas=[a_quota(gpu=2)])

    assert isinstance(assume(store, "a", containers=[a_container(gpu=2, mem=1000)]), Grant)
    assert assume(store, "b", mem=1) == Misfit(
        Reason.QUOTA,
        1,
        0,
        "quota: namespace team (ResourceQuota rq) holds 2 cards of at most 2 cards of nvidia cards; "
        "1 card asked, 0 cards would fit",
    )


def test_an_amount_that_cannot_be_read_allows_nothing_and_the_refusal_says_so() -> None:
    store, _ = a_store(quotas=[a_quota(gpumem="a lot")])

    refused = assume(store, "a", mem=1)

    assert isinstance(refused, Misfit)
    assert refused.detail.endswith(
        "1 MiB asked, 0 MiB would fit; "
        "spec.hard[limits.nvidia.com/gpumem] cannot be read (not a quantity: 'a lot'), so it allows nothing: write MiB"
    )


def test_a_resource_quota_with_scopes_counts_the_pods_that_they_take_alone() -> None:
    batch = a_quota("batch", gpumem=1000)
    batch["spec"]["scopes"] = ["Terminating"]
    vip = a_quota("vip", gpumem=2000)
    vip["spec"]["scopeSelector"] = {
        "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["vip"]}]
    }
    store, _ = a_store(quotas=[batch, vip])
    job, important = {"activeDeadlineSeconds": 60}, {"priorityClassName": "vip"}

    assert isinstance(assume(store, "a", mem=50_000), Grant)
    assert isinstance(assume(store, "b", mem=1000, spec=job), Grant)
    assert isinstance(assume(store, "c", mem=1, spec=job), Misfit)
    assert isinstance(assume(store, "d", mem=2000, spec=important), Grant)
    assert isinstance(assume(store, "e", mem=1, spec=important), Misfit)
    assert isinstance(assume(store, "f", mem=50_000), Grant)


def test_a_part_of_a_card_counts_by_the_card_that_it_gets_so_filter_and_bind_agree() -> None:
    small, large = a_node("small", (a_card(id="s", memory_mib=20_000, model="A"),)), a_node("large", 1)
    store, _ = a_store(nodes=[small, large], quotas=[a_quota(gpumem=30_000)])
    whole = a_pod(namespace="team", containers=[a_container(mem=None, cores=None)])

    found = fits(store, whole)

    assert isinstance(found, ByCards)
    assert found.fits == ["small"]
    assert isinstance(assume(store, "a", "large", containers=[a_container(mem=None, cores=None)]), Misfit)
    assert isinstance(assume(store, "b", "small", containers=[a_container(mem=None, cores=None)]), Grant)


def test_where_one_class_has_several_sizes_a_part_of_a_card_counts_by_the_largest() -> None:
    sizes = (a_card(id="s", memory_mib=20_000), a_card(id="l", index=1, memory_mib=40_000))
    store, _ = a_store(nodes=[a_node("n", sizes)], quotas=[a_quota(gpumem=30_000)])

    refused = fits(store, a_pod(namespace="team", containers=[a_container(mem=None, cores=None)]))

    assert isinstance(refused, Misfit)
    assert "40,000 MiB asked, 30,000 MiB would fit" in refused.detail


# ---- what a driver keeps for itself
KEEPS = a_card(memory_mib=81_079, reserved_mib=480, id="GPU-k")


@pytest.mark.parametrize("mem", [None, 81_079, 81_080, 81_559])
def test_a_whole_card_is_what_the_card_gives_however_it_is_asked_for(mem: int | None) -> None:
    store, _ = a_store(a_tenant(), nodes=[a_node("n", (KEEPS,))])

    grant = assume(store, "a", "n", containers=[a_container(mem=mem, cores=100)])

    assert isinstance(grant, Grant)
    assert grant.of("main")[0].memory_mib == 81_079
    assert isinstance(fits(store, a_pod(namespace="other", containers=[a_container(mem=81_560)])), ByCards)
    assert isinstance(assume(store, "b", "n", namespace="other", containers=[a_container(mem=81_560)]), Misfit)


def test_a_grant_of_all_that_the_driver_reports_counts_as_the_whole_card() -> None:
    """Written before the driver's part was known; the tenant is not over its guarantee of one card."""
    store, _ = a_store(a_tenant(), nodes=[a_node("n", (KEEPS,))])

    store.feed.apply_pod("ADDED", a_pod("p", namespace="team", node="n", grant=a_grant("GPU-k", 81_559, 100)))

    assert store.desk.used()["team"][SLUG].memory_mib == 81_079


# ---- pods that hold cards without a grant
def test_a_node_whose_cards_a_pod_holds_without_a_grant_takes_no_slices_until_it_ends() -> None:
    """It started under NVIDIA's own device plugin, before Kerf's came."""
    store, _ = a_store(nodes=[a_node(), a_node("other")])
    trainer = a_pod("trainer", namespace="ml", node="node-1", gpu=4, mem=None, cores=None, phase="Pending")
    store.feed.apply_pod("ADDED", trainer)
    assert fits(store, a_pod(mem=1)).fits == ["node-1", "other"]  # type: ignore[union-attr]

    trainer["status"]["phase"] = "Running"
    store.feed.apply_pod("MODIFIED", trainer)

    assert fits(store, a_pod(mem=1)).fits == ["other"]  # type: ignore[union-attr]
    refused = fits(
        store, a_pod(containers=[a_container(mem=1)], annotations={"nvidia.com/use-gpuuuid": "GPU-node-1-0"})
    )
    assert isinstance(refused, ByCards)
    assert refused.why is not None
    assert "; node-1 is not offered: pod ml/trainer holds 4 of its cards without a grant" in refused.why.sentence
    assert isinstance(assume(store, "p", "node-1", mem=1), Misfit)

    store.feed.apply_node("MODIFIED", a_node(cards=4, x="1"))
    assert fits(store, a_pod(mem=1)).fits == ["other"]  # type: ignore[union-attr]
    store.feed.apply_pod("DELETED", trainer)
    assert fits(store, a_pod(mem=1)).fits == ["node-1", "other"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("limits", "cards"),
    [
        ({"nvidia.com/gpu": "2"}, 2),
        ({"nvidia.com/gpu.shared": "1"}, 1),
        ({"nvidia.com/gpu": "many"}, 1),
        ({"nvidia.com/mig-1g.10gb": "1"}, 0),
        ({"nvidia.com/gpumem": "100"}, 0),
        ({"amd.com/gpu": "1"}, 0),
        ({"cpu": "1"}, 0),
    ],
)
def test_cards_count_under_whatever_name_another_plugin_offers_them(limits: dict[str, str], cards: int) -> None:
    pod = a_pod(node="node-1", phase="Running", containers=[{"name": "a", "resources": {"limits": limits}}])

    assert cards_without_grant(pod, VENDORS) == cards


def test_a_pod_without_devices_holds_none_whatever_hamis_annotations_say() -> None:
    notes = {"hami.io/vgpu-node": "node-1", "hami.io/vgpu-devices-allocated": "GPU-node-1-0,NVIDIA,80000,100:;"}
    forged = a_pod("f", node="node-1", phase="Running", gpu=0, mem=None, cores=None, annotations=notes)
    theirs = a_pod("t", node="node-1", phase="Running", annotations=notes)

    assert parse_holding(forged, VENDORS) is None
    assert parse_holding(theirs, VENDORS) is not None


def test_a_node_whose_device_plugin_is_still_hamis_is_not_offered() -> None:
    cards = [{"id": "GPU-h", "count": 10, "devmem": 81_559, "devcore": 100, "type": "NVIDIA H100", "health": True}]
    node = a_node("h", (), **{"hami.io/node-nvidia-register": json.dumps(cards)})
    del node["metadata"]["annotations"]["kerf.dev/inventory"]
    store, _ = a_store(a_tenant(), nodes=[node])

    refused = fits(store, a_pod(namespace="default", mem=1))

    assert isinstance(refused, ByCards)
    assert refused.fits == []
    assert store.desk.limits().shares.tenants[0].parts[0].guaranteed.cards == 0
