"""Places held for workloads that Kueue has admitted, until their pods take them.

A place is a reservation in the ledger, so nobody else can be given it: neither another workload nor a pod that Kueue
does not know. The caller holds the store's lock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kerf.values.ask import ContainerAsk, PodAsk, Stages
from kerf.values.grant import Grant
from kerf.values.node import Node
from kerf.values.verdict import FOREVER, Misfit, Reason
from scheduler.core.columns import Ints
from scheduler.core.eligible import NOT_ELIGIBLE
from scheduler.core.explain import explain_misfit

if TYPE_CHECKING:
    from scheduler.state.store import Store


@dataclass(frozen=True, slots=True)
class Member:
    """One pod of a workload: what it asks, its containers' stages, and which nodes its own words allow."""

    ask: PodAsk
    stages: Stages
    allows: Callable[[Node], bool]


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why a workload's pods do not fit. `final`: no waiting helps, the hardware is not there."""

    sentence: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    uid: str
    namespace: str
    containers: tuple[ContainerAsk, ...]


class HeldPlaces:
    """The places by the uid of their workload."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._places: dict[str, list[_Place]] = {}
        self._seated: set[str] = set()
        """Pods that took a place or gave one back."""

    def __contains__(self, workload: str) -> bool:
        return workload in self._places

    def hold(self, workload: str, members: Sequence[Member], until: float) -> NoPlace | None:
        """Hold a place for every pod of a workload, or for none and say why. `until` is monotonic seconds."""
        self.drop(workload)
        held = self._places.setdefault(workload, [])
        nodes, names = sorted(self._store.node_values(), key=lambda node: node.name), []
        for number, member in enumerate(members):
            if not number or member is not members[number - 1]:  # those of a podset come together
                names = [node.name for node in nodes if member.allows(node)]
            uid = f"{workload}/{number}"
            ask = replace(member.ask, uid=uid)
            node, grant = self._best(ask, member, names)
            if not isinstance(grant, Grant):
                self.drop(workload)
                return self._say(grant, number, len(members))
            held.append(_Place(uid, ask.namespace, ask.containers))
            self._store.hold(ask, node, grant, member.stages, until)
        return None

    def drop(self, workload: str) -> None:
        """Give back what is still held for a workload."""
        for place in self._places.pop(workload, ()):
            self._store.drop_reservation(place.uid)

    def nodes(self, ask: PodAsk) -> list[str]:
        """Where places are held that this pod may take."""
        found = (self._store.reservation(place.uid) for place in self._for(ask))
        return sorted({booking.node for booking in found if booking is not None})

    def take(self, ask: PodAsk, node: str) -> Grant | None:
        """The grant of a place on this node that the pod takes, None if there is none."""
        for place in self._for(ask):
            held = self._store.reservation(place.uid)
            if held is not None and held.node == node and held.holding is not None:
                self._give(ask.admission, place)
                self._seated.add(ask.uid)
                return held.holding.grant
        return None

    def pass_by(self, ask: PodAsk) -> None:
        """The pod got its grant past its workload's places: one of them is given back, once a pod.

        Also called when a bound pod is seen: the bind may have known the pod from before it was told its workload.
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
    def _give(self, workload: str, place: _Place) -> None:
        self._places[workload].remove(place)
        self._store.drop_reservation(place.uid)

    def _for(self, ask: PodAsk) -> list[_Place]:
        if not ask.admission:
            return []
        places = self._places.get(ask.admission, ())
        return [place for place in places if (place.namespace, place.containers) == (ask.namespace, ask.containers)]

    def _best(self, ask: PodAsk, member: Member, names: list[str]) -> tuple[str, Grant | NoPlace]:
        """The best of the nodes that the member's own words allow, and the grant there."""
        if not names:
            return "", NoPlace(NOT_ELIGIBLE)
        store = self._store
        rows = store.fleet.rows(names)
        good = np.flatnonzero(store.engine.room(ask, rows))
        if not len(good):
            return "", self._why_not(ask, rows)
        best_first = good[np.argsort(store.engine.scores(ask, rows)[good], kind="stable")[::-1]]
        misfit = Misfit(Reason.MEMORY)
        for position in best_first.tolist():
            found = store.place(ask, names[position], member.stages)
            if isinstance(found, Grant):
                return names[position], found
            misfit = found
        return "", NoPlace(explain_misfit(misfit))

    def _why_not(self, ask: PodAsk, rows: Ints) -> NoPlace:
        answer = self._store.engine.query(ask, rows)
        if answer.feasible.any():
            return NoPlace(f"needs {ask.cpu_milli:,} thousandths of a core and {ask.memory_mib:,} MiB beside its cards")
        final = {Reason(code) for code in np.unique(answer.reasons).tolist()} <= FOREVER
        return NoPlace(self._store.engine.explain(ask, rows).sentence, final)

    def _say(self, miss: NoPlace | Misfit, number: int, count: int) -> NoPlace:
        sentence = miss.sentence if isinstance(miss, NoPlace) else miss.detail
        final = isinstance(miss, NoPlace) and miss.final
        if count == 1:
            return NoPlace(sentence, final)
        return NoPlace(f"{number} of its {count} pods fit beside each other; the next one {sentence}", final)
