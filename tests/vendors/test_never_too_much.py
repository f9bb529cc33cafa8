"""No card of any vendor is ever over-granted, whatever comes and goes, and in whatever order."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.values.grant import Slice
from kerf.values.places import counters
from kerf.vendors.registry import VENDORS
from scheduler.solver.check import broken_rules
from scheduler.solver.problem import Problem
from scheduler.solver.solve import plan
from tests.effort import examples
from tests.vendors import test_companions as companions
from tests.vendors import test_units as units
from tests.vendors.shop import Shop, asking
from tests.vendors.test_ascend import node as ascend


def ask_of(names: Any, count: int, memory: int, cores: int) -> dict[str, int]:
    """A pod's limits in a vendor's words, some of them left out."""
    limits = {names.count: count}
    if names.memory and memory:
        limits[names.memory] = memory
    if names.cores and cores:
        limits[names.cores] = cores
    return limits


FLEETS: dict[str, Any] = {
    "hygon": units.HYGON,
    "hygonhcu": units.HCU,
    "biv150": units.ILUVATAR,
    "cambricon": units.CAMBRICON,
    "mthreads": units.MTHREADS,
    "amd": units.AMD,
    "metax": units.METAX,
    "enflame": units.ENFLAME,
    "kunlun": units.KUNLUN,
    "vastai": units.VASTAI,
    "biren": units.BIREN,
    "metaxsgpu": companions.metax(2),
    "kunlunvxpu": companions.kunlun(2),
    "enflamedrs": companions.enflame(),
    "neuron": companions.inf2(3),
    "ascend910b3": ascend("Ascend910B3", 65536, 2),
    "ascend310p": ascend("Ascend310P", 24576, 2),
    "ascend910c": ascend("Ascend910C", 65536, 4),
}
NAMES = {vendor.name: vendor.words for vendor in VENDORS}
ASKS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from([0, 1, 2, 8, 32, 4096, 20000]),
        st.sampled_from([0, 1, 20, 60]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def over_granted(shop: Shop) -> list[str]:
    """Cards that hold more than they have, by what the ledger says and counted again from the grants."""
    state = shop.store.desk.state("n")
    found = []
    again: dict[str, list[Slice]] = {}
    for holding in shop.store.ledger.holdings():
        for container in holding.grant.containers:
            for piece in container.slices:
                again.setdefault(piece.card, []).append(piece)
    for held in state.cards:
        pieces = again.get(held.card.id, [])
        amounts = sum(p.memory_mib for p in pieces), sum(p.cores for p in pieces), len(pieces)
        if (held.used.memory_mib, held.used.cores, held.used.slots) != amounts:
            found.append(f"{held.card.id}: the ledger says {held.used}, the grants {amounts}")
        most = held.card.memory_mib, held.card.cores, held.card.slots
        if any(has > limit for has, limit in zip(amounts, most, strict=True)):
            found.append(f"{held.card.id}: {amounts} of {most}")
    return found


@pytest.mark.parametrize("vendor", FLEETS)
@settings(max_examples=examples(15), deadline=None)
@given(asks=ASKS)
def test_no_card_of_any_vendor_is_over_granted(vendor: str, asks: list[tuple[int, int, int, bool]]):
    shop, live = Shop(FLEETS[vendor]), []
    for i, (count, memory, cores, leaves) in enumerate(asks):
        got = shop.take(asking(f"p{i}", **ask_of(NAMES[vendor], count, memory, cores)))
        for key in ("hami.io/mutex.lock", "cambricon.com/dsmlu.lock"):
            shop.unlock(key=key)
        if got.slices:
            live.append(got.stored)
        if leaves and live:
            shop.store.feed.apply_pod("DELETED", live.pop(0))
        assert over_granted(shop) == []


@pytest.mark.parametrize("vendor", ["metaxsgpu", "kunlunvxpu", "neuron", "ascend910b3", "mthreads"])
@settings(max_examples=examples(15), deadline=None)
@given(asks=ASKS)
def test_what_the_solver_plans_for_any_vendor_breaks_no_rule(vendor: str, asks: list[tuple[int, int, int, bool]]):
    shop = Shop(FLEETS[vendor])
    read = []
    for i, (count, memory, cores, _) in enumerate(asks):
        pod = asking(f"p{i}", **ask_of(NAMES[vendor], count, memory, cores))
        if not shop.take(pod).refused:
            read.append(shop.store.desk.read(pod)[0])
    empty = Shop(FLEETS[vendor])
    problem = Problem(tuple(empty.store.desk.states()), tuple(read))

    found = plan(problem)

    assert broken_rules(problem, found.assignments) == ()
    assert found.rejected == ""


@settings(max_examples=examples(30), deadline=None)
@given(st.permutations(range(6)), st.lists(st.booleans(), min_size=6, max_size=6))
def test_cores_of_a_device_are_given_once(order: list[int], leaves: list[bool]):
    """Any order of pods that come and go: no core has two holders, and a device is whole or in parts."""
    shop = Shop(companions.inf2(2))
    words = [{companions.CORE: 1}] * 4 + [{companions.NEURON: 1}] * 2
    held: dict[str, Any] = {}
    for position, gone in zip(order, leaves, strict=True):
        got = shop.take(asking(f"p{position}", **words[position]))
        if got.slices:
            held[f"p{position}"] = got.stored
        if gone and held:
            shop.store.feed.apply_pod("DELETED", held.pop(next(iter(held))))
        for state in shop.store.desk.state("n").cards:
            assert max(counters(state.used.places)) <= 1


def test_a_grants_places_survive_a_restart_of_the_scheduler():
    shop = Shop(companions.inf2(1))
    got = shop.take(asking("first", **{companions.CORE: 1}))
    pod = shop.kube.get("/api/v1/namespaces/default/pods/first")

    again = Shop(companions.inf2(1))
    again.store.feed.apply_pod("ADDED", pod)

    before, after = (one.store.desk.state("n").cards[0].used for one in (shop, again))
    assert got.slices
    assert before == after
    assert before.places
