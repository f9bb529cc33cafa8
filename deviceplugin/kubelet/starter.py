"""PreStartContainer: from slot ids to files on disk, within the kubelet's deadline."""

from collections.abc import Callable
from typing import Any

from deviceplugin.core.identify import Held, Recorded, Slots, owner, owner_uid, starts
from deviceplugin.core.refusal import Refusal, Why
from deviceplugin.core.slots import inherited, stem
from deviceplugin.kubelet.admission import Admission, Listing
from deviceplugin.kubelet.patience import CALL_S, ask
from deviceplugin.kubelet.podresources import PodResources

Json = dict[str, Any]
Tell = Callable[[Json, Refusal], None]


class Starter:
    """Decides whether the container with these slots may start now, and makes ready what it needs."""

    def __init__(self, admission: Admission, resources: PodResources, tell: Tell) -> None:
        self._admission = admission
        self._resources = resources
        self._tell = tell

    def start(self, slots: Slots, budget_s: float) -> Refusal | None:
        """None once everything the container needs is on disk. Raises Unavailable."""
        return ask(lambda: self._decide(slots), budget_s)

    def _decide(self, slots: Slots) -> Refusal | None:
        """A "no" is spoken only after a fresh look at the pods."""
        refusal, _ = self._attempt(slots, fresh=False)
        if refusal is None:
            return None
        refusal, pod = self._attempt(slots, fresh=True)
        if refusal is not None and pod is not None and refusal.why is not Why.UNKNOWN_POD:
            self._tell(pod, refusal)
        return refusal

    def _attempt(self, slots: Slots, *, fresh: bool) -> tuple[Refusal | None, Json | None]:
        held = self._resources.held(CALL_S)
        found = owner(slots, held)
        if isinstance(found, Refusal):
            return found, None
        listing = self._admission.list_pods(fresh=fresh)
        recorded = self._resources.recorded()
        if found is None:
            live = frozenset(str(pod["metadata"].get("uid")) for pod in listing.pods)
            uid = owner_uid(slots, recorded or (), live)
            pod = listing.by_uid(uid) if uid else None
        else:
            pod = listing.named(*found)
        if pod is None:
            return _nobody(slots, found), None
        return self._let_in(pod, listing, slots, (held, recorded)), pod

    def _let_in(
        self, pod: Json, listing: Listing, slots: Slots, kubelet: tuple[tuple[Held, ...], tuple[Recorded, ...] | None]
    ) -> Refusal | None:
        if inherited(slots) and self._admission.moved_over(pod):
            return None  # the kubelet kept HAMi's answer, which names no device of Kerf's: nothing is to be written
        holding = self._admission.holding(pod)
        if isinstance(holding, Refusal):
            return holding
        found = starts(slots, holding, *kubelet)
        if isinstance(found, Refusal):
            return found
        return self._admission.let_in(pod, listing, stem(slots), found)


def _nobody(slots: Slots, found: tuple[str, str] | None) -> Refusal:
    if found is not None:
        message = f"pod {'/'.join(found)} holds slots {', '.join(slots)} but is not bound to this node"
        return Refusal(Why.NOT_HERE, message, lasting=False)
    return Refusal(Why.UNKNOWN_POD, f"the kubelet does not say whose slots {', '.join(slots)} are", lasting=False)
