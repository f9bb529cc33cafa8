"""What nodes have beside their cards and what every pod takes of it, kept up to date by watches. Safe from threads.

kube-scheduler counts the same for the pods that it places. Everything is counted here: pods without cards, pods of
other schedulers, and what the lane itself has promised and no watch shows yet.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile

import numpy as np

from kerf.wire.json import Json, text_at
from scheduler.core.neighbours import LOOKED_AT, Terms
from scheduler.core.node_list import NodeList
from scheduler.core.wishes import Wishes
from scheduler.express.closed import Closed
from scheduler.express.demanded import Demanded
from scheduler.express.grid import Amounts, Grid
from scheduler.express.nodes import Demands, Place, place_of
from scheduler.express.seen import Gone, OnNode, Pending, Seen, see

RECENT_S = 5.0
"""For this long after the lane gave away room of a node, kube-scheduler's own choice of the node is checked again."""
FORGET_S = 600.0
"""For this long after a bind a refusal by the kubelet counts as one of the lane's."""
NOTICE_S = 1.0
"""What kube-scheduler's watch has surely delivered after this long."""
MOST_DEMANDS = 512


@dataclass(frozen=True, slots=True)
class Open:
    """The nodes that are open to a pod, cards apart, and what it prefers among them."""

    names: NodeList
    wishes: Wishes | None


@dataclass(slots=True)
class _Promise:
    """Room that the lane has given to a pod and that no watch shows yet."""

    node: str
    amounts: Amounts
    until: float


