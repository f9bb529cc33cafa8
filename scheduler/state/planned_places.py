"""The places that a fleet's plan has in this cluster, by part of a workload, and which of them are taken.

They are wishes of the fleet, not reservations: any other pod may take such a card. The caller holds the lock.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kerf.values.fleet import PlannedPlace
from kerf.values.grant import CardUse

Cards = tuple[str, ...]


class PlannedPlaces:
    """Places come with the objects that list them, and are taken by pods that hold exactly their cards."""

    def __init__(self) -> None:
        self._listed: dict[str, tuple[str, tuple[PlannedPlace, ...]]] = {}
        """The part and its places, by the object that lists them."""
        self._places: dict[str, tuple[PlannedPlace, ...]] = {}
        self._taken: dict[str, Counter[Cards]] = {}

    def put(self, name: str, part: str, places: Sequence[PlannedPlace]) -> None:
        """An object lists these places."""
        self.drop(name)
        self._listed[name] = (part, tuple(places))
        self._collect(part)

    def drop(self, name: str) -> None:
        """The object is gone. No-op where there is none."""
        known = self._listed.pop(name, None)
        if known is not None:
            self._collect(known[0])

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
        found = [place for mine, places in self._listed.values() if mine == part for place in places]
        if found:
            self._places[part] = tuple(found)
        else:
            self._places.pop(part, None)
