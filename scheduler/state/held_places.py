"""Places held for workloads that Kueue has admitted, and for the successors of pods that leave a failed card.

A place is a reservation in the ledger, so nothing else can get it: neither another workload nor a pod that Kueue does
not know. The lock is taken once for each place.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kerf.values.ask import ContainerAsk, PodAsk, Stages
from kerf.values.grant import Grant
from kerf.values.node import Node
from scheduler.state.answers import Member, NoPlace
from scheduler.state.bookings import Booking
from scheduler.state.ledger import Ledger

Seek = Callable[[PodAsk, Sequence[str], Stages], tuple[str, Grant] | NoPlace]
"""The best of some nodes for a pod; called under the lock."""


@dataclass(frozen=True, slots=True)
class _Place:
    key: str
    """The workload, or the controller that makes the successor."""
    uid: str
    namespace: str
    containers: tuple[ContainerAsk, ...]


class HeldPlaces:
    """The places by the uid of their workload."""

    def __init__(self, lock: threading.RLock, ledger: Ledger, seek: Seek, pause: Callable[[], None]) -> None:
        self._lock = lock
        self._ledger = ledger
        self._seek = seek
        self._pause = pause
        self._places: dict[str, list[_Place]] = {}
        self._seated: set[str] = set()
        """Pods that took a place or gave one back."""

    def hold(self, workload: str, members: Sequence[Member], nodes: Sequence[Node], until: float) -> NoPlace | None:
        """Hold a place on the nodes for every pod of a workload, or for none and say why. `until` is monotonic."""
        self.drop(workload)
        names: list[str] = []
        for number, member in enumerate(members):
            if not number or member is not members[number - 1]:  # those of a podset come together
                names = [node.name for node in nodes if member.allows(node)]
            with self._lock:  # one place costs more than one filter
                missing = self._hold_one(workload, number, member, (names, until))
            if missing is not None:
                self.drop(workload)
                return _of_several(missing, number, len(members))
            self._pause()
        return None

    def drop(self, workload: str) -> None:
        """Give back what is still held for a workload."""
        with self._lock:
            for place in self._places.pop(workload, ()):
                self._ledger.drop_reservation(place.uid)

    def hold_for_successor(self, pod: str, member: Member, nodes: Sequence[Node], until: float) -> NoPlace | None:
        """Hold a place for the pod that a controller makes once `pod` is gone. Quota counts one of the two."""
        names = [node.name for node in nodes if member.allows(node)]
        with self._lock:
            self._prune(member.ask.owner)
            self._ledger.count_successor(pod)
            ask = replace(member.ask, uid=_successor(pod))
            found = self._seek(ask, names, member.stages)
            if isinstance(found, NoPlace):
                self._ledger.count_again(pod)
                return found
            self._keep(ask.owner, ask, found, (member.stages, until))
            return None

    def drop_successor(self, pod: str, owner: str) -> None:
        """The pod stays: give its successor's place back."""
        with self._lock:
            for place in [place for place in self._places.get(owner, ()) if place.uid == _successor(pod)]:
                self._give(place)
            self._ledger.count_again(pod)

    # ---- under the lock
    def nodes(self, ask: PodAsk) -> list[str]:
        """Where places are held that this pod may take."""
        return sorted({booking.node for _, booking in self._usable(ask)})

    def take(self, ask: PodAsk, node: str) -> Grant | None:
        """The grant of a place on this node that the pod takes, None if there is none."""
        for place, held in self._usable(ask):
            if held.node == node and held.holding is not None:
                self._give(place)
                self._seated.add(ask.uid)
                return held.holding.grant
        return None

    def pass_by(self, ask: PodAsk) -> None:
        """The pod was placed without using its workload's reservation: give one place back, once a pod.

        Also called when a bound pod is seen: it may have been bound before its annotation was known.
        """
        if ask.uid in self._seated:
            return
        for place in self._for(ask)[:1]:
            self._seated.add(ask.uid)
            self._give(place)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._seated.discard(uid)

    # ---- inside
    def _hold_one(
        self, workload: str, number: int, member: Member, where: tuple[Sequence[str], float]
    ) -> NoPlace | None:
        names, until = where
        ask = replace(member.ask, uid=f"{workload}/{number}")
        found = self._seek(ask, names, member.stages)
        if isinstance(found, NoPlace):
            return found
        self._keep(workload, ask, found, (member.stages, until))
        return None

    def _keep(self, key: str, ask: PodAsk, found: tuple[str, Grant], how: tuple[Stages, float]) -> None:
        (node, grant), (stages, until) = found, how
        self._places.setdefault(key, []).append(_Place(key, ask.uid, ask.namespace, ask.containers))
        self._ledger.reserve(ask, node, grant, stages, until)

    def _give(self, place: _Place) -> None:
        self._places[place.key].remove(place)
        self._ledger.drop_reservation(place.uid)

    def _prune(self, key: str) -> None:
        """Forget places whose reservation is over."""
        left = [place for place in self._places.pop(key, ()) if self._ledger.reservation(place.uid) is not None]
        if left:
            self._places[key] = left

    def _usable(self, ask: PodAsk) -> list[tuple[_Place, Booking]]:
        """The places that the pod may take, with their reservations. One on a card that has failed is given back."""
        found = []
        for place in self._for(ask):
            held = self._ledger.reservation(place.uid)
            if held is not None and self._ledger.is_usable(held):
                found.append((place, held))
            elif held is not None:
                self._give(place)
        return found

    def _for(self, ask: PodAsk) -> list[_Place]:
        if not self._places:
            return []
        places = [place for key in (ask.admission, ask.owner) if key for place in self._places.get(key, ())]
        return [place for place in places if (place.namespace, place.containers) == (ask.namespace, ask.containers)]


def _successor(pod: str) -> str:
    return f"{pod}/successor"


def _of_several(missing: NoPlace, number: int, count: int) -> NoPlace:
    if count == 1:
        return missing
    return NoPlace(f"{number} of {count} pods fit together; pod {number + 1}: {missing.sentence}", missing.final)
