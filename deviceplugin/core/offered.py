"""Which cards a node offers to claims, in which order, and with which taints. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse
from kerf.values.offer import DeviceTaint, OfferedCard, equal_part
from kerf.values.policy import SchedulingPolicy
from kerf.values.recovery import RecoveryMode
from kerf.wire.devices import DRIVER, can_be_claimed

FAULT = f"{DRIVER}/fault"
CORDON = f"{DRIVER}/cordon"
NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"


@dataclass(frozen=True, slots=True)
class NodeView:
    """What decides about the offer, beside the cards: cordons of the node, and what is done about faults here."""

    cordoned: Collection[str] = ()
    """Cards that a person or Kerf cordoned."""
    mode: RecoveryMode = RecoveryMode.OBSERVE
    evicts: bool = True
    """Whether recovery moves tenants of its own accord: not while it only says what it would do."""


def offered(
    cards: Iterable[Card], uses: Mapping[str, CardUse], view: NodeView, policy: SchedulingPolicy
) -> tuple[OfferedCard, ...]:
    """The cards in DRA's hands in the order in which the allocator is to take them: it takes the first with room.

    `cards` have the node's over-commitment. With `spread` the emptiest card comes first, else the fullest.
    """
    mine = [card for card in cards if card.allocator is Allocator.DRA and can_be_claimed(card)]
    sign = 1 if "spread" in policy.cards else -1

    def rank(card: Card) -> tuple[float, int, str]:
        used = uses.get(card.id, NO_USE)
        return (sign * _fill(card, used, policy.weights), card.index, card.id)

    defaults = policy.defaults
    return tuple(
        OfferedCard(
            card,
            defaults.memory_mib or equal_part(card),
            defaults.cores,
            taints_of(card, view),
            uses.get(card.id, NO_USE).places,
        )
        for card in sorted(mine, key=rank)
    )


def taints_of(card: Card, view: NodeView) -> tuple[DeviceTaint, ...]:
    """Faults and cordons of one card as taints.

    What runs on a card is evicted only where the fault lost it and the policy's recovery moves tenants.
    """
    found = []
    if not card.healthy:
        evicts = card.health.moves and view.mode is RecoveryMode.RECOVER and view.evicts
        found.append(DeviceTaint(FAULT, card.health.state.value, NO_EXECUTE if evicts else NO_SCHEDULE))
    if card.id in view.cordoned:
        found.append(DeviceTaint(CORDON, "", NO_SCHEDULE))
    return tuple(found)


def _fill(card: Card, used: CardUse, weights: tuple[int, int, int]) -> float:
    """How full a card is, by the policy's weights of slots, cores and memory."""
    parts = (
        used.slots / max(card.slots, 1),
        used.cores / max(card.cores, 1),
        used.memory_mib / max(card.memory_mib, 1),
    )
    return sum(weight * part for weight, part in zip(weights, parts, strict=True))
