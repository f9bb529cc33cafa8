"""Our series by OpenCost's own arithmetic: GPU cost = allocation x hours x the node's price of a GPU."""

from dataclasses import replace

import pytest
from hypothesis import given

from kerf.metering.charge import charge
from kerf.metering.opencost import Allocation, Holder, NodeGpus, allocations, node_gpus
from kerf.metering.use import MICRO, Held, MeteredCard
from kerf.values.grant import CardUse, ContainerGrant, Grant, Slice
from tests.kerf.metering.histories import CARDS, L4, START, a_card, holds

HOUR = 3_600_000


def a_holder(pod: str, *slices: tuple[str, str, int, int], node: str = "node-1") -> Holder:
    """Slices are (container, card, MiB, cores)."""
    containers = [
        ContainerGrant(name, tuple(Slice(card, "nvidia", mib, cores) for c, card, mib, cores in slices if c == name))
        for name in dict.fromkeys(slice_[0] for slice_ in slices)
    ]
    uses: dict[str, CardUse] = {}
    for _, card, mib, cores in slices:
        uses[card] = uses.get(card, CardUse()) + CardUse(mib, cores, 1)
    return Holder(pod, node, Grant(tuple(containers)), uses)


def test_four_pods_of_a_quarter_are_one_gpu_at_the_nodes_price() -> None:
    cards = {"GPU-0": a_card(), "GPU-1": a_card(1)}
    pods = [a_holder(f"ns/pod-{i}", ("main", "GPU-0", 20_000, 25)) for i in range(4)]

    found = allocations(cards, pods)

    assert found[0] == Allocation("ns", "pod-0", "main", "node-1", 0.25)
    assert sum(one.gpus for one in found) == 1.0
    assert node_gpus(cards.values()) == (NodeGpus("node-1", 2, 2.0),)


def test_containers_divide_what_their_pod_holds() -> None:
    pod = a_holder("ns/a", ("big", "GPU-0", 30_000, 0), ("small", "GPU-0", 10_000, 0))

    assert [(one.container, one.gpus) for one in allocations({"GPU-0": a_card()}, [pod])] == [
        ("big", 0.375),
        ("small", 0.125),
    ]


def test_where_cards_cost_different_prices_the_product_is_still_the_cost() -> None:
    cards = {"GPU-0": a_card(per_hour=3_000_000), "GPU-1": a_card(1, L4, per_hour=1_000_000, memory_mib=20_000)}
    pod = a_holder("ns/a", ("main", "GPU-0", 40_000, 0), ("main", "GPU-1", 5_000, 0))

    (found,) = allocations(cards, [pod])
    (node,) = node_gpus(cards.values())

    assert found.gpus * node.per_hour == pytest.approx(0.5 * 3 + 0.25 * 1)


def test_a_card_that_is_not_described_is_left_out() -> None:
    assert allocations({}, [a_holder("ns/a", ("main", "GPU-9", 1, 1))]) == ()


@given(CARDS, holds())
def test_an_hour_of_the_series_costs_what_metering_charges(cards: dict[str, MeteredCard], held: list[Held]) -> None:
    """OpenCost's product over an hour in which nothing changes, beside Kerf's own books."""
    present = [replace(each, start_ms=START, end_ms=START + HOUR) for each in held]
    holders = [
        a_holder(f"ns/{h.uid}", *(("main", card, use.memory_mib, use.cores) for card, use in h.uses.items()))
        for h in present
    ]
    price = {node.node: node.per_hour for node in node_gpus(cards.values())}
    theirs = sum(one.gpus * price[one.node] for one in allocations(cards, holders))
    ours = sum(use.cost for use in charge(cards, present, START, START + HOUR).lines.values()) / (3600 * MICRO * MICRO)

    assert theirs == pytest.approx(ours, abs=1e-4)
