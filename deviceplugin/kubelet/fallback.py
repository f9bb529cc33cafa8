"""Runtimes without CDI: Allocate must return everything, so the pod must be known. It matches or refuses."""

import threading

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin.core.check import part_of
from deviceplugin.core.identify import Slots, owner_of
from deviceplugin.core.match import Match, Waiting, match
from deviceplugin.core.refusal import StartRefusal, Why
from deviceplugin.core.slots import stem
from deviceplugin.core.start import Start
from deviceplugin.gate.pods import PodList
from deviceplugin.gate.start import StartGate
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.kubelet.retry import CALL_S, until_deadline
from deviceplugin.state.allocations import Allocation, Allocations
from kerf.kube.client import Json
from kerf.wire.cdi import Edits

ALLOCATE_S = 10.0
"""Allocate has no deadline, but the kubelet admits no other pod until it answers."""


class Fallback:
    """Allocates by match; PreStartContainer verifies the match. One allocation at a time, like the kubelet."""

    def __init__(self, vendor: str, gate: StartGate, allocations: Allocations, resources: PodResources) -> None:
        self._vendor = vendor
        self._gate = gate
        self._allocations = allocations
        self._resources = resources
        self._lock = threading.Lock()

    def allocate(self, slots: Slots) -> dp.ContainerAllocateResponse | StartRefusal:
        """The environment and mounts of the one container these slots can be for. Raises Unavailable."""
        with self._lock:
            return until_deadline(lambda: self._allocate(slots), ALLOCATE_S)

    def start(self, slots: Slots, budget_s: float) -> StartRefusal | None:
        """Verify that the pod that holds the slots is the one they were allocated to. Raises Unavailable."""
        return until_deadline(lambda: self._verify(slots), budget_s)

    def _allocate(self, slots: Slots) -> dp.ContainerAllocateResponse | StartRefusal:
        listing = self._gate.pods.list(fresh=True)
        given = self._allocations.by_stem()
        found = match(len(slots), tuple(w for pod in listing.pods if (w := self._waiting(pod, given))))
        if isinstance(found, StartRefusal):
            return found
        pod = listing.by_uid(found.uid)
        assert pod is not None, "the match came from this list"
        return self._hand_out(pod, listing, slots, found)

    def _verify(self, slots: Slots) -> StartRefusal | None:
        held = self._resources.held(CALL_S)
        found = owner_of(slots, held)
        if isinstance(found, StartRefusal):
            return found
        listing = self._gate.pods.list(fresh=True)
        given = self._allocations.by_stem().get(stem(slots))
        pod = listing.named(*found) if found else (listing.by_uid(given.uid) if given else None)
        listed = {entry.container for entry in held if entry.slots == slots}
        if pod is None or given is None or given.uid != pod["metadata"]["uid"] or not listed <= set(given.containers):
            message = f"slots {', '.join(slots)} were not allocated to the container that starts: delete the pod"
            return StartRefusal(Why.AMBIGUOUS, message)
        return None

    def _hand_out(
        self, pod: Json, listing: PodList, slots: Slots, found: Match
    ) -> dp.ContainerAllocateResponse | StartRefusal:
        refusal = self._gate.admit_pod(pod, listing, stem(slots), (Start(found.container, ()),), self._vendor)
        if refusal is not None:
            return refusal
        holding = self._gate.pods.holding(pod)
        assert not isinstance(holding, StartRefusal), "admit_pod has parsed it"
        before = self._allocations.by_stem().get(stem(slots))
        earlier = before.containers if before and before.uid == found.uid else ()
        self._allocations.write(stem(slots), Allocation(found.uid, (*earlier, found.container), self._vendor))
        return _answer(self._gate.edits(pod, holding, found.container, self._vendor))

    def _waiting(self, pod: Json, given: dict[str, Allocation]) -> Waiting | None:
        holding = self._gate.pods.holding(pod)
        if isinstance(holding, StartRefusal):
            return None
        mine = (entry for entry in given.values() if entry.uid == holding.uid and entry.vendor in {"", self._vendor})
        done = tuple(name for entry in mine for name in entry.containers)
        grant = part_of(holding, (self._vendor,)).grant
        cards = tuple((name, len(grant.of(name))) for name, _ in holding.stages if grant.of(name))
        return Waiting(holding.pod, holding.uid, cards, done)


def _answer(edits: Edits) -> dp.ContainerAllocateResponse:
    return dp.ContainerAllocateResponse(
        envs=dict(edits.env),
        mounts=[dp.Mount(container_path=m.container, host_path=m.host, read_only=m.read_only) for m in edits.mounts],
    )