class Terrain:
    """Room on the nodes, and the pods that wait for it."""

    def __init__(
        self,
        words: frozenset[str],
        ignored: frozenset[str],
        refused: Callable[[str, str], None],
        charged: Callable[[str, str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`words` ask for cards, `ignored` are what no node limits; `refused(node, reason)` hears of kubelets' no.

        `charged(uid, node)` says whether a pod holds cards there, or may.
        """
        self._words, self._ignored, self._charged, self._clock = words, ignored, charged, clock
        self._on_refused = refused
        self._changed = threading.Condition()
        self._places: dict[str, Place] = {}
        self._grid = Grid()
        self._demands: dict[Demands, Demanded] = {}
        self._bound: dict[str, OnNode] = {}
        self._pending: dict[str, Pending] = {}
        self._since: dict[str, float] = {}
        """Since when a scheduler may take a pending pod."""
        self._promises: dict[str, _Promise] = {}
        self._given: dict[str, tuple[str, float]] = {}
        """By uid of a pod that the lane has bound, its node and when; the oldest first."""
        self._kept: dict[str, _Promise] = {}
        """Room on the nodes on which pods have cards reserved, or may be bound."""
        self._closed = Closed(clock)
        self._terms = Terms()
        self._eligible: Counter[str] = Counter()
        self._touched: dict[str, float] = {}
        """When the lane last gave away room of a node."""

    # ---- watches
    def replace_nodes(self, items: Sequence[Json]) -> None:
        """The whole list of nodes."""
        names = set()
        for item in items:
            self.change_node("MODIFIED", item)
            names.add(text_at(item, "metadata", "name"))
        for name in [name for name in self._places if name not in names]:
            self.change_node("DELETED", {"metadata": {"name": name}})

    def change_node(self, kind: str, item: Json) -> None:
        """One node event."""
        place = place_of(item)
        with self._changed:
            if kind == "DELETED":
                if self._places.pop(place.name, None) is not None:
                    self._grid.remove(place.name)
            elif self._places.get(place.name) != place:
                self._put(place)

    def replace_pods(self, items: Sequence[Json]) -> None:
        """The whole list of pods."""
        for item in items:
            self.change_pod("MODIFIED", item)
        uids = {str(item["metadata"].get("uid", "")) for item in items}
        with self._changed:
            for uid in [uid for known in (self._bound, self._pending) for uid in known if uid not in uids]:
                self._apply(Gone(uid))

    def change_pod(self, kind: str, item: Json) -> None:
        """One pod event."""
        seen = see(kind, item, self._words, self._ignored)
        with self._changed:
            self._apply(seen)
            self._changed.notify_all()

    # ---- questions
    def pending(self, uid: str) -> Pending | None:
        """A pod without a node."""
        return self._pending.get(uid)

    def eligible(self, scheduler: str) -> int:
        """How many pods wait for this scheduler of which the lane understands every field."""
        return self._eligible[scheduler]

    def queue(self, scheduler: str) -> list[Pending]:
        """The pods that wait for this scheduler without a promise; one that another pod looks at is left."""
        with self._changed:
            waiting = [
                one for one in self._pending.values() if one.scheduler == scheduler and one.uid not in self._promises
            ]
            if not self._terms:
                return waiting
            kinds = {(one.namespace, one.labels) for one in waiting}
            looked_at = {kind for kind in kinds if self._terms.look_at(*kind)}
        looks = (not one.left and (one.namespace, one.labels) in looked_at for one in waiting)
        return [replace(one, left=LOOKED_AT) if met else one for one, met in zip(waiting, looks, strict=True)]

    def overtaken(self, first: Pending, asked: float) -> set[str]:
        """The pods that kube-scheduler does not have in its queue: they come before one that it has taken.

        It asked about that one at a monotonic time; what it can have seen only then counts as in its queue. It keeps
        pods out of it whose claims or groups do not exist, and says so nowhere; and it may be binding one already.
        """
        with self._changed:
            theirs = [pod for pod in self._pending.values() if pod.left and pod.scheduler == first.scheduler]
            before = [pod.uid for pod in theirs if pod.rank < first.rank]
            return {uid for uid in before if self._since[uid] < asked - NOTICE_S}

    def open_to(self, pod: Pending) -> Open:
        """The nodes that allow a pod, have room for it, and are no preempting pod's."""
        with self._changed:
            demanded = self._demanded(pod.demands)
            self._count_kept(pod.uid, -1)
            fits = demanded.allowed & self._grid.room(pod.amounts)
            self._count_kept(pod.uid, 1)
            for node in self._closed.names():
                if (row := self._grid.rows.get(node)) is not None:
                    fits[row] = False
            rows = np.flatnonzero(fits)
            weights, taints = demanded.weights[rows], demanded.taints[rows]
            wishes = Wishes(weights, taints) if weights.any() or taints.any() else None
            return Open(NodeList(self._grid.roster, rows), wishes)

    def take(self, uid: str, node: str, seconds: float) -> bool:
        """Count a pod that kube-scheduler is about to bind. False where the lane has just given its room away."""
        with self._changed:
            pod = self._pending.get(uid)
            if pod is None or node not in self._grid.rows:
                return True
            promise = self._promises.get(uid)
            if promise is not None and promise.node == node:
                promise.until = self._clock() + seconds
                return True
            if promise is not None and self._charged(uid, promise.node):
                return True  # it may be bound there already, and nobody binds it elsewhere
            self._drop(self._promises, uid)  # kube-scheduler prefers another node to the one that was kept for it
            recent = self._touched.get(node, -RECENT_S) > self._clock() - RECENT_S
            if recent and not self._has_room(node, pod):
                return False
            self._promise(pod, node, seconds)
            return True

    def await_bound(self, uids: Collection[str], seconds: float) -> bool:
        """Wait until the watch shows these pods on nodes, or gone, or what they were promised was withdrawn."""

        def settled() -> bool:
            return not any(uid in self._pending and uid in self._promises for uid in uids)

        with self._changed:
            return self._changed.wait_for(settled, seconds)

    # ---- promises
    def promise(self, pod: Pending, node: str, seconds: float) -> bool:
        """Count a pod on a node until the watch shows it there, at most for so long.

        False where a pod of kube-scheduler's has taken the room since the node was open, or the pod waits no longer.
        """
        with self._changed:
            if pod.uid in self._promises:
                return self._promises[pod.uid].node == node
            if pod.uid not in self._pending or not self._has_room(node, pod):
                return False
            self._promise(pod, node, seconds)
            self._touched[node] = self._clock()
            return True

    def withdraw(self, uid: str) -> None:
        """Take a promise back. No-op if there is none."""
        with self._changed:
            self._drop(self._promises, uid)
            self._changed.notify_all()

    def keep(self, places: Mapping[str, str]) -> None:
        """Keep room on the nodes on which pods, by uid, have cards reserved, or may be bound: others might take it."""
        with self._changed:
            for uid in [uid for uid, kept in self._kept.items() if places.get(uid) != kept.node]:
                self._drop(self._kept, uid)
            for uid in places.keys() - self._kept.keys() - self._promises.keys():
                if (pod := self._pending.get(uid)) is not None:
                    self._kept[uid] = _Promise(places[uid], pod.amounts, math.inf)
                    self._grid.add(places[uid], pod.amounts, 1)

    def preempts(self, uid: str, nodes: Collection[str]) -> None:
        """On one of these nodes others end for a pod; the watch says in a moment on which."""
        with self._changed:
            self._closed.preempts(uid, nodes)

    def given(self, uid: str, node: str) -> None:
        """The lane has bound a pod."""
        with self._changed:
            self._given.pop(uid, None)
            self._given[uid] = (node, self._clock())

    def gave(self, uid: str) -> bool:
        """Whether the lane has bound a pod."""
        return uid in self._given

    def tidy(self) -> None:
        """Drop promises that were not kept and what is too old to matter.

        A pod that is bound, or may be, keeps its room for as long as it keeps its cards, however late the watch is.
        """
        now = self._clock()
        late = [(uid, promise.node) for uid, promise in list(self._promises.items()) if promise.until < now]
        for uid, node in late:
            if not self._charged(uid, node):
                self.withdraw(uid)
        with self._changed:
            for uid in list(takewhile(lambda uid: self._given[uid][1] <= now - FORGET_S, self._given)):
                del self._given[uid]
            self._closed.tidy()
            if self._grid.is_sparse():
                self._count_again()
            self._touched = {node: at for node, at in self._touched.items() if at > now - RECENT_S}

    # ---- inside, under the lock
    def _apply(self, seen: Seen) -> None:
        uid = seen.uid
        before = self._bound.pop(uid, None)
        waited = self._pending.pop(uid, None)
        since = self._since.pop(uid, 0.0)
        if waited is not None:
            self._eligible[waited.scheduler] -= not waited.left
        for old in (before, waited):
            if old is not None:
                self._terms.drop(old.terms)
        if before is not None:
            self._grid.add(before.node, before.amounts, -1)
        self._drop(self._kept, uid)
        match seen:
            case Pending():
                self._pending[uid] = seen
                self._eligible[seen.scheduler] += not seen.left
                self._since[uid] = self._clock() if waited is None or waited.held_back else since
                self._closed.nominate(uid, seen.nominated)
            case OnNode():
                self._bound[uid] = seen
                self._grid.add(seen.node, seen.amounts, 1)
            case Gone():
                self._refused(seen)
        if not isinstance(seen, Pending):
            self._drop(self._promises, uid)
            self._closed.forget(uid)
        if not isinstance(seen, Gone):
            self._terms.add(seen.terms)

    def _promise(self, pod: Pending, node: str, seconds: float) -> None:
        self._drop(self._kept, pod.uid)
        self._promises[pod.uid] = _Promise(node, pod.amounts, self._clock() + seconds)
        self._grid.add(node, pod.amounts, 1)

    def _drop(self, known: dict[str, _Promise], uid: str) -> None:
        """What was promised or kept is not to be counted any longer: the watch shows it by now, or it will not be."""
        if promise := known.pop(uid, None):
            self._grid.add(promise.node, promise.amounts, -1)

    def _refused(self, gone: Gone) -> None:
        node, _ = self._given.pop(gone.uid, ("", 0.0))
        if node and gone.refused:
            self._closed.avoid(node)
            self._on_refused(node, gone.refused)

    def _has_room(self, node: str, pod: Pending) -> bool:
        self._count_kept(pod.uid, -1)
        room = self._grid.has_room(node, pod.amounts)
        self._count_kept(pod.uid, 1)
        return room

    def _count_kept(self, uid: str, sign: int) -> None:
        """What is kept for a pod does not count while it is asked where the pod itself has room."""
        if kept := self._kept.get(uid):
            self._grid.add(kept.node, kept.amounts, sign)

    def _demanded(self, demands: Demands) -> Demanded:
        """What a demand says of every node: only those that have changed since are asked again."""
        known = self._demands.get(demands)
        grid = self._grid
        if known is None:
            if len(self._demands) >= MOST_DEMANDS:
                self._demands.clear()
            known = self._demands[demands] = Demanded.nothing(len(grid.present))
        if len(known.allowed) < len(grid.present):
            known.grow(len(grid.present))
        for row in np.flatnonzero(grid.changed_at > known.version).tolist():
            if (place := self._places.get(grid.roster.names[row])) is not None:
                allowed = demands.allow(place)
                known.put(row, allowed, demands.wish(place) if allowed else (0, 0))
        known.version = grid.version
        return known

    def _put(self, place: Place) -> None:
        self._places[place.name] = place
        if fresh := self._grid.put(place.name, place.allocatable):
            for holder in self._holders():
                self._grid.add(holder.node, ((name, amount) for name, amount in holder.amounts if name in fresh), 1)

    def _holders(self) -> Iterator[OnNode | _Promise]:
        """All that use room, or have it promised or kept."""
        return chain(self._bound.values(), self._promises.values(), self._kept.values())

    def _count_again(self) -> None:
        """Without the nodes that have gone."""
        self._grid, self._demands = Grid(), {}
        for place in self._places.values():
            self._grid.put(place.name, place.allocatable)
        for holder in self._holders():
            self._grid.add(holder.node, holder.amounts, 1)
