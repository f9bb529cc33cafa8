"""Places for admitted workloads: all or none, exclusive, taken only by their own pods."""

import threading
from dataclasses import replace
from threading import RLock

from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_node, a_pod, a_pod_ask, an_ask, cards_of
from kerf.values.grant import Grant
from kerf.values.health import SUSPECT
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.verdict import Misfit
from kerf.vendors.registry import VENDORS
from kerf.wire.annotations import GRANT, render_grant
from scheduler.state.answers import Member, NoPlace
from scheduler.state.store import Store


def everywhere(_: Node) -> bool:
    return True


def a_store(*cards: int) -> Store:
    store = Store(SchedulingPolicy(), VENDORS, clock=lambda: 0.0)
    for i, count in enumerate(cards):
        store.feed.apply_node("ADDED", a_node(f"n{i}", count))
    return store


def member(mib: int, name: str = "pod", **changes: object) -> Member:
    return Member(a_pod_ask(name, an_ask(memory_mib=mib, cores=0), **changes), (), everywhere)


def pod_of(workload: str, mib: int, name: str, namespace: str = "default") -> object:
    ask = a_pod_ask(name, an_ask(memory_mib=mib, cores=0), admission=workload, namespace=namespace)
    return replace(ask, uid=name)


def test_a_workload_gets_a_place_for_each_of_its_pods_or_none() -> None:
    store = a_store(2)  # two cards of 81,559 MiB

    assert store.desk.hold_places("w", [member(60_000)] * 2, 60.0) is None
    assert store.desk._live.places.nodes(pod_of("w", 60_000, "p")) == ["n0"]

    store.desk.drop_places("w")
    refused = store.desk.hold_places("w", [member(60_000)] * 3, 60.0)
    assert isinstance(refused, NoPlace)
    assert refused.sentence.startswith("2 of 3 pods fit together; pod 3: needs 60,000 MiB on one card")
    assert not refused.final
    assert not store.ledger.bookings()


class SpyLock:
    """A lock that remembers how many reservations were made in each hold."""

    def __init__(self) -> None:
        self.lock, self.depth, self.store, self.made = RLock(), 0, None, []

    def __enter__(self) -> None:
        self.lock.acquire()
        self.depth += 1
        if self.depth == 1 and self.store is not None:
            self.before = len(self.store.ledger)

    def __exit__(self, *_: object) -> None:
        if self.depth == 1 and self.store is not None:
            self.made.append(len(self.store.ledger) - self.before)
        self.depth -= 1
        self.lock.release()


def test_a_large_workload_is_placed_in_slices_of_the_lock_and_all_of_it_is_undone(monkeypatch) -> None:
    lock = SpyLock()
    with monkeypatch.context() as patch:
        patch.setattr(threading, "RLock", lambda: lock)
        store = a_store(8)
    lock.store = store

    assert store.desk.hold_places("w", [member(20_000)] * 30, 60.0) is None
    assert (max(lock.made), len(store.ledger)) == (1, 30)

    assert isinstance(store.desk.hold_places("w", [member(20_000)] * 40, 60.0), NoPlace)
    assert len(store.ledger) == 0


