"""What the cards give: per class, the amounts that can be promised to tenants. One pure function of the nodes.

It knows neither tenants nor Kueue, so that it could as well feed a CapacityProvider (kueue.x-k8s.io/v1alpha1).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.values.device import Card
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import NOTHING, Amount, CardClass, a_card_of, class_of
from kerf.values.slicing import ANY_SIZE, Slicing, sliceable


@dataclass(frozen=True, slots=True)
class ClassCapacity:
    """What one class gives: in all, and one whole card of it.

    `card` is the smallest card of the class; `smallest_mib` and `largest_mib` are of the hardware, and differ only
    where one model is reported with several sizes. Sick and cordoned cards give nothing, but `card` knows them.
    """

    total: Amount
    card: Amount
    smallest_mib: int
    largest_mib: int
    cards: int = 0
    """How many cards give something."""
    slicing: Slicing = ANY_SIZE
    """How the smallest card is divided."""
    reserved_mib: int = 0
    """The most that the driver keeps of a card for itself."""

    def sample(self, card_class: CardClass) -> Card:
        """The smallest card of the class: what an ask takes of it is the least that the ask takes."""
        return a_card_of(card_class, self.smallest_mib, self.slicing, self.reserved_mib)

    def samples(self, card_class: CardClass) -> tuple[Card, ...]:
        """The smallest card and, where the class has several sizes, the largest."""
        smallest = self.sample(card_class)
        if self.largest_mib == self.smallest_mib:
            return (smallest,)
        return smallest, a_card_of(card_class, self.largest_mib, self.slicing, self.reserved_mib)


Capacity = Mapping[CardClass, ClassCapacity]


def capacity(nodes: Iterable[Node], policy: SchedulingPolicy) -> Capacity:
    """Healthy, un-cordoned cards of nodes that take pods, times over-commitment, minus the reserve.

    Classes come sorted. Cards that Kerf does not slice give nothing.
    """
    found: dict[CardClass, ClassCapacity] = {}
    for node in sorted(nodes, key=lambda node: node.name):
        factors = policy.factors(node)
        for card in node.cards:
            if not sliceable(card):
                continue
            gives = _gives(card.overcommitted(*factors), policy.quota.reserve_percent)
            live = card.healthy and card.id not in node.cordoned and node.schedulable and node.ready
            key = class_of(card)
            found[key] = _with(found.get(key), card, gives, live=live)
    return dict(sorted(found.items()))


def _gives(card: Card, reserve_percent: int) -> Amount:
    """One card's part. Slots bound how many slices it holds, so they bound the cards that pods may count."""
    return Amount(card.memory_mib * (100 - reserve_percent) // 100, card.cores, card.slots)


def _with(known: ClassCapacity | None, card: Card, gives: Amount, *, live: bool) -> ClassCapacity:
    part = gives if live else NOTHING
    size = card.factory_memory_mib
    if known is None:
        return ClassCapacity(part, gives, size, size, int(live), card.slicing, card.reserved_mib)
    return ClassCapacity(
        total=known.total + part,
        card=min(known.card, gives),
        smallest_mib=min(known.smallest_mib, size),
        largest_mib=max(known.largest_mib, size),
        cards=known.cards + live,
        slicing=card.slicing if size < known.smallest_mib else known.slicing,
        reserved_mib=max(known.reserved_mib, card.reserved_mib),
    )
