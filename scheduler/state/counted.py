"""How much of which cards a pod counts for: the classes of every node's cards, and sums of what pods hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kerf.values.ask import whole_if_reserved
from kerf.values.device import Card
from kerf.values.grant import Grant, Holding, Slice
from kerf.values.node import Node
from kerf.values.quota import NOTHING, Amount, Usage, class_of, usage_of_grant
from kerf.values.traits import Traits


@dataclass(frozen=True, slots=True)
class Counted:
    """A pod as quota counts it: by class of cards, and by vendor."""

    namespace: str
    traits: Traits | None
    """None of a claim."""
    by_class: Usage
    by_vendor: Usage


@dataclass(frozen=True, slots=True)
class _Counted:
    """A node's cards as quota sees them, by id."""

    classes: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    """What a card gives and what its driver keeps, where it keeps anything."""


_NOTHING = _Counted({}, {})


class CountedCards:
    """The classes and sizes of all cards, by node. The caller holds the store's lock.

    Where nothing is counted nobody asks, so a node's cards are looked at with the first question.
    """

    def __init__(self) -> None:
        self._cards: dict[str, tuple[Card, ...]] = {}
        self._seen: dict[str, _Counted] = {}

    def put_node(self, node: Node) -> bool:
        """Learn a node's cards; whether they are of other classes or sizes than before."""
        known = self._cards.get(node.name)
        if known == node.cards:
            return False
        self._cards[node.name] = node.cards
        before = self._seen.pop(node.name, None)
        return known is None or (before or _counted(known)) != _counted(node.cards)

    def _of(self, node: str) -> _Counted:
        """The cards of a node, none of an unknown one."""
        if (seen := self._seen.get(node)) is None:
            cards = self._cards.get(node)
            if cards is None:
                return _NOTHING
            seen = self._seen[node] = _counted(cards)
        return seen

    def classes_of(self, node: str, grant: Grant) -> tuple[str, ...]:
        """The classes of the cards of a grant on a node."""
        classes = self._of(node).classes
        cards = (piece.card for part in grant.containers for piece in part.slices)
        return tuple(sorted({classes[card] for card in cards if card in classes}))

    def count(self, holding: Holding, traits: Traits | None) -> Counted:
        """A pod, or a claim, with what it holds."""
        seen = self._of(holding.node)
        if seen.sizes:
            holding = _fitted(holding, seen.sizes)
        vendors = {slice_.card: slice_.vendor for part in holding.grant.containers for slice_ in part.slices}
        return Counted(
            namespace=holding.pod.partition("/")[0],
            traits=traits,
            by_class=usage_of_grant(holding.grant, holding.stages, seen.classes),
            by_vendor=usage_of_grant(holding.grant, holding.stages, vendors),
        )


def _counted(cards: tuple[Card, ...]) -> _Counted:
    return _Counted(
        {card.id: class_of(card).slug for card in cards},
        {card.id: (card.factory_memory_mib, card.reserved_mib) for card in cards if card.reserved_mib},
    )


def claim_key(uid: str) -> str:
    """Under what a claim is counted, beside pods' uids."""
    return f"claim {uid}"


def sum_of(parts: Iterable[Usage]) -> Usage:
    """The sum of what several pods hold, name by name."""
    found: dict[str, Amount] = {}
    for part in parts:
        for name, amount in part.by:
            found[name] = found.get(name, NOTHING) + amount
    return Usage.build(found)


def peak_of(counted: Iterable[Counted]) -> Counted | None:
    """The most of what one claim may turn out to hold; None where that is nothing."""
    first: Counted | None = None
    for one in counted:
        first = one if first is None else _peak(first, one)
    return first


def _peak(one: Counted, other: Counted) -> Counted:
    by_class, by_vendor = (
        Usage.build({name: a.of(name).peak(b.of(name)) for name in {name for name, _ in (*a.by, *b.by)}})
        for a, b in ((one.by_class, other.by_class), (one.by_vendor, other.by_vendor))
    )
    return replace(one, by_class=by_class, by_vendor=by_vendor)


def _fitted(holding: Holding, sizes: Mapping[str, tuple[int, int]]) -> Holding:
    """The holding with slices that reach into what a driver keeps as whole cards."""

    def fit(piece: Slice) -> Slice:
        size = sizes.get(piece.card)
        return replace(piece, memory_mib=whole_if_reserved(piece.memory_mib, *size)) if size else piece

    containers = (replace(each, slices=tuple(map(fit, each.slices))) for each in holding.grant.containers)
    return replace(holding, grant=replace(holding.grant, containers=tuple(containers)))
