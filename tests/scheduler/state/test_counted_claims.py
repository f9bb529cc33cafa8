"""What Kubernetes allocates to claims is counted before it is stored: no tenant holds more than its limit, ever."""

from typing import Any

from kerf.testing.builders import a_card, a_claim, a_claiming_pod, a_mig_card, a_node, a_pod
from kerf.values.allocator import Allocator
from kerf.values.device import Mode
from kerf.values.grant import Grant
from kerf.values.quota import Amount, CardClass
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.claims import parse_claim
from scheduler.state.claims import ClaimingPods
from scheduler.state.store import Store
from scheduler.state.turns import Claimant
from tests.scheduler.quota.tenants import SLUG
from tests.scheduler.state.test_quotas import a_quota, a_store, a_tenant, assume

MIB = {"memory": "10000Mi"}
NODE = a_node("node-1", (a_card(0, allocator=Allocator.DRA), a_card(1, allocator=Allocator.DRA), a_card(2)))


def claim_of(name: str, *shares: tuple[str, int | None, int], version: int = 1, **changes: Any) -> dict[str, Any]:
    item = a_claim(name, *shares, **changes)
    item["metadata"] |= {"namespace": changes.get("namespace", "team"), "resourceVersion": str(version)}
    return item


def ask(store: Store, name: str, *shares: tuple[str, int | None, int], based_on: int = 1, **changes: Any) -> str:
    keep = changes.pop("keep", True)
    return store.allocations.refusal(parse_claim(claim_of(name, *shares, **changes)), based_on, keep=keep)


def used(store: Store, tenant: str = "team") -> dict[str, Amount]:
    return {slug: amount for slug, amount in store.desk.used()[tenant].items() if amount}


def team(guaranteed: Any = None, **more: Any) -> Store:
    return a_store(a_tenant("team", guaranteed or MIB, **more), nodes=[NODE])[0]


def test_a_claim_gets_what_its_tenant_may_hold_and_the_refusal_has_the_numbers() -> None:
    store = team()

    assert ask(store, "a", ("gpu-0", 6000, 10)) == ""
    assert ask(store, "b", ("gpu-0", 5000, 10)) == (
        "quota: tenant team holds 6,000 MiB of at most 10,000 MiB of NVIDIA H100 80GB HBM3; "
        "5,000 MiB asked, 4,000 MiB would fit"
    )
    assert ask(store, "c", ("gpu-1", 4000, 0)) == ""
    assert used(store) == {SLUG: Amount(10_000, 10, 2)}


def test_pods_and_claims_share_one_quota() -> None:
    store = team()
    assert isinstance(assume(store, "pod", mem=7000, cores=0), Grant)

    assert ask(store, "a", ("gpu-0", 3001, 0)) != ""
    assert ask(store, "a", ("gpu-0", 3000, 0)) == ""
    assert not isinstance(assume(store, "late", mem=1, cores=0), Grant)


def test_the_same_question_again_counts_once() -> None:
    store = team()

    said = [ask(store, "a", ("gpu-0", 6000, 0)) for _ in range(3)]

    assert (said, used(store)) == (["", "", ""], {SLUG: Amount(6000, 0, 1)})


def test_another_allocation_of_a_claim_counts_as_the_larger_of_both_until_one_is_seen() -> None:
    store = team()
    assert ask(store, "a", ("gpu-0", 6000, 10)) == ""
    assert ask(store, "a", ("gpu-1", 5000, 20)) == ""
    assert used(store) == {SLUG: Amount(6000, 20, 1)}

    store.allocations.see(parse_claim(claim_of("a", ("gpu-1", 5000, 20))), 2)

    assert used(store) == {SLUG: Amount(5000, 20, 1)}


def test_a_dry_run_leaves_no_trace() -> None:
    store = team()

    assert ask(store, "a", ("gpu-0", 9000, 0), keep=False) == ""
    assert ask(store, "b", ("gpu-0", 9000, 0), keep=False) == ""
    assert used(store) == {}


