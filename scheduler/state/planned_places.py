"""The places that a fleet's plan has in this cluster, by part of a workload, and which of them are taken.

They are wishes of the fleet, not reservations: any other pod may take such a card. The caller holds the lock.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from kerf.values.fleet import PartPlaces, PlannedPlace
from kerf.values.grant import CardUse

Cards = tuple[str, ...]


class PlannedPlaces:
    """Places come with the objects that list them, and are taken by pods that hold exactly their cards."""

    def __init__(self) -> None:
        self._listed: dict[str, PartPlaces] = {}
        """What each object lists."""
        self._places: dict[str, tuple[PlannedPlace, ...]] = {}
        self._taken: dict[str, Counter[Cards]] = {}
        self._after_preferences: set[str] = set()

    def put(self, name: str, listed: PartPlaces) -> None:
        """An object lists these places."""
        self.drop(name)
        self._listed[name] = listed
        self._collect(listed.part)

    def drop(self, name: str) -> None:
        """The object is gone. No-op where there is none."""
        known = self._listed.pop(name, None)
        if known is not None:
            self._collect(known.part)

    def come_first(self, part: str) -> bool:
        """Whether the part's places come before all that its pods prefer."""
        return part not in self._after_preferences

    def open(self, part: str) -> Iterator[PlannedPlace]:
        """The part's places that fewer pods hold than they are for."""
        taken = self._taken.get(part, Counter[Cards]())
        return (place for place in self._places.get(part, ()) if taken[place.cards] < place.pods)

    def take(self, part: str, uses: Mapping[str, CardUse]) -> None:
        """A pod of the part holds these cards."""
        self._taken.setdefault(part, Counter())[tuple(sorted(uses))] += 1

    def give(self, part: str, uses: Mapping[str, CardUse]) -> None:
        """It holds them no longer."""
        taken = self._taken[part]
        cards = tuple(sorted(uses))
        taken[cards] -= 1
        if not taken[cards]:
            del taken[cards]
        if not taken:
            del self._taken[part]

    def _collect(self, part: str) -> None:
        listed = [each for each in self._listed.values() if each.part == part]
        self._after_preferences.discard(part)
        self._places.pop(part, None)
        if listed:
            self._places[part] = tuple(place for each in listed for place in each.places)
        if any(each.after_preferences for each in listed):
            self._after_preferences.add(part)
