"""Quota in the live store: refused with numbers, never raced past, counted as Kueue counts."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_container, a_grant, a_node, a_pod, cards_of
from kerf.values.grant import Grant
from kerf.values.policy import QuotaEngine, QuotaSettings, SchedulingPolicy
from kerf.values.quota import Amount, Usage
from kerf.values.verdict import Misfit, Reason
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.resources import parse_pod, stages_of
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.state.answers import ByCards
from scheduler.state.store import Store
from tests.scheduler.quota.tenants import SLUG

POLICY = SchedulingPolicy()


def a_tenant(name: str = "team", guaranteed: Any = "1 card", **more: Any) -> dict[str, Any]:
    entry = {"model": "H100", "guaranteed": guaranteed, "burst": {"memory": 0, "cores": 0, "cards": 0}, **more}
    spec = {"namespaces": [name], "classes": [entry]}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}


def a_quota(name: str = "rq", namespace: str = "team", **hard: Any) -> dict[str, Any]:
    keys = {f"limits.nvidia.com/{key}": str(value) for key, value in hard.items()}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"hard": keys}}


def a_store(
    *tenants: Any, nodes: Any = (), quotas: Any = (), policy: SchedulingPolicy = POLICY
) -> tuple[Store, QuotaKeeper]:
    store = Store(policy, VENDORS)
    keeper = QuotaKeeper(store, clock=lambda: 0.0)
    for node in nodes or [a_node()]:
        store.feed.apply_node("ADDED", node)
    keeper.replace_tenants(list(tenants))
    keeper.replace_hard(list(quotas))
    keeper.refresh()
    return store, keeper


def assume(store: Store, name: str, node: str = "node-1", **changes: Any) -> Grant | Misfit:
    pod = a_pod(name, namespace=changes.pop("namespace", "team"), **changes)
    store.feed.apply_pod("ADDED", pod)
    return store.desk.assume(parse_pod(pod, NAMES, store.desk.policy.defaults), node, stages_of(pod["spec"]))


def test_a_tenant_holds_no_more_than_its_limit_and_gets_the_numbers() -> None:
    store, _ = a_store(a_tenant())  # one card: 81,559 MiB, 100 %, 10 slices

    assert isinstance(assume(store, "a", mem=60_000, cores=50), Grant)
    assert assume(store, "b", mem=24_000, cores=10) == Misfit(
        Reason.QUOTA,
        24_000,
        21_559,
        "quota: tenant team holds 60,000 MiB of at most 81,559 MiB of NVIDIA H100 80GB HBM3; "
        "24,000 MiB asked, 21,559 MiB would fit",
    )
    assert isinstance(assume(store, "c", mem=21_559, cores=50), Grant)


def test_others_are_not_disturbed_and_what_ends_is_given_back() -> None:
    store, _ = a_store(a_tenant())
    assume(store, "a", mem=81_559, cores=100)

    assert isinstance(assume(store, "b", namespace="default", mem=60_000), Grant)
    assert isinstance(assume(store, "c", mem=1), Misfit)
    store.ledger.undo("uid-team-a")
    assert isinstance(assume(store, "d", mem=81_559, cores=100), Grant)


def test_the_namespaces_of_a_tenant_share_one_quota() -> None:
    both = a_tenant()
    both["spec"]["namespaces"] = ["team", "team-dev"]
    store, _ = a_store(both)

    assert isinstance(assume(store, "a", mem=50_000), Grant)
    assert isinstance(assume(store, "b", namespace="team-dev", mem=50_000), Misfit)


def test_a_tenant_gets_cards_of_its_classes_alone() -> None:
    l4 = a_node("l-1", cards_of("l-1", 2, model="NVIDIA L4", memory_mib=23_034))
    store, _ = a_store(a_tenant(), nodes=[a_node(), l4])
    store.feed.apply_pod("ADDED", a_pod("waits", namespace="team", mem=1000))

    (candidate,) = store.planning.candidates()
    assert candidate.ask.selection.classes == (SLUG,)
    assert assume(store, "a", "l-1", mem=1000) == Misfit(Reason.TYPE, 1, 0, "main")
    assert isinstance(assume(store, "b", "node-1", mem=1000), Grant)


def test_init_containers_count_by_kubernetes_own_rule() -> None:
    store, _ = a_store(a_tenant(guaranteed={"memory": "8000Mi"}))
    init, app = a_container("i", mem=8000, cores=0), a_container("a", gpu=2, mem=1000, cores=0)

    assert isinstance(assume(store, "a", containers=[app], init=[init]), Grant)  # max(8000, 2 x 1000)
    assert store.desk.used()["team"] == {SLUG: Amount(8000, 0, 2)}


def test_what_a_tenant_does_not_lend_is_defended_against_a_tenant_that_borrows_without_limit() -> None:
    keeps = a_tenant("keeps", "2 cards", lendable="0 cards", burst="0 cards")
    borrows = a_tenant("borrows", "1 card")
    del borrows["spec"]["classes"][0]["burst"]
    store, _ = a_store(keeps, borrows)  # four cards

    for name in ("a", "b"):
        assert isinstance(assume(store, name, namespace="borrows", mem=81_559, cores=100), Grant)
    refused = assume(store, "c", namespace="borrows", mem=81_559, cores=100)
    assert isinstance(refused, Misfit)
    assert refused.reason is Reason.QUOTA
    for name in ("d", "e"):
        assert isinstance(assume(store, name, namespace="keeps", mem=81_559, cores=100), Grant)


def test_what_a_tenant_does_not_lend_is_defended_against_namespaces_without_a_tenant() -> None:
    keeps = a_tenant("keeps", "2 cards", lendable="0 cards", burst="0 cards")
    store, _ = a_store(keeps)  # four cards
    whole = {"mem": 81_559, "cores": 100}

    found = [assume(store, f"p{i}", namespace=f"ns-{i}", **whole) for i in range(3)]

    assert [isinstance(grant, Grant) for grant in found] == [True, True, False]
    assert found[2] == Misfit(
        Reason.QUOTA,
        81_559,
        0,
        "quota: namespaces without a tenant hold 163,118 MiB of at most 163,118 MiB of NVIDIA H100 80GB HBM3; "
        "81,559 MiB asked, 0 MiB would fit; tenants do not lend the rest",
    )
    assert all(isinstance(assume(store, name, namespace="keeps", **whole), Grant) for name in "de")
    (room,) = store.desk.rooms(["ns-1", "ns-2"])
    assert (room.owner, room.namespaces) == ("namespaces without a tenant", ("ns-1", "ns-2"))
    assert room.bound(SLUG).memory_mib == 0


def test_where_all_is_lent_namespaces_without_a_tenant_are_not_limited() -> None:
    store, _ = a_store(a_tenant("lends", "4 cards"))

    assert isinstance(assume(store, "p", namespace="ns", mem=81_559, cores=100), Grant)
    assert store.desk.rooms(["ns"]) == ()


def test_what_a_tenant_lends_may_be_borrowed() -> None:
    lends = a_tenant("lends", "2 cards", lendable="1 card")
    borrows = a_tenant("borrows", "1 card")
    del borrows["spec"]["classes"][0]["burst"]
    store, _ = a_store(lends, borrows)

    found = [assume(store, name, namespace="borrows", mem=81_559, cores=100) for name in "abcd"]

    assert [isinstance(grant, Grant) for grant in found] == [True, True, True, False]


def test_with_kueue_the_scheduler_refuses_what_got_past_it() -> None:
    policy = SchedulingPolicy(quota=QuotaSettings(QuotaEngine.KUEUE))
    store, _ = a_store(a_tenant(guaranteed={"memory": 50_000}), policy=policy)

    assert isinstance(assume(store, "a", mem=50_000, cores=7), Grant)
    assert store.desk.used()["team"] == {SLUG: Amount(50_000, 7, 1)}
    assert isinstance(assume(store, "b", mem=1), Misfit)


def test_with_the_engine_off_no_tenant_is_limited() -> None:
    policy = SchedulingPolicy(quota=QuotaSettings(QuotaEngine.OFF))
    store, _ = a_store(a_tenant(guaranteed={"memory": 1}), policy=policy)

    assert isinstance(assume(store, "a", mem=50_000, cores=7), Grant)


def test_the_least_of_all_resource_quotas_holds() -> None:
    store, _ = a_store(quotas=[a_quota(gpumem=9000, gpucores=50), a_quota("other", gpumem="8k")])

    assert isinstance(assume(store, "a", mem=7000, cores=30), Grant)
    refused = assume(store, "b", mem=1001, cores=10)
    assert refused == Misfit(
        Reason.QUOTA,
        1001,
        1000,
        "quota: namespace team (ResourceQuota other) holds 7,000 MiB of at most 8,000 MiB of nvidia cards; "
        "1,001 MiB asked, 1,000 MiB would fit",
    )
    assert isinstance(assume(store, "c", mem=1000, cores=20), Grant)
    assert isinstance(assume(store, "d", mem=0, cores=1), Misfit)


def test_pods_that_run_before_the_first_quota_are_counted_once_there_is_one() -> None:
    store, keeper = a_store()
    assume(store, "a", mem=60_000)

    keeper.change_tenant("ADDED", a_tenant())
    keeper.refresh()

    assert isinstance(assume(store, "b", mem=30_000), Misfit)
    keeper.change_tenant("DELETED", a_tenant())
    keeper.refresh()
    assert isinstance(assume(store, "c", mem=30_000), Grant)


def test_pods_seen_before_their_node_are_counted_in_its_class() -> None:
    store = Store(POLICY, VENDORS)
    keeper = QuotaKeeper(store, clock=lambda: 0.0)
    keeper.replace_tenants([a_tenant()])
    keeper.replace_hard([])
    store.feed.apply_node("ADDED", a_node("n", (a_card(id="GPU-x"),)))
    keeper.refresh()
    store.feed.apply_node("DELETED", {"metadata": {"name": "n"}})

    grant = a_grant("GPU-y", 5000)
    store.feed.apply_pod("ADDED", a_pod("p", namespace="team", node="m", grant=grant))
    store.feed.apply_node("ADDED", a_node("m", (a_card(id="GPU-y"),)))

    assert store.desk.used()["team"][SLUG].memory_mib == 5000


def test_a_file_that_cannot_be_read_is_named_and_limits_nothing_else() -> None:
    broken = a_tenant("broken")
    broken["spec"]["weight"] = "heavy"
    _, keeper = a_store(a_tenant(), broken)

    assert keeper.unreadable == {"broken": "spec.weight: 'heavy': write a whole number from 1 to 1000"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["assume", "undo"]), st.integers(0, 5), st.integers(1, 50_000), st.integers(0, 60)),
        max_size=30,
    )
)
def test_whatever_comes_and_goes_no_tenant_is_ever_beyond_its_limit(steps: list[tuple[str, int, int, int]]) -> None:
    store, _ = a_store(a_tenant())

    for action, number, mem, cores in steps:
        if action == "assume":
            assume(store, f"p{number}", mem=mem, cores=cores)
        else:
            store.ledger.undo(f"uid-team-p{number}")
        held = [Usage(tuple(used.items())).total for used in store.desk.used().values()]
        assert all(h.memory_mib <= 81_559 and h.cores <= 100 and h.cards <= 10 for h in held)


SIZES = st.sampled_from([("H100", 81_559), ("A100", 40_960), ("A100", 81_920), ("L4", 23_034)])


@given(
    st.lists(SIZES, min_size=1, max_size=4),
    st.lists(st.integers(1, 100), min_size=1, max_size=3),
    st.integers(1, 120_000),
    st.sampled_from([None, "A100", "L4,H100"]),
    st.booleans(),
)
def test_what_filter_lets_pass_under_a_resource_quota_bind_does_not_refuse_for_it(
    cards: list[tuple[str, int]], percents: list[int], most: int, kind: str | None, together: bool
) -> None:
    """Also where cards differ in size, within a class and among classes, and the pod asks for parts of a card."""
    made = tuple(a_card(i, model=model, memory_mib=mib) for i, (model, mib) in enumerate(cards))
    nodes = [a_node("n", made)] if together else [a_node(f"n{card.index}", (card,)) for card in made]
    store, _ = a_store(nodes=nodes, quotas=[a_quota(gpumem=most)])
    limits = [{"nvidia.com/gpumem-percentage": str(percent)} for percent in percents]
    containers = [{"name": f"c{i}", "resources": {"limits": each}} for i, each in enumerate(limits)]
    notes = {"nvidia.com/use-gputype": kind} if kind else {}
    pod = a_pod("p", namespace="team", containers=containers, annotations=notes)
    ask = parse_pod(pod, NAMES, POLICY.defaults)

    found = store.desk.fits(ask, store.desk.node_names())

    for name in found.fits if isinstance(found, ByCards) else ():
        assert isinstance(store.desk.assume(ask, name, stages_of(pod["spec"])), Grant)
        store.ledger.undo(ask.uid)


def test_a_pod_whose_kind_of_card_a_resource_quota_leaves_no_room_for_waits_for_the_quota() -> None:
    a100, l4 = a_card(0, model="A100", memory_mib=81_920), a_card(1, model="L4", memory_mib=23_034)
    nodes = [a_node("big", (a100,)), a_node("l", (l4,))]
    store, _ = a_store(nodes=nodes, quotas=[a_quota(gpumem=30_000)])
    half = [{"name": "main", "resources": {"limits": {"nvidia.com/gpumem-percentage": "50"}}}]
    pod = a_pod("p", namespace="team", containers=half, annotations={"nvidia.com/use-gputype": "A100"})

    found = store.desk.fits(parse_pod(pod, NAMES, POLICY.defaults), ["big", "l"])

    assert isinstance(found, Misfit)
    assert found.detail == (
        "quota: namespace team (ResourceQuota rq) holds 0 MiB of at most 30,000 MiB of nvidia cards; "
        "40,960 MiB asked, 30,000 MiB would fit"
    )