def test_an_older_version_of_the_claim_says_nothing_and_a_later_one_ends_what_was_let_through() -> None:
    store = team()
    ask(store, "a", ("gpu-0", 6000, 0), based_on=5)

    store.allocations.see(parse_claim(claim_of("a")), 5)  # the finalizer that kube-scheduler wrote before
    assert used(store) == {SLUG: Amount(6000, 0, 1)}
    store.allocations.see(parse_claim(claim_of("a")), 6)
    assert used(store) == {}


def test_an_event_that_is_older_than_what_was_read_beside_the_watch_changes_nothing() -> None:
    store = team()
    store.allocations.see(parse_claim(claim_of("a", ("gpu-0", 6000, 0))), 9)

    store.allocations.see(parse_claim(claim_of("a")), 8)

    assert used(store) == {SLUG: Amount(6000, 0, 1)}


def test_what_was_let_through_on_a_version_that_has_passed_cannot_take_effect_and_counts_nothing() -> None:
    store = team()
    store.allocations.see(parse_claim(claim_of("a", ("gpu-0", 100, 0))), 7)

    assert ask(store, "a", ("gpu-0", 90_000, 0), based_on=6) == ""
    assert used(store) == {SLUG: Amount(100, 0, 1)}


def test_a_claim_that_is_deleted_or_not_listed_any_more_holds_nothing() -> None:
    store = team()
    for name in ("a", "b"):
        store.allocations.see(parse_claim(claim_of(name, ("gpu-0", 1000, 0))), 2)
    store.allocations.forget("uid-a")
    assert used(store) == {SLUG: Amount(1000, 0, 1)}
    ask(store, "c", ("gpu-0", 500, 0), based_on=9)

    store.allocations.replace([])

    assert used(store) == {SLUG: Amount(500, 0, 1)}  # c may be newer than the list


def test_a_pod_counts_by_its_claims_alone_whether_it_is_seen_or_not() -> None:
    store = team()
    seen = ClaimingPods(store, "nvidia")
    seen.apply_node("MODIFIED", NODE)
    pod = a_claiming_pod(init=("first",), first=["a"], main=["a"])
    pod["metadata"]["namespace"] = "team"
    pod["metadata"]["uid"] = "uid-default-pod-1"
    seen.apply_claim("ADDED", claim_of("a", ("gpu-0", 4000, 20)))
    before = used(store)

    seen.apply_pod("ADDED", pod)

    assert before == used(store) == {SLUG: Amount(4000, 20, 1)}
    assert [b.by_claims for b in store.ledger.bookings()] == [True]
    assert [running.held for running in store.desk.running()] == [((SLUG, Amount(4000, 20, 1)),)]


def test_a_grant_that_the_scheduler_wrote_counts_although_its_pod_names_claims() -> None:
    store = team()
    pod = a_pod("p", namespace="team", node="node-1", grant=Grant(), spec={"resourceClaims": [{"name": "x"}]})
    granted = assume(store, "p", mem=2000, cores=0)
    assert isinstance(granted, Grant)
    store.ledger.undo("uid-team-p")
    pod["metadata"]["annotations"] = {GRANT: render_grant(granted), "grantOfClaims": "true"}
    ClaimingPods(store, "nvidia").apply_pod("ADDED", pod)

    assert used(store) == {SLUG: Amount(2000, 0, 1)}


