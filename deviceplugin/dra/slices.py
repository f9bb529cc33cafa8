"""The node's ResourceSlices: written when cards, faults, cordons or what is held of them change."""

import logging
import threading
from collections.abc import Callable
from functools import partial

from deviceplugin.core.offered import NodeView, offered
from deviceplugin.gate.start import StartGate
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.kube.mirror import Mirror
from kerf.obs.loop import Loop, run_every
from kerf.values.policy import SchedulingPolicy
from kerf.wire.devices import DRIVER
from kerf.wire.json import at, text_at
from kerf.wire.resourceslices import (
    SLICES,
    generation_of,
    is_ours,
    numbered,
    render_pool,
    same_content,
    shares_kept,
    slice_path,
    with_times,
)

_LOG = logging.getLogger("kerf.deviceplugin.slices")
LOOP = Loop("deviceplugin.slices", every_s=5.0, settle_s=0.05, rest_s=0.5, expected=(KubeError,))


class SlicePublisher:
    """Keeps the pool of one node equal to what it offers, once `ready`. `current` says whether it is."""

    def __init__(
        self,
        kube: Kube,
        node: LocalNode,
        gate: StartGate,
        policy: Callable[[], SchedulingPolicy],
        ready: Callable[[], bool],
        wake: threading.Event,
    ) -> None:
        self._kube = kube
        self._node = node
        self._gate = gate
        self._policy = policy
        self._ready = ready
        self._shares = True
        self._current = -1
        self._wake = wake
        query = {"fieldSelector": f"spec.nodeName={node.name},spec.driver={DRIVER}"}
        ours = partial(is_ours, node=node.name)
        self._stored = Mirror(kube, {SLICES: "ResourceSlice"}, query, changed=wake, keeps=ours)

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop`. The slices stay: claims that come meanwhile wait at the kubelet for the next plugin."""
        self._stored.start()
        threading.Thread(target=self._node.wake, args=(self._wake, stop), name="slices", daemon=True).start()
        run_every(LOOP, self._run_once, stop, self._wake)
        self._stored.stop()

    def current(self) -> bool:
        """Whether the API server has the pool as the node's cards are now."""
        return self._current == self._node.wait(self._current, 0.0)

    # ---- inside
    def _run_once(self) -> None:
        if not (self._stored.synced and self._node.uid and self._ready()):
            return
        version = self._node.wait(-1, 0.0)
        self._publish(self._wanted())
        self._current = version

    def _wanted(self) -> tuple[dict[str, object], ...]:
        policy, node = self._policy(), self._node
        recovery = policy.recovery_on(node.as_node())
        view = NodeView(node.cordoned, recovery, evicts=not policy.recovery.dry_run)
        cards = offered(node.grantable(policy).values(), self._gate.uses(), view, policy)
        return render_pool(node.name, node.uid, cards, shares=self._shares)

    def _publish(self, wanted: tuple[dict[str, object], ...]) -> None:
        stored = {text_at(item, "metadata", "name"): item for item in self._stored.items()}
        names = [str(at(slice_, "metadata")["name"]) for slice_ in wanted]
        obsolete = [name for name in stored if name not in names]
        fresh = [name for name in names if name not in stored]
        changed = [n for n, s in zip(names, wanted, strict=True) if n in stored and not same_content(stored[n], s)]
        numbers = {(generation_of(item), _count(item)) for item in stored.values()}
        whole = len(numbers) == 1 and next(iter(numbers))[1] == len(wanted)
        if whole and not (obsolete or fresh or changed):
            return
        one = whole and not (obsolete or fresh) and len(changed) == 1
        generation = max((generation_of(item) for item in stored.values()), default=0) + (0 if one else 1)
        for name in obsolete:
            self._delete(stored[name])
        for name, body in zip(names, numbered(wanted, generation), strict=True):
            if not one or name in changed:
                self._write(name, body, stored.get(name))
        _LOG.info("published %d slices, generation %d", len(wanted), generation)

    def _write(self, name: str, body: dict[str, object], stored: Json | None) -> None:
        if stored is None:
            answer = self._kube.create(SLICES, body)
        else:
            kept = with_times(body, stored)
            version = at(stored, "metadata").get("resourceVersion")
            meta = {**at(kept, "metadata"), "resourceVersion": version}
            answer = self._kube.replace(slice_path(name), {**kept, "metadata": meta})
        self._stored.apply(SLICES, "MODIFIED", answer)
        if self._shares and not shares_kept(answer):
            self._shares = False
            _LOG.warning(
                "this cluster knows no shared devices (Kubernetes 1.36): only whole cards are offered to claims"
            )
            self._wake.set()

    def _delete(self, stored: Json) -> None:
        name = text_at(stored, "metadata", "name")
        try:
            self._kube.delete(slice_path(name))
        except NotFound:
            _LOG.debug("slice %s is gone already", name)
        self._stored.apply(SLICES, "DELETED", stored)


def _count(item: Json) -> object:
    return at(item, "spec", "pool").get("resourceSliceCount")
