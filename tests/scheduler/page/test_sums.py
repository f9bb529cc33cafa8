"""Sums that follow single nodes are those of all nodes, in whatever order nodes change."""

from collections import Counter
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from kerf.pricing.prices import PriceList, PriceRow
from kerf.testing.builders import a_node
from kerf.values.policy import SchedulingPolicy
from kerf.values.supply import Supply
from kerf.vendors.registry import VENDORS
from scheduler.page.collect import Collector, Sources
from scheduler.page.sums import Facts, Sums, facts_of
from scheduler.state.store import Store, load
from tests.browser.world import holder

NODES = ("node-0", "node-1", "node-2")


def prices_of(per_hour: str, currency: str = "USD") -> PriceList:
    return PriceList(currency, (PriceRow("H100", Supply.OWNED, Decimal(per_hour), "me", "2026-01-01"),))


def facts(store: Store, prices: PriceList) -> dict[str, Facts]:
    """Of every node, without anything from before."""
    seen = {name: store.sight.node(name) for name in NODES}
    return {name: facts_of(one, prices, "owned", None) for name, one in seen.items() if one is not None}


@given(
    st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from("abc"), st.integers(0, 1), st.booleans()), max_size=9)
)
def test_sums_are_those_of_all_nodes(steps: list[tuple[str, str, int, bool]]) -> None:
    prices, store, sums = prices_of("2"), Store(SchedulingPolicy(), VENDORS), Sums()
    load(store, [a_node(name, 2) for name in NODES], [])
    for number, (node, namespace, card, goes) in enumerate(steps):
        store.feed.apply_pod("ADDED", holder(f"p-{number}", namespace, node, card, 50_000))
        if goes:
            store.feed.apply_node("DELETED", a_node(node, 2))
            sums.drop(node)
        seen = store.sight.node(node)
        if seen is not None:
            sums.put(node, facts_of(seen, prices, "owned", sums.get(node)))
    every = {name: each for name, each in facts(store, prices).items() if name in sums.nodes()}

    assert sums.per_hour == sum(each.per_hour for each in every.values())
    assert sums.spent == sum((Counter(each.spent) for each in every.values()), Counter())
    assert sums.namespaces == Counter(name for each in every.values() for name in each.namespaces)


def test_the_cost_follows_a_price_list_that_changes_and_its_currency() -> None:
    now, store = [0.0], Store(SchedulingPolicy(), VENDORS)
    load(store, [a_node("node-0", 2)], [holder("p", "a", "node-0", 0, 81_559)])
    lists = [prices_of("2")]
    collector = Collector(store, Sources(lambda: lists[-1], dict), lambda: now[0])
    found = []
    for one in (prices_of("2"), prices_of("3", "EUR"), PriceList()):
        lists.append(one)
        now[0] += 60
        for _ in collector.round():
            pass
        row = collector.rows["costs"]["all"]
        found.append((row["cards"], row["allocated"], row["currency"], row["free"]))

    assert found == [
        ("4", "2", "USD", []),
        ("6", "3", "EUR", []),
        ("0", "0", "USD", ["NVIDIA H100 80GB HBM3"]),
    ]
