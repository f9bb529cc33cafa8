"""Which of the cards that fit is taken: a chain of filters and sort keys, each one a small function in a dict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kerf.values.ask import PodAsk
from kerf.values.device import Card
from kerf.values.grant import CardUse
from kerf.values.policy import SchedulingPolicy
from kerf.values.slicing import Size

Weights = tuple[int, int, int]
"""Of slots, cores and memory."""
Order = Callable[[Size, Card, CardUse, Weights], int]
"""(the slice, the card, what is held of it, weights) to a sort key: the card with the lowest key is taken first."""

PERMILLE = 1000


def fullness(size: Size, card: Card, used: CardUse, weights: Weights) -> int:
    """Weighted sum of the shares of slots, cores and memory held once the slice is placed, in permille."""
    shares = (
        (used.slots + 1) * PERMILLE // max(card.slots, 1),
        (used.cores + size.cores) * PERMILLE // max(card.cores, 1),
        (used.memory_mib + size.memory_mib) * PERMILLE // max(card.memory_mib, 1),
    )
    return sum(weight * share for weight, share in zip(weights, shares, strict=True))


def binpack(size: Size, card: Card, used: CardUse, weights: Weights) -> int:
    """The fullest card first."""
    return -fullness(size, card, used, weights)


def spread(size: Size, card: Card, used: CardUse, weights: Weights) -> int:
    """The emptiest card first."""
    return fullness(size, card, used, weights)


def numa(_size: Size, card: Card, _used: CardUse, _weights: Weights) -> int:
    """Card by card along the NUMA nodes, so that several cards tend to share one."""
    return card.numa


ORDERS: dict[str, Order] = {"binpack": binpack, "spread": spread, "numa": numa}


@dataclass(frozen=True, slots=True)
class Preference:
    """A resolved chain of card policies.

    `mutex`: only cards that no pod holds. `topology`: several cards only where NVLink joins them. `price` is an
    order computed by the caller (card id to a key, lowest first); it is used where the chain says `binpack`.
    """

    orders: tuple[str, ...] = ("binpack",)
    mutex: bool = False
    topology: bool = False
    weights: Weights = (1, 1, 3)
    price: Mapping[str, int] = field(default_factory=dict)

    def key(self, size: Size, card: Card, used: CardUse) -> tuple[int, ...]:
        """Sort key of a card, lowest first. It ends in the card's index, so the order is total."""
        keys = [ORDERS[name](size, card, used, self.weights) for name in self.orders]
        if self.price and "binpack" in self.orders:
            keys.insert(self.orders.index("binpack"), self.price.get(card.id, 0))
        return (*keys, card.index)


def prefer(cards: tuple[str, ...], weights: Weights, price: Mapping[str, int] | None = None) -> Preference:
    """Resolve a chain. Unknown words are ignored: a pod's typo must not stop it."""
    orders = tuple(dict.fromkeys(word for word in cards if word in ORDERS))
    return Preference(
        orders=orders or ("binpack",),
        mutex="mutex" in cards,
        topology="topology" in cards or "topology-aware" in cards,
        weights=weights,
        price=price or {},
    )


def wished(ask: PodAsk, policy: SchedulingPolicy) -> tuple[tuple[str, ...], Weights]:
    """The chain and the weights that hold for a pod: its own where it names any, else the scheduler's.

    A pod that names filters alone keeps the scheduler's sort keys.
    """
    own = ask.wishes.card_policies
    chain = own if any(word in ORDERS for word in own) else (*own, *(w for w in policy.cards if w in ORDERS))
    return (chain if own else policy.cards), ask.wishes.weights or policy.weights
