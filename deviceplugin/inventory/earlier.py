"""What an earlier run of the device plugin knew of the cards: the node's annotations are the truth."""

import logging
from collections.abc import Iterator, Mapping

from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.health import HEALTHY, Health, State
from kerf.values.vendor import Vendor
from kerf.wire.errors import WireError
from kerf.wire.inventory import parse_inventory

_LOG = logging.getLogger("kerf.deviceplugin.earlier")
STOPPED = "the device plugin has stopped"
"""The cause with which an ending plugin withdraws healthy cards."""


def earlier_health(notes: Mapping[str, str], vendors: tuple[Vendor, ...]) -> dict[str, Health]:
    """By card, the health of those that were not simply healthy, from the node's annotations.

    Cards that an ending plugin withdrew, or that could not be read, are as healthy as this run finds them.
    """
    found = {card.id: _as_it_was(card.health) for card in _earlier_cards(notes, vendors)}
    return {card: health for card, health in found.items() if health != HEALTHY}


def earlier_hands(notes: Mapping[str, str], vendors: tuple[Vendor, ...]) -> dict[str, Allocator]:
    """By card, who handed it out."""
    return {card.id: card.allocator for card in _earlier_cards(notes, vendors)}


def _earlier_cards(notes: Mapping[str, str], vendors: tuple[Vendor, ...]) -> Iterator[Card]:
    for vendor in vendors:
        if vendor.inventory_key not in notes:
            continue
        try:
            yield from parse_inventory(notes[vendor.inventory_key], vendor.inventory_key, vendor.name)
        except WireError as error:
            _LOG.warning("an earlier inventory of this node cannot be read, and is written again: %s", error)


def _as_it_was(health: Health) -> Health:
    if health.state is not State.SUSPECT or health.code:
        return health
    return Health(since=health.since, falls=health.falls) if health.falls else HEALTHY