def test_whole_cards_and_instances_count_as_what_they_are() -> None:
    mig = CardClass("nvidia", "NVIDIA H100 80GB HBM3", Mode.MIG)
    tenant = a_tenant("team", "1 card")
    tenant["spec"]["classes"].append(
        {"model": "H100", "mode": "mig", "guaranteed": {"memory": "20Gi", "cards": 1}, "burst": "0 cards"}
    )
    node = a_node("node-1", (a_card(0, allocator=Allocator.DRA), a_mig_card(3, allocator=Allocator.DRA)))
    store, _ = a_store(tenant, nodes=[node])

    assert ask(store, "card", ("card-0", None, 0)) == ""
    assert ask(store, "part", ("mig-3-19-0", None, 0)) == ""
    assert set(used(store)) == {SLUG, mig.slug}
    assert used(store)[SLUG] == Amount(81_559, 100, 1)
    assert "would fit" in ask(store, "more", ("mig-3-19-1", None, 0))


def test_a_card_that_is_not_known_is_no_card_of_a_tenants() -> None:
    assert "of cards that are not known; 1 MiB asked, 0 MiB would fit" in ask(
        team(), "a", ("gpu-9", 1, 0), node="elsewhere"
    )


def test_a_tenant_of_whose_file_nothing_can_be_kept_gets_no_claim() -> None:
    store, _ = a_store(a_tenant(model="B200"), nodes=[NODE])

    assert "tenant team may hold no card" in ask(store, "a", ("gpu-0", 1, 0))


def test_a_namespace_without_a_tenant_gets_what_tenants_do_not_keep() -> None:
    free = team()
    assert ask(free, "a", ("gpu-0", 80_000, 0), namespace="tenantless") == ""
    keeps = team("3 cards", lendable="0 cards", burst="0 cards")

    assert "tenants do not lend the rest" in ask(keeps, "a", ("gpu-0", 1, 0), namespace="tenantless")


def test_a_resource_quota_counts_claims_whatever_its_scopes() -> None:
    quota = a_quota(gpumem=5000)
    quota["spec"]["scopes"] = ["Terminating"]
    store, _ = a_store(nodes=[NODE], quotas=[quota])

    assert ask(store, "a", ("gpu-0", 5000, 0)) == ""
    assert "ResourceQuota rq" in ask(store, "b", ("gpu-0", 1, 0))


def test_claims_that_were_there_before_the_first_quota_count() -> None:
    store, keeper = a_store(nodes=[NODE])
    store.allocations.see(parse_claim(claim_of("a", ("gpu-0", 9000, 0))), 1)

    keeper.replace_tenants([a_tenant("team", MIB)])
    keeper.refresh()

    assert used(store) == {SLUG: Amount(9000, 0, 1)}


def test_claims_follow_their_cards_into_another_class() -> None:
    store, _ = a_store(a_tenant("team", MIB), nodes=[a_node("other", (a_card(9),))])
    store.allocations.see(parse_claim(claim_of("a", ("card-0", None, 0))), 1)
    assert used(store) == {}

    store.feed.apply_node("ADDED", NODE)

    assert used(store) == {SLUG: Amount(81_559, 100, 1)}


def borrowing() -> Store:
    return borrowed()[0]


def borrowed() -> tuple[Store, ClaimingPods]:
    """`team` holds nothing of its guarantee; a pod of `other`, which is guaranteed nothing, holds it by a claim."""
    nothing = {"memory": 0, "cores": 0, "cards": 0}
    store = a_store(a_tenant("team", {"memory": "100000Mi"}), a_tenant("other", nothing), nodes=[NODE])[0]
    seen = ClaimingPods(store, "nvidia")
    seen.apply_node("MODIFIED", NODE)
    pod = a_claiming_pod(main=["a"])
    pod["metadata"] |= {"namespace": "other", "uid": "uid-default-pod-1"}
    seen.apply_claim("ADDED", claim_of("a", ("gpu-0", 70_000, 20), namespace="other"))
    seen.apply_pod("ADDED", pod)
    return store, seen


NO_PLACE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}


