"""Places held for workloads that Kueue has admitted, until their pods take them.

A place is a reservation in the ledger, so nothing else can get it: neither another workload nor a pod that Kueue does
not know. The lock is taken once for each place.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kerf.values.ask import ContainerAsk, PodAsk, Stages
from kerf.values.grant import Grant
from kerf.values.node import Node
from scheduler.state.answers import Member, NoPlace
from scheduler.state.ledger import Ledger

Seek = Callable[[PodAsk, Sequence[str], Stages], tuple[str, Grant] | NoPlace]
"""The best of some nodes for a pod; called under the lock."""


@dataclass(frozen=True, slots=True)
class _Place:
    uid: str
    namespace: str
    containers: tuple[ContainerAsk, ...]


class HeldPlaces:
    """The places by the uid of their workload."""

    def __init__(self, lock: threading.RLock, ledger: Ledger, seek: Seek) -> None:
        self._lock = lock
        self._ledger = ledger
        self._seek = seek
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
            time.sleep(0)  # a filter that waits for the lock gets it now
        return None

    def drop(self, workload: str) -> None:
        """Give back what is still held for a workload."""
        with self._lock:
            for place in self._places.pop(workload, ()):
                self._ledger.drop_reservation(place.uid)

    # ---- under the lock
    def nodes(self, ask: PodAsk) -> list[str]:
        """Where places are held that this pod may take."""
        found = (self._ledger.reservation(place.uid) for place in self._for(ask))
        return sorted({booking.node for booking in found if booking is not None})

    def take(self, ask: PodAsk, node: str) -> Grant | None:
        """The grant of a place on this node that the pod takes, None if there is none."""
        for place in self._for(ask):
            held = self._ledger.reservation(place.uid)
            if held is not None and held.node == node and held.holding is not None:
                self._give(ask.admission, place)
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
            self._give(ask.admission, place)

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
        node, grant = found
        self._places.setdefault(workload, []).append(_Place(ask.uid, ask.namespace, ask.containers))
        self._ledger.reserve(ask, node, grant, member.stages, until)
        return None

    def _give(self, workload: str, place: _Place) -> None:
        self._places[workload].remove(place)
        self._ledger.drop_reservation(place.uid)

    def _for(self, ask: PodAsk) -> list[_Place]:
        if not ask.admission:
            return []
        places = self._places.get(ask.admission, ())
        return [place for place in places if (place.namespace, place.containers) == (ask.namespace, ask.containers)]


def _of_several(missing: NoPlace, number: int, count: int) -> NoPlace:
    if count == 1:
        return missing
    return NoPlace(f"{number} of {count} pods fit together; pod {number + 1}: {missing.sentence}", missing.final)
