"""The place of a successor: quota counts the leaving pod or its successor, never both and never neither."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_grant, a_node, a_pod
from kerf.values.grant import Grant
from kerf.values.node import Node
from kerf.values.verdict import Misfit
from kerf.vendors.registry import NAMES
from kerf.wire.resources import parse_pod, stages_of
from scheduler.state.answers import Member, NoPlace
from scheduler.state.store import Store
from tests.scheduler.recovery.world import owned, with_owner
from tests.scheduler.state.test_quotas import a_store, a_tenant

NODES = [a_node(name, (a_card(id=f"GPU-{name}-0"), a_card(1, id=f"GPU-{name}-1"))) for name in ("n0", "n1")]


def everywhere(_: Node) -> bool:
    return True


def a_replica(name: str, mem: int = 60_000, **changes: Any) -> dict[str, Any]:
    return with_owner(a_pod(name, namespace="team", mem=mem, cores=30, **changes), owned("rs-1"))


def member_of(store: Store, pod: dict[str, Any]) -> Member:
    return Member(parse_pod(pod, NAMES, store.desk.policy.defaults), stages_of(pod["spec"]), everywhere)


def used(store: Store) -> int:
    """MiB that quota counts for the tenant."""
    (by_class,) = (amounts for tenant, amounts in store.desk.used().items() if tenant == "team")
    return sum(amount.memory_mib for amount in by_class.values())


def a_running_replica(guaranteed: str = "1 card") -> tuple[Store, dict[str, Any], str]:
    store, _ = a_store(a_tenant(guaranteed=guaranteed), nodes=NODES)
    pod = a_replica("old", node="n0", grant=a_grant("GPU-n0-0", 60_000, 30))
    store.feed.apply_pod("ADDED", pod)
    return store, pod, str(pod["metadata"]["uid"])


def bind(store: Store, pod: dict[str, Any], node: str) -> Grant | Misfit:
    store.feed.apply_pod("ADDED", pod)
    return store.desk.assume(parse_pod(pod, NAMES, store.desk.policy.defaults), node, stages_of(pod["spec"]))


def test_a_tenant_at_its_limit_gets_a_place_for_a_successor_and_is_charged_once():
    store, old, uid = a_running_replica()

    assert store.desk.hold_for_successor(uid, member_of(store, old), 90.0) is None
    assert used(store) == 60_000
    (held,) = (booking for booking in store.ledger.bookings() if booking.uid.endswith("/successor"))
    store.feed.apply_pod("DELETED", old)
    assert used(store) == 60_000

    assert isinstance(bind(store, a_replica("new"), held.node), Grant)
    assert used(store) == 60_000


def test_a_pod_that_stays_after_all_is_counted_again():
    store, old, uid = a_running_replica()
    store.desk.hold_for_successor(uid, member_of(store, old), 90.0)

    store.desk.drop_successor(uid, "rs-1")

    assert (used(store), [booking.uid for booking in store.ledger.bookings()]) == (60_000, [uid])


def test_where_the_fleet_has_no_place_nothing_changes():
    store, old, uid = a_running_replica()

    refused = store.desk.hold_for_successor(uid, Member(member_of(store, old).ask, (), lambda _: False), 90.0)

    assert isinstance(refused, NoPlace)
    assert used(store) == 60_000


@given(st.lists(st.sampled_from(["hold", "drop", "gone", "new"]), max_size=12))
def test_quota_never_counts_more_than_what_is_held_and_never_less_than_what_runs(steps: list[str]) -> None:
    store, old, uid = a_running_replica("4 cards")
    gone, made = False, 0
    for step in steps:
        if step == "hold" and not gone:
            store.desk.drop_successor(uid, "rs-1")
            store.desk.hold_for_successor(uid, member_of(store, old), 90.0)
        elif step == "drop":
            store.desk.drop_successor(uid, "rs-1")
        elif step == "gone":
            store.feed.apply_pod("DELETED", old)
            gone = True
        elif step == "new" and made < 1:
            made += 1
            store.feed.apply_pod("ADDED", a_replica("new"))
            bind(store, a_replica("new"), "n1")
        booked = len(store.ledger.bookings())
        assert 60_000 * (booked - 1) <= used(store) <= 60_000 * booked
    if gone:
        store.desk.drop_successor(uid, "rs-1")
        assert used(store) == 60_000 * len(store.ledger.bookings())