def test_workloads_and_binds_that_run_at_once_leave_every_card_within_its_size_and_nothing_behind() -> None:
    store = a_store(4, 4)
    crowded: list[int] = []

    def workloads() -> None:
        for number in range(6):
            store.desk.hold_places(f"w{number}", [member(20_000)] * 20, 60.0)
            store.desk.drop_places(f"w{number}")

    def binds() -> None:
        for number in range(60):
            store.desk.assume(pod_of("", 41_000, f"p{number}"), f"n{number % 2}", ())
            free = [state.free.memory_mib for name in ("n0", "n1") for state in store.desk.state(name).cards]
            crowded.extend(mib for mib in free if mib < 0)
            store.ledger.undo(f"p{number}")

    threads = [threading.Thread(target=work) for work in (workloads, binds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert (crowded, len(store.ledger)) == ([], 0)


def test_two_workloads_never_count_the_same_hole() -> None:
    store = a_store(1)

    assert store.desk.hold_places("a", [member(50_000)], 60.0) is None
    assert isinstance(store.desk.hold_places("b", [member(50_000)], 60.0), NoPlace)
    store.desk.drop_places("a")
    assert store.desk.hold_places("b", [member(50_000)], 60.0) is None


def test_places_are_found_on_every_node_while_there_is_room() -> None:
    store = a_store(2, 1, 1)

    for name in "abcd":
        assert store.desk.hold_places(name, [member(50_000)], 60.0) is None
    assert isinstance(store.desk.hold_places("e", [member(50_000)], 60.0), NoPlace)


def test_free_memory_that_no_card_has_in_one_piece_is_no_place() -> None:
    store = a_store(2)
    for name in ("x", "y"):
        assert isinstance(store.desk.assume(a_pod_ask(name, an_ask(memory_mib=50_000, cores=0)), "n0", ()), Grant)

    refused = store.desk.hold_places("w", [member(60_000)], 60.0)  # 2 x 31,559 MiB are free

    assert isinstance(refused, NoPlace)
    assert "has 31,559 and 31,559 MiB free" in refused.sentence


def test_what_no_card_here_could_ever_hold_is_final() -> None:
    refused = a_store(1).desk.hold_places("w", [member(100_000)], 60.0)

    assert isinstance(refused, NoPlace)
    assert refused.final


def test_a_pod_of_the_workload_takes_its_place_and_a_stranger_does_not() -> None:
    store = a_store(1)
    store.desk.hold_places("w", [member(60_000)], 60.0)

    for stranger in (pod_of("", 60_000, "s1"), pod_of("w", 60_000, "s2", "other"), pod_of("v", 60_000, "s3")):
        assert isinstance(store.desk.assume(stranger, "n0", ()), Misfit)
    assert isinstance(store.desk.assume(pod_of("w", 60_000, "p"), "n0", ()), Grant)
    assert store.desk._live.places.nodes(pod_of("w", 60_000, "q")) == []
    assert sum(t.uses["GPU-n0-0"].memory_mib for t in store.ledger.bookings()) == 60_000


def test_a_place_on_a_card_that_has_failed_since_is_given_back() -> None:
    store = a_store(1)
    store.desk.hold_places("w", [member(60_000)], 60.0)
    (card,) = cards_of("n0", 1)
    store.feed.apply_node("MODIFIED", a_node("n0", (replace(card, health=SUSPECT),)))
    pod = pod_of("w", 60_000, "p")

    assert isinstance(store.desk.assume(pod, "n0", ()), Misfit)
    assert store.desk._live.places.nodes(pod) == []
    assert store.ledger.bookings() == []


def test_a_pod_that_goes_elsewhere_gives_its_place_back() -> None:
    store = a_store(1, 1)
    store.desk.hold_places("w", [member(60_000)], 60.0)
    (held,) = store.desk._live.places.nodes(pod_of("w", 60_000, "p"))
    other = "n1" if held == "n0" else "n0"

    assert isinstance(store.desk.assume(pod_of("w", 60_000, "p"), other, ()), Grant)
    assert isinstance(store.desk.assume(pod_of("", 60_000, "q"), held, ()), Grant)


def test_a_pod_bound_before_the_scheduler_saw_whose_it_is_leaves_no_place_behind() -> None:
    store = a_store(2)
    store.desk.hold_places("w", [member(60_000)], 60.0)
    assert isinstance(store.desk.assume(pod_of("", 60_000, "p"), "n0", ()), Grant)  # known from before it was annotated
    pod = a_pod("p", uid="p", mem=60_000, cores=0, node="n0", annotations={"kerf.dev/admission": "w"})
    pod["metadata"]["annotations"][GRANT] = render_grant(store.ledger.get("p").holding.grant)

    store.feed.apply_pod("MODIFIED", pod)
    store.feed.apply_pod("MODIFIED", pod)

    assert sum(use.memory_mib for tenant in store.ledger.bookings() for use in tenant.uses.values()) == 60_000

    store.feed.replace_pods([])
    assert not store.desk._live.places._seated  # nothing is remembered of a pod that a relist shows to be gone


def test_a_place_whose_time_is_over_is_gone() -> None:
    store = a_store(1)
    store.desk.hold_places("w", [member(60_000)], 60.0)

    for tenant in store.ledger.reservations_before(61.0):
        store.ledger.drop_reservation(tenant.uid)

    assert store.desk._live.places.nodes(pod_of("w", 60_000, "p")) == []
    assert isinstance(store.desk.assume(pod_of("", 60_000, "s"), "n0", ()), Grant)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hold", "drop", "pod", "stranger", "undo"]),
            st.integers(0, 3),
            st.sampled_from([20_000, 41_000, 60_000]),
            st.integers(1, 3),
        ),
        max_size=25,
    )
)
def test_whatever_happens_no_card_holds_more_than_it_has(steps: list[tuple[str, int, int, int]]) -> None:
    store = a_store(1, 2)

    for i, (action, number, mib, count) in enumerate(steps):
        workload = f"w{number}"
        match action:
            case "hold":
                store.desk.hold_places(workload, [member(mib)] * count, 60.0)
            case "drop":
                store.desk.drop_places(workload)
            case "pod":
                store.desk.assume(pod_of(workload, mib, f"p{i}"), f"n{number % 2}", ())
            case "stranger":
                store.desk.assume(pod_of("", mib, f"p{i}"), f"n{number % 2}", ())
            case _:
                store.ledger.undo(f"p{number}")
        held: dict[str, int] = {}
        for tenant in store.ledger.bookings():
            for card, use in tenant.uses.items():
                held[card] = held.get(card, 0) + use.memory_mib
        assert all(value <= 81_559 for value in held.values())
