"""Sums over all nodes, kept up to date as single nodes change: a round costs what has changed, not the fleet."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.metering.use import MICRO, MeteredCard
from kerf.pricing.prices import PriceList
from kerf.values.node import Node
from kerf.views.page.rows import spent_on
from scheduler.metering.observed import metered_cards
from scheduler.state.bookings import State
from scheduler.state.sight import NodeSight


@dataclass(frozen=True, slots=True)
class Facts:
    """What sums need of one node. `spent` and `per_hour` are in parts of the currency."""

    node: Node
    prices: PriceList
    supply: str
    cards: Mapping[str, MeteredCard]
    namespaces: frozenset[str]
    running: Counter[str]
    reserved: Counter[str]
    spent: Mapping[str, int]

    @property
    def per_hour(self) -> int:
        """What an hour of its cards costs."""
        return sum(card.per_hour for card in self.cards.values()) * MICRO

    @property
    def free(self) -> frozenset[str]:
        """Models of its cards that cost nothing."""
        return frozenset(card.kind.card_model for card in self.cards.values() if not card.per_hour)


def facts_of(seen: NodeSight, prices: PriceList, supply: str, before: Facts | None) -> Facts:
    """Of a node as it is now; its cards' prices are those of `before` where neither node nor prices have changed."""
    same = before is not None and before.node is seen.node and before.prices is prices and before.supply == supply
    cards = before.cards if before is not None and same else metered_cards((seen.node,), prices, supply)
    live = [booking for booking in seen.bookings if booking.state is not State.RESERVED]
    reserved = Counter(booking.gang for booking in seen.bookings if booking.gang and booking.state is State.RESERVED)
    return Facts(
        seen.node,
        prices,
        supply,
        cards,
        frozenset(booking.key.partition("/")[0] for booking in seen.bookings),
        Counter(booking.gang for booking in live if booking.gang),
        reserved,
        spent_on(cards, ((booking.key.partition("/")[0], booking.uses) for booking in live if booking.uses)),
    )


class Sums:
    """One thread uses it."""

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}
        self._of_gang: dict[str, set[str]] = {}
        self.namespaces = Counter[str]()
        """Nodes with pods of each namespace."""
        self.running = Counter[str]()
        self.reserved = Counter[str]()
        self.spent = Counter[str]()
        self.free = Counter[str]()
        self.per_hour = 0

    def nodes(self) -> set[str]:
        """The nodes that are summed."""
        return set(self._facts)

    def get(self, name: str) -> Facts | None:
        """What is known of a node."""
        return self._facts.get(name)

    def nodes_of(self, gang: str) -> Iterable[str]:
        """The nodes on which a gang runs or has places."""
        return self._of_gang.get(gang, ())

    def put(self, name: str, facts: Facts) -> None:
        """A node is new or has changed."""
        self.drop(name)
        self._facts[name] = facts
        for gang in facts.running.keys() | facts.reserved.keys():
            self._of_gang.setdefault(gang, set()).add(name)
        self._add(facts, 1)

    def drop(self, name: str) -> None:
        """A node is gone. No-op for an unknown one."""
        facts = self._facts.pop(name, None)
        if facts is None:
            return
        for gang in facts.running.keys() | facts.reserved.keys():
            self._of_gang[gang].discard(name)
            if not self._of_gang[gang]:
                del self._of_gang[gang]
        self._add(facts, -1)

    def _add(self, facts: Facts, sign: int) -> None:
        self.per_hour += sign * facts.per_hour
        ones = ((self.namespaces, facts.namespaces), (self.free, facts.free))
        for total, names in ones:
            _sum(total, dict.fromkeys(names, 1), sign)
        for total, some in ((self.running, facts.running), (self.reserved, facts.reserved), (self.spent, facts.spent)):
            _sum(total, some, sign)


def _sum(total: Counter[str], some: Mapping[str, int], sign: int) -> None:
    """Names whose sum is nothing are none. A namespace may hold cards that cost nothing: then it has no cost."""
    for name, amount in some.items():
        total[name] += sign * amount
        if not total[name]:
            del total[name]
