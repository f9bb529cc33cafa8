"""PreStartContainer: identify the pod and container by slots, then ask the gate, within the kubelet's deadline."""

from collections.abc import Callable

from deviceplugin.core.check import part_of
from deviceplugin.core.identify import Held, Recorded, Slots, owner_of, owner_uid_of, starts
from deviceplugin.core.refusal import StartRefusal, Why
from deviceplugin.core.slots import inherited, stem
from deviceplugin.gate.pods import PodList
from deviceplugin.gate.start import StartGate
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.kubelet.retry import CALL_S, until_deadline
from kerf.kube.client import Json

Report = Callable[[Json, StartRefusal], None]


class Starter:
    """Whether the container with these slots of one vendor may start now. Writes the files that it needs."""

    def __init__(self, vendor: str, gate: StartGate, resources: PodResources, report: Report) -> None:
        self._vendor = vendor
        self._gate = gate
        self._resources = resources
        self._report = report

    def start(self, slots: Slots, budget_s: float) -> StartRefusal | None:
        """None once everything that the container needs is on disk. Raises Unavailable."""
        return until_deadline(lambda: self._decide(slots), budget_s)

    def _decide(self, slots: Slots) -> StartRefusal | None:
        """Refuses only after a fresh list of the pods."""
        refusal, _ = self._attempt(slots, fresh=False)
        if refusal is None:
            return None
        refusal, pod = self._attempt(slots, fresh=True)
        if refusal is not None and pod is not None and refusal.why is not Why.UNKNOWN_POD:
            self._report(pod, refusal)
        return refusal

    def _attempt(self, slots: Slots, *, fresh: bool) -> tuple[StartRefusal | None, Json | None]:
        held = self._resources.held(CALL_S)
        found = owner_of(slots, held)
        if isinstance(found, StartRefusal):
            return found, None
        listing = self._gate.pods.list(fresh=fresh)
        recorded = self._resources.recorded()
        if found is None:
            live = frozenset(str(pod["metadata"].get("uid")) for pod in listing.pods)
            uid = owner_uid_of(slots, recorded or (), live)
            pod = listing.by_uid(uid) if uid else None
        else:
            pod = listing.named(*found)
        if pod is None:
            return _not_found(slots, found), None
        return self._admit(pod, listing, slots, (held, recorded)), pod

    def _admit(
        self, pod: Json, listing: PodList, slots: Slots, kubelet: tuple[tuple[Held, ...], tuple[Recorded, ...] | None]
    ) -> StartRefusal | None:
        if inherited(slots) and self._gate.pods.placed_by_hami(pod):
            return None  # the kubelet kept HAMi's answer, which names no device of Kerf's: no file is needed
        holding = self._gate.pods.holding(pod)
        if isinstance(holding, StartRefusal):
            return holding
        found = starts(slots, part_of(holding, (self._vendor,)), *kubelet)
        if isinstance(found, StartRefusal):
            return found
        return self._gate.admit_pod(pod, listing, stem(slots), found, self._vendor)


def _not_found(slots: Slots, found: tuple[str, str] | None) -> StartRefusal:
    if found is not None:
        message = f"pod {'/'.join(found)} holds slots {', '.join(slots)} but is not bound to this node"
        return StartRefusal(Why.NOT_HERE, message, lasting=False)
    return StartRefusal(
        Why.UNKNOWN_POD, f"the kubelet has not reported a pod that holds slots {', '.join(slots)}", lasting=False
    )
