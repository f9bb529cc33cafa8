"""Scratch books of quota: what each tenant and namespace may still take while a plan is being made."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kerf.values.ask import PodAsk, Selection, Stage
from kerf.values.device import Card
from kerf.values.grant import Grant
from kerf.values.quota import (
    DIMENSIONS,
    Amount,
    CardClass,
    Usage,
    a_card_of,
    class_of,
    usage_of_ask,
    usage_of_grant,
)
from scheduler.solver.problem import QuotaRoom, rooms_of

Drawn = tuple[tuple[int, str, Amount], ...]
"""What a pod takes: position of the room, class or vendor, amount."""


class Rooms:
    """What is left of every `QuotaRoom`. Mutable; without rooms nothing is limited and nothing is counted."""

    def __init__(self, quotas: tuple[QuotaRoom, ...], cards: Iterable[Card]) -> None:
        self.quotas = quotas
        self._slug_of: dict[str, str] = {}
        self._vendor_of: dict[str, str] = {}
        self._classes: dict[str, Card] = {}
        """The smallest card of each class."""
        self._confined: dict[tuple[object, ...], Selection | None] = {}
        for card in cards if quotas else ():
            slug = class_of(card).slug
            self._slug_of[card.id], self._vendor_of[card.id] = slug, card.vendor
            known = self._classes.get(slug)
            if known is None or card.factory_memory_mib < known.factory_memory_mib:
                self._classes[slug] = card

    def drawn(self, ask: PodAsk, grant: Grant, stages: tuple[tuple[str, Stage], ...]) -> Drawn:
        """What a pod takes of the rooms with this grant."""
        found: list[tuple[int, str, Amount]] = []
        for i in rooms_of(self.quotas, ask):
            names = self._vendor_of if self.quotas[i].by_vendor else self._slug_of
            found += [(i, name, amount) for name, amount in usage_of_grant(grant, stages, names).by]
        return tuple(found)

    def count(self, drawn: Drawn, sign: int) -> None:
        """Take what was drawn out of the rooms, or give it back (-1)."""
        if not drawn:
            return
        rooms = list(self.quotas)
        for i, name, amount in drawn:
            left = {**dict(rooms[i].left), name: rooms[i].bound(name).less(amount * sign)}
            rooms[i] = replace(rooms[i], left=tuple(sorted(left.items())))
        self.quotas = tuple(rooms)
        self._confined.clear()

    def allow(self, drawn: Drawn) -> bool:
        """Whether there is room for all of it."""
        return all(self.quotas[i].bound(name).first_broken(Amount(), amount) is None for i, name, amount in drawn)

    def confined(self, ask: PodAsk) -> Selection | None:
        """The pod's selection without the classes that have no room for it; None where nothing is left.

        Percentages count as of the smallest card of a class; `allow` has the exact word on a grant.
        """
        if not self.quotas:
            return ask.selection
        key = (ask.shape, rooms_of(self.quotas, ask))
        if key not in self._confined:
            self._confined[key] = self._confine(ask, key[1])
        return self._confined[key]

    def _confine(self, ask: PodAsk, mine: Iterable[int]) -> Selection | None:
        selection = ask.selection
        for i in mine:
            room = self.quotas[i]
            if not room.by_vendor:
                slugs = [slug for slug in self._classes if self._open(ask, selection, slug, room)]
                vendors = {container.vendor for container in ask.containers}
                selection = replace(selection, classes=tuple(sorted(slugs)))
                if not all(selection.classes_of(vendor) for vendor in vendors):
                    return None
            elif not self._vendor_open(ask, room):
                return None
        return selection

    def _open(self, ask: PodAsk, selection: Selection, slug: str, room: QuotaRoom) -> bool:
        card = self._classes[slug]
        known = selection.classes_of(card.vendor)
        asked = usage_of_ask(ask, card).of(card.vendor)
        return (not known or slug in known) and room.bound(slug).first_broken(Amount(), asked) is None

    def _vendor_open(self, ask: PodAsk, room: QuotaRoom) -> bool:
        smallest = min((card.factory_memory_mib for card in self._classes.values()), default=0)
        asked: Usage = usage_of_ask(ask, a_card_of(CardClass("", ""), smallest))
        return all(room.bound(vendor).first_broken(Amount(), amount) is None for vendor, amount in asked.by)


def limits(quotas: tuple[QuotaRoom, ...], room: int, name: str) -> Mapping[str, int]:
    """What is left of a class or vendor, dimension by dimension; those without a limit are left out."""
    bound = quotas[room].bound(name)
    return {dimension: left for dimension in DIMENSIONS if (left := bound.of(dimension)) is not None}