def waits(name: str, claim: str = "", *, namespace: str = "team", said: Any = NO_PLACE, **more: Any) -> dict[str, Any]:
    pod = a_pod(name, namespace=namespace, containers=[{"name": "main", "image": "i", **more.pop("container", {})}])
    pod["spec"] |= {"resourceClaims": [{"name": "gpu", "resourceClaimName": claim}]} if claim else {}
    pod["metadata"] |= more
    return {**pod, "status": {"phase": "Pending", "conditions": [said] if said else []}}


def wanted(name: str, device_class: str = "slice.gpu.kerf.dev", **changes: Any) -> dict[str, Any]:
    item = claim_of(name, **changes)
    return {**item, "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": device_class}}]}}}


def with_phase(phase: str, pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "status": {**pod["status"], "phase": phase}}


def test_pods_whose_claims_wait_for_a_guarantee_that_others_hold_are_counted() -> None:
    store, seen = borrowed()
    either = {"firstAvailable": [{"deviceClassName": "other.example"}, {"deviceClassName": "card.gpu.kerf.dev"}]}
    claims = [wanted("b"), wanted("c"), wanted("d", "other.example"), wanted("b", namespace="other")]
    claims[1]["spec"]["devices"]["requests"] = [{"name": "gpu", **either}]
    for claim in claims:
        seen.apply_claim("ADDED", claim)
    for pod in (
        waits("one", "b"),
        waits("two", "c"),
        waits("card", container={"resources": {"limits": {"gpu.kerf.dev/card": 1}}}),
        waits("of-other-cards", "d"),
        waits("new", "b", said=None),
        waits("gated", "b", said={**NO_PLACE, "reason": "SchedulingGated"}),
        waits("ends", "b", deletionTimestamp="2026-01-01T00:00:00Z"),
        waits("borrows", "b", namespace="other"),
        with_phase("Failed", waits("failed", "b")),
        with_phase("Succeeded", waits("ended", "b")),
    ):
        seen.apply_pod("ADDED", pod)
    assert store.allocations.unmet_pods() == {"team": 3}

    seen.apply_claim("MODIFIED", claim_of("b", ("gpu-1", 1_000, 0), version=2))
    assert store.allocations.unmet_pods() == {"team": 2}
    seen.apply_pod("DELETED", waits("card"))
    assert store.allocations.unmet_pods() == {"team": 1}
    seen.replace_claims([wanted("c")])
    assert store.allocations.unmet_pods() == {}  # nobody borrows any more


def test_a_new_list_of_pods_or_claims_replaces_what_waited() -> None:
    store, seen = borrowed()
    held = claim_of("a", ("gpu-0", 70_000, 20), namespace="other")
    seen.replace_claims([held, wanted("b")])
    seen.replace_pods([waits("one", "b")])
    assert store.allocations.unmet_pods() == {"team": 1}

    seen.replace_claims([held])
    assert store.allocations.unmet_pods() == {}
    seen.replace_claims([held, wanted("b")])
    seen.replace_pods([])
    assert store.allocations.unmet_pods() == {}


def test_a_pod_with_claims_leaves_for_nobodys_guarantee() -> None:
    store = borrowing()
    ask, _ = store.desk.read(a_pod("asks", namespace="team", mem=60_000, cores=0))

    assert store.desk._live.turns.borrowers("team") == ["other"]
    assert store.planning.nodes_to_free(Claimant(ask, guaranteed=True)) == []
    assert store.planning.node_with_pods("node-1", Claimant(ask, guaranteed=True))[1] == []


def test_who_borrows_while_a_tenant_waits_for_its_guarantee_is_said_and_to_nobody_else() -> None:
    store = borrowing()

    assert store.allocations.unmet("team") == (
        "tenant team holds less than it is guaranteed, and tenant other more. Kerf evicts nobody for a claim: end pods "
        "of theirs, or ask by extended resources (nvidia.com/gpumem)"
    )
    assert (
        store.allocations.unmet("other"),
        store.allocations.unmet("elsewhere"),
        team().allocations.unmet("team"),
    ) == (
        "",
        "",
        "",
    )
