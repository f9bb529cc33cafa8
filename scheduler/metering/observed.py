"""What the scheduler's state knows, as metering sees it: cards with their prices, and what pods hold of them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kerf.metering.use import Held, Kind, MeteredCard, Who, micro
from kerf.pricing.prices import PriceList
from kerf.values.node import Node
from kerf.values.quota import class_of
from kerf.values.supply import Supply
from kerf.wire.records import PodRecord
from scheduler.state.bookings import Booking
from scheduler.state.history import Ended

SUPPLY = "kerf.dev/supply"
"""Node label: owned or rented."""
REGION = "topology.kubernetes.io/region"


def metered_cards(nodes: Iterable[Node], prices: PriceList, supply: str) -> dict[str, MeteredCard]:
    """Every card by id. `supply` is that of nodes that do not say theirs. A card without a price costs nothing."""
    found: dict[str, MeteredCard] = {}
    priced: dict[tuple[str, str, str], int] = {}
    for node in nodes:
        labels = dict(node.labels)
        region, said = labels.get(REGION, ""), labels.get(SUPPLY, "")
        come_by = said if said in set(Supply) else supply
        for card in node.cards:
            key = (card.model, come_by, region)
            if key not in priced:
                price = prices.of(card.model, come_by, region)
                priced[key] = micro(price.per_hour) if price else 0
            kind = Kind(class_of(card).slug, card.model, come_by, region)
            found[card.id] = MeteredCard(card.id, kind, card.factory_memory_mib, priced[key], node.name)
    return found


def priced(card: MeteredCard, prices: PriceList) -> MeteredCard:
    """A card that no inventory lists any more, at its price by this list."""
    price = prices.of(card.kind.card_model, card.kind.supply, card.kind.region)
    return replace(card, per_hour=micro(price.per_hour) if price else 0)


def held_now(
    live: Iterable[Booking], ended: Iterable[Ended], tenants: Mapping[str, str], until_ms: int
) -> tuple[Held, ...]:
    """What pods hold, and what others held that have ended. `tenants` are by namespace."""
    holding = [(booking, until_ms) for booking in live if booking.uses]
    past = [(each.booking, each.end_ms) for each in ended]
    return tuple(
        Held(booking.uid, who_of(booking, tenants), booking.uses, booking.subject.bound_ms, end)
        for booking, end in (*holding, *past)
    )


def who_of(booking: Booking, tenants: Mapping[str, str]) -> Who:
    """Whose use a booking is."""
    namespace = booking.key.partition("/")[0]
    subject = booking.subject
    return Who(tenants.get(namespace, ""), namespace, subject.workload, subject.model)


def who_was(record: PodRecord, tenants: Mapping[str, str]) -> Who:
    """Whose use a node's record is."""
    return Who(tenants.get(record.namespace, ""), record.namespace, record.workload, record.model)
