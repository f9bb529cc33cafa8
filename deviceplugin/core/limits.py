"""Limits of memory that the driver keeps for a pod's cgroup: which cards have them, and how large they are."""

from collections.abc import Mapping
from dataclasses import dataclass

from kerf.values.device import Backend, Card, Mode
from kerf.values.grant import Holding, card_uses
from kerf.values.policy import DriverLimits
from kerf.values.units import MIB


@dataclass(frozen=True, slots=True)
class Kept:
    """What keeps a card's slices, and what is to be said of it."""

    backend: Backend
    note: str = ""
    problem: str = ""
    """Why it takes no new slices now; empty where it does."""


def kept(card: Card, backend: Backend, wish: DriverLimits, failed: str) -> Kept:
    """The strongest that the card's driver allows. `failed` is why a limit was not kept lately, or cannot be here."""
    if wish is DriverLimits.NEVER or card.mode is Mode.MIG:
        return Kept(backend)
    reason = card.no_limits or failed
    if not reason:
        return Kept(backend.with_native())
    asks = f"its pool asks for driverLimits {wish.value}"
    problem = f"{asks}: {reason}" if wish is DriverLimits.REQUIRE else ""
    return Kept(backend, f"{asks}, and they cannot be had: {reason}", problem)


def pod_limits(holding: Holding, cards: Mapping[str, Card]) -> dict[str, int]:
    """Bytes that a pod's processes together may hold of each card whose driver keeps limits.

    A pod that has a card whole shares it with no other, so it needs none: the driver's own words end it.
    """
    uses = card_uses(holding.grant, holding.stages)
    found = {}
    for card_id, use in uses.items():
        card = cards.get(card_id)
        if card is not None and card.backend.native and use.memory_mib < card.factory_memory_mib:
            found[card_id] = use.memory_mib * MIB
    return found
