"""Which cards of a fleet hold a model, in what split, at what price, the cheapest first."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from kerf.sizing.cards import VENDOR, is_older, reserved_on
from kerf.sizing.estimate import Estimate, Model, estimate
from kerf.sizing.request import TP_CHOICES, Ask
from kerf.sizing.unsized import NEEDS_HOPPER
from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.learned import Taught
from kerf.values.slicing import Size, size_on
from kerf.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to run a model on cards of one kind. `nodes`: how many nodes have enough such cards."""

    card: str
    card_mib: int
    found: Estimate
    size: Size
    """What each of its cards gives for the estimate: more, where cards are divided into fixed sizes."""
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
        share = max(Decimal(self.size.memory_mib) / self.card_mib, Decimal(self.size.cores) / 100)
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
    kinds: dict[object, tuple[Card, list[int]]] = {}
    for cards in nodes:
        counts = Counter(map(_kind, cards))
        for key, card in {_kind(card): card for card in cards}.items():
            kinds.setdefault(key, (card, []))[1].append(counts[key])
    found: list[Offer] = []
    refused: list[Refused] = []
    for card, counts_of in sorted(kinds.values(), key=lambda kind: (*_named(kind[0]), kind[0].mode)):
        name, mib = _named(card)
        on_card = replace(ask, card="", card_mib=mib - reserved_on(name))
        made, reason = _on(model, on_card, (card, lessons(name)), counts_of)
        found += [replace(one, card_price=price(name)) for one in made]
        if not made:
            refused.append(Refused(name, mib, reason))
    return sorted(found, key=lambda offer: offer.order), refused


def _kind(card: Card) -> object:
    """What is alike of cards that make the same offers."""
    return (*_named(card), card.mode, card.slicing)


def _named(card: Card) -> tuple[str, int]:
    return card.model, card.factory_memory_mib


def _on(model: Model, ask: Ask, kind: tuple[Card, Taught | None], counts: list[int]) -> tuple[list[Offer], str]:
    made, reason, (card, taught) = [], "", kind
    name, most = _named(card)
    if card.vendor != VENDOR:
        return [], f"what a model needs is known for {VENDOR}'s cards alone"
    if model.shape.choose and is_older(name):
        return [], NEEDS_HOPPER
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
        size = size_on(ContainerAsk("", cards, found.slice_mib, cores=found.cores, vendor=card.vendor), card)
        if size is None:
            alone = f"a server shares one card in mode {card.mode.word}, not {cards}" if cards > 1 else ""
            amounts = f"{found.slice_mib:,} MiB and {found.cores} % of the cores"
            reason = reason or alone or f"no slice of such a card has {amounts}"
            continue
        wasted = cards * ((ask.card_mib or 0) % size.memory_mib)  # what the driver keeps for itself is off already
        made.append(Offer(name, most, found, size, nodes, wasted))
    return made, reason
