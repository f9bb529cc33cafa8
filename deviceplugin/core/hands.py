"""In whose hands each card is: Kerf's scheduler's or DRA's. Pure.

    EXTENDER ──policy says dra, nothing held──▶ NONE ──both have seen it, still nothing held──▶ DRA
        ▲                                        │ ▲                                             │
        └────────── still nothing held ──────────┘ └──────── policy says extender, nothing held ─┘

A card that something holds stays with the allocator that gave it. What arrives while neither offers a card (a
Binding or a claim that was on its way) puts the card back into the hands that gave it.
"""

from collections.abc import Iterable, Mapping

from kerf.values.allocator import Allocator

Holders = Mapping[str, frozenset[Allocator]]
"""By card, which allocators gave out what is held of it."""


def wants_change(cards: Iterable[str], now: Mapping[str, Allocator], target: Allocator) -> bool:
    """Whether any card is not where the policy wants it."""
    return any(now.get(card, Allocator.EXTENDER) is not target for card in cards)


def next_hands(
    cards: Iterable[str], now: Mapping[str, Allocator], target: Allocator, holders: Holders, settled: frozenset[str]
) -> dict[str, Allocator]:
    """The next step for every card. `settled` are cards that nobody has been offering for long enough."""
    return {
        card: _next(now.get(card, Allocator.EXTENDER), target, holders.get(card, frozenset()), card in settled)
        for card in cards
    }


def _next(now: Allocator, target: Allocator, held: frozenset[Allocator], settled: bool) -> Allocator:
    if len(held) > 1:
        return Allocator.NONE  # two allocators gave it out: neither gives more of it
    if held:
        return next(iter(held))
    if now is target:
        return now
    if now is not Allocator.NONE:
        return Allocator.NONE
    return target if settled else Allocator.NONE
