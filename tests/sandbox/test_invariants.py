"""The checker of the bad days says no when it should."""

from kerf.testing.builders import a_grant, a_node, a_pod
from kerf.values.grant import ContainerGrant, Grant, Slice
from sandbox.invariants import overcommitted, ungranted

CARD = "GPU-node-1-0"


def a_tenant(name: str, mib: int = 8000, **changes) -> dict:
    return a_pod(name, node="node-1", grant=a_grant(CARD, mib), spec={"schedulerName": "kerf-scheduler"}, **changes)


def test_a_card_that_holds_what_it_has_is_fine_and_one_mib_more_is_found():
    whole = a_tenant("a", 81_559)

    assert overcommitted([a_node()], [whole]) == []
    assert overcommitted([a_node()], [whole, a_tenant("b", 1)]) == [
        f"card {CARD} holds (81560, 60, 2) of (81559, 100, 10) (MiB, cores, slots)"
    ]


def test_finished_and_unbound_pods_hold_nothing():
    done, waiting = a_tenant("b", 81_559, phase="Succeeded"), a_pod("c", grant=a_grant(CARD, 81_559))

    assert overcommitted([a_node()], [a_tenant("a", 81_559), done, waiting]) == []


def test_more_slices_than_slots_are_found():
    many = Grant((ContainerGrant("main", tuple(Slice(CARD, "nvidia", 1, 1) for _ in range(11))),))

    assert len(overcommitted([a_node()], [a_pod(node="node-1", grant=many)])) == 1


def test_a_bound_pod_without_a_grant_is_found():
    bare = a_pod("bare", node="node-1", spec={"schedulerName": "kerf-scheduler"})

    assert ungranted([bare, a_tenant("fine"), a_pod("waits", spec={"schedulerName": "kerf-scheduler"})]) == ["bare"]
