"""Kinds of cards for new pods of files: chosen by the scheduler's own code, each beside the pods before it."""

from collections.abc import Callable, Iterable

from kerf.pricing.prices import PriceList
from kerf.wire.accepts import ACCEPTS
from kerf.wire.choosing import KindAnswer, KindQuestion
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from scheduler.choosing.chooser import Chooser
from scheduler.core.eligible import eligible_nodes
from scheduler.state.answers import NoPlace
from scheduler.state.store import Store


class OfflineKinds:
    """A scheduler of the world's own; without pods that accept several kinds it is never made."""

    def __init__(self, store: Callable[[], Store], prices: Callable[[], PriceList], pods: Iterable[Json]) -> None:
        self._store = store() if any(ACCEPTS in at(pod, "metadata", "annotations") for pod in pods) else None
        self._chooser = Chooser(self._store, prices) if self._store else None

    def choose(self, question: KindQuestion) -> KindAnswer:
        """The kind, and why."""
        assert self._chooser is not None, "only a pod that accepts kinds is asked about"
        return self._chooser.choose(KindQuestion(question.kinds, keep=False))

    def place(self, pod: Json) -> None:
        """What the pod takes is taken; a pod that has no place takes nothing."""
        if self._store is None:
            return
        desk = self._store.desk
        try:
            ask, stages = desk.read(pod)
        except WireError:
            return
        found = desk.look(ask, eligible_nodes(at(pod, "spec"), desk.nodes()), stages, ()) if ask.containers else None
        if found is not None and not isinstance(found, NoPlace):
            desk.assume(ask, found[0], stages)
