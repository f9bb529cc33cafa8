"""Runtimes without CDI: Allocate must bring everything, so it must know the pod. A match or a refusal, no guess."""

import json
import logging
import threading
from dataclasses import dataclass
from typing import Any

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin.core.identify import Slots, owner
from deviceplugin.core.identify import Start as Container
from deviceplugin.core.match import Match, Waiting, match
from deviceplugin.core.refusal import Refusal, Why
from deviceplugin.core.slots import stem
from deviceplugin.kubelet.admission import Admission, Listing
from deviceplugin.kubelet.files import Files
from deviceplugin.kubelet.patience import CALL_S, ask
from deviceplugin.kubelet.podresources import PodResources
from kerf.wire.cdi import Edits

_LOG = logging.getLogger("kerf.deviceplugin.fallback")
Json = dict[str, Any]
ALLOCATE_S = 10.0
"""Allocate has no deadline, but the kubelet admits no other pod meanwhile."""


@dataclass(frozen=True, slots=True)
class _Given:
    """Whom these slots were allocated to."""

    uid: str
    containers: tuple[str, ...]


class Fallback:
    """Allocates by match and lets PreStartContainer verify. One allocation at a time, as the kubelet asks anyway."""

    def __init__(self, admission: Admission, files: Files, resources: PodResources) -> None:
        self._admission = admission
        self._files = files
        self._resources = resources
        self._lock = threading.Lock()

    def allocate(self, slots: Slots) -> dp.ContainerAllocateResponse | Refusal:
        """The environment and mounts of the one container these slots can be for. Raises Unavailable."""
        with self._lock:
            return ask(lambda: self._allocate(slots), ALLOCATE_S)

    def start(self, slots: Slots, budget_s: float) -> Refusal | None:
        """Verify that the pod that holds the slots is the one they were allocated to. Raises Unavailable."""
        return ask(lambda: self._verify(slots), budget_s)

    def _allocate(self, slots: Slots) -> dp.ContainerAllocateResponse | Refusal:
        listing = self._admission.list_pods(fresh=True)
        given = self._given()
        found = match(len(slots), tuple(w for pod in listing.pods if (w := self._waiting(pod, given))))
        if isinstance(found, Refusal):
            return found
        pod = listing.by_uid(found.uid)
        assert pod is not None, "the match came from this list"
        return self._hand_out(pod, listing, slots, found)

    def _verify(self, slots: Slots) -> Refusal | None:
        held = self._resources.held(CALL_S)
        found = owner(slots, held)
        if isinstance(found, Refusal):
            return found
        listing = self._admission.list_pods(fresh=True)
        given = self._given().get(stem(slots))
        pod = listing.named(*found) if found else (listing.by_uid(given.uid) if given else None)
        listed = {entry.container for entry in held if entry.slots == slots}
        if pod is None or given is None or given.uid != pod["metadata"]["uid"] or not listed <= set(given.containers):
            message = f"slots {', '.join(slots)} were not allocated to the container that starts: delete the pod"
            return Refusal(Why.AMBIGUOUS, message)
        return None

    def _hand_out(
        self, pod: Json, listing: Listing, slots: Slots, found: Match
    ) -> dp.ContainerAllocateResponse | Refusal:
        refusal = self._admission.let_in(pod, listing, stem(slots), (Container(found.container, ()),))
        if refusal is not None:
            return refusal
        holding = self._admission.holding(pod)
        assert not isinstance(holding, Refusal), "let_in has read it"
        before = self._given().get(stem(slots))
        earlier = before.containers if before and before.uid == found.uid else ()
        record = {"uid": found.uid, "containers": [*earlier, found.container]}
        self._files.write_allocated(stem(slots), json.dumps(record))
        return _answer(self._admission.edits(pod, holding, found.container))

    def _waiting(self, pod: Json, given: dict[str, _Given]) -> Waiting | None:
        holding = self._admission.holding(pod)
        if isinstance(holding, Refusal):
            return None
        done = tuple(name for entry in given.values() if entry.uid == holding.uid for name in entry.containers)
        cards = tuple((name, len(holding.grant.of(name))) for name, _ in holding.stages if holding.grant.of(name))
        return Waiting(holding.pod, holding.uid, cards, done)

    def _given(self) -> dict[str, _Given]:
        found = {}
        for name, text in self._files.allocated().items():
            try:
                record = json.loads(text)
                found[name] = _Given(str(record["uid"]), tuple(record["containers"]))
            except (ValueError, KeyError, TypeError) as error:
                _LOG.warning("the record of slots %s is damaged: %s", name, error)
        return found


def _answer(edits: Edits) -> dp.ContainerAllocateResponse:
    return dp.ContainerAllocateResponse(
        envs=dict(edits.env),
        mounts=[dp.Mount(container_path=m.container, host_path=m.host, read_only=m.read_only) for m in edits.mounts],
    )
