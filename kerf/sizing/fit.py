"""Which cards of a fleet hold a model, in what split, at what price, the cheapest first."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from kerf.sizing.cards import is_older, reserved_on
from kerf.sizing.estimate import Estimate, Model, estimate
from kerf.sizing.request import TP_CHOICES, Ask
from kerf.sizing.unsized import NEEDS_HOPPER
from kerf.values.device import Card
from kerf.values.learned import Taught
from kerf.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to run a model on cards of one kind. `nodes`: how many nodes have enough such cards."""

    card: str
    card_mib: int
    found: Estimate
    nodes: int
    wasted_mib: int
    """Of all its cards, what no whole slice of the same size can use."""
    card_price: Decimal | None = None
    """What an hour of one card costs, None where it is not known."""

    @property
    def price(self) -> Decimal | None:
        """What an hour of its slices costs: of each card the larger one of its shares of memory and cores."""
        if self.card_price is None:
            return None
        share = max(Decimal(self.found.slice_mib) / self.card_mib, Decimal(self.found.cores) / 100)
        return (self.card_price * share * self.found.ranks.cards).quantize(Decimal("0.0001"))

    @property
    def order(self) -> tuple[object, ...]:
        """Best first: the cheapest, then the least wasteful. Cards without a price come last."""
        price = self.price
        return (price is None, price or 0, self.wasted_mib, self.found.ranks.cards, self.card_mib, self.card)


@dataclass(frozen=True, slots=True)
class Refused:
    """Cards that cannot hold the model, with the reason."""

    card: str
    card_mib: int
    reason: str


def offers(
    model: Model,
    ask: Ask,
    nodes: Iterable[tuple[Card, ...]],
    price: Callable[[str], Decimal | None] = lambda _: None,
    lessons: Callable[[str], Taught | None] = lambda _: None,
) -> tuple[list[Offer], list[Refused]]:
    """Every split on every kind of card that fits, and what does not fit at all.

    `price` is that of an hour of a card; `lessons` are about the model on such cards.
    """
    kinds: dict[tuple[str, int], list[int]] = {}
    for cards in nodes:
        counts: dict[tuple[str, int], int] = {}
        for card in cards:
            key = (card.model, card.factory_memory_mib)
            counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            kinds.setdefault(key, []).append(count)
    found: list[Offer] = []
    refused: list[Refused] = []
    for (name, mib), counts_of in sorted(kinds.items()):
        on_card = replace(ask, card="", card_mib=mib - reserved_on(name))
        made, reason = _on(model, on_card, (name, lessons(name)), counts_of)
        found += [replace(one, card_price=price(name)) for one in made]
        if not made:
            refused.append(Refused(name, mib, reason))
    return sorted(found, key=lambda offer: offer.order), refused


def _on(model: Model, ask: Ask, kind: tuple[str, Taught | None], counts: list[int]) -> tuple[list[Offer], str]:
    made, reason, (name, taught) = [], "", kind
    if model.shape.choose and is_older(name):
        return [], NEEDS_HOPPER
    mib = ask.card_mib or 0  # what the driver keeps for itself is off already
    for tp in (ask.tp,) if ask.tp is not None else TP_CHOICES:
        cards = tp * ask.pp
        nodes = sum(1 for count in counts if count >= cards)
        if not nodes:
            reason = reason or f"no node has {cards} such cards"
            continue
        try:
            found = estimate(model, replace(ask, tp=tp), taught)
        except WireError as error:
            reason = str(error)
            continue
        made.append(Offer(name, mib + reserved_on(name), found, nodes, cards * (mib % found.slice_mib)))
    return made, reason
