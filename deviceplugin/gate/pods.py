"""The pods bound to this node, as the API server lists them, and what each may hold here."""

import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deviceplugin.core.check import LivePod
from deviceplugin.core.refusal import StartRefusal, Why
from deviceplugin.state.node import LocalNode
from kerf.kube import paths
from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError
from kerf.values.grant import Grant, Holding
from kerf.values.vendor import Vendor
from kerf.wire.annotations import GRANT
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.objects import is_finished, parse_holding
from kerf.wire.resources import stages_of

_LOG = logging.getLogger("kerf.deviceplugin.pods")
MOST_RECENT = 512
"""Admitted pods that a list in progress may have missed; more than can start while one list is read."""


@dataclass(frozen=True, slots=True)
class PodList:
    """The pods bound to this node at one moment."""

    pods: tuple[Json, ...]
    moment: int
    """How many pods had been admitted when the list was requested."""

    def named(self, namespace: str, name: str) -> Json | None:
        """A pod by name."""
        return next((p for p in self.pods if meta(p, "namespace") == namespace and meta(p, "name") == name), None)

    def by_uid(self, uid: str) -> Json | None:
        """A pod by uid."""
        return next((p for p in self.pods if meta(p, "uid") == uid), None)


class BoundPods:
    """Lists this node's pods and remembers those that were admitted since. Safe from several threads."""

    def __init__(self, kube: Kube, node: LocalNode, vendors: tuple[Vendor, ...]) -> None:
        self._kube = kube
        self._node = node
        self._vendors = vendors
        self._lock = threading.Lock()
        self._floor = 0
        self._moment = 0
        self._recent: deque[tuple[int, LivePod]] = deque(maxlen=MOST_RECENT)
        self._claimed: dict[str, Grant] = {}

    def list(self, *, fresh: bool = False) -> PodList:
        """The pods bound to this node. Raises KubeError.

        Unless `fresh`, the API server answers from its cache (a fresh read waits up to 100 ms for the cache to catch
        up), but never with a state older than an earlier list has shown. Every admitted pod is then in the list, and
        so are all pods that were bound before it. A cached list may therefore refuse too much, which a fresh list
        corrects, but never too little.
        """
        with self._lock:
            moment, floor = self._moment, self._floor
        query: dict[str, str | int] = {"fieldSelector": f"spec.nodeName={self._node.name}"}
        if floor and not fresh:
            query |= {"limit": 0, "resourceVersion": str(floor), "resourceVersionMatch": "NotOlderThan"}
        try:
            pods, version = self._kube.list(paths.PODS, query)
        except KubeError:
            with self._lock:
                self._floor = 0  # the API server may have been restored from a backup: accept an older state
            raise
        with self._lock:
            self._floor = max(self._floor, int(version) if version.isdigit() else 0)
        if not self._node.labels_known:
            node = self._kube.get(paths.node(self._node.name))
            self._node.update_labels(dict(at(node, "metadata", "labels")))
        return PodList(tuple(pods), moment)

    def add_admitted(self, pod: LivePod) -> None:
        """Remember a pod that has just been admitted."""
        with self._lock:
            self._moment += 1
            self._recent.append((self._moment, pod))

    def admitted_since(self, listing: PodList) -> tuple[LivePod, ...]:
        """Pods that were admitted after the list was requested."""
        with self._lock:
            return tuple(pod for moment, pod in self._recent if moment > listing.moment)

    def add_claimed(self, uid: str, grant: Grant) -> None:
        """Remember what a pod holds by its claims: its annotations do not say so."""
        with self._lock:
            self._claimed[uid] = grant

    def drop_claimed(self, uid: str) -> None:
        """Forget it."""
        with self._lock:
            self._claimed.pop(uid, None)

    def claimed(self) -> dict[str, Grant]:
        """What pods hold by claims, by uid."""
        with self._lock:
            return dict(self._claimed)

    def holding(self, pod: Json) -> Holding | StartRefusal:
        """What the pod's grant gives it, or why the pod may not run here."""
        name = f"{meta(pod, 'namespace')}/{meta(pod, 'name')}"
        if not self._is_bound_here(pod) or is_finished(pod):
            message = f"pod {name} is not bound to node {self._node.name}, or has finished"
            return StartRefusal(Why.NOT_HERE, message)
        if GRANT not in _annotations(pod):
            message = f"pod {name} has no grant ({GRANT}): it was not placed by Kerf's scheduler"
            return StartRefusal(Why.NO_GRANT, message)
        try:
            found = self.parse(pod)
        except WireError as error:
            return StartRefusal(Why.BAD_GRANT, f"pod {name}: {error}")
        return found or StartRefusal(Why.NO_GRANT, f"the grant of pod {name} holds nothing")

    def parse(self, pod: Json) -> Holding | None:
        """What a pod holds of any vendor's cards, on any node. Raises WireError."""
        grant = self._claimed.get(meta(pod, "uid")) if GRANT not in _annotations(pod) else None
        if grant is None:
            return parse_holding(pod, self._vendors)
        if is_finished(pod):
            return None
        name = f"{meta(pod, 'namespace') or 'default'}/{meta(pod, 'name')}"
        return Holding(name, meta(pod, "uid"), self._node.name, grant, stages_of(at(pod, "spec")))

    def on_card(self, card: str) -> tuple[Json, ...]:
        """The pods that hold a slice of a card, as last listed; none where the API server does not answer."""
        try:
            listed = self.list().pods
        except KubeError as error:
            _LOG.warning("the pods of card %s are not known: %s", card, error)
            return ()
        return tuple(pod for pod in listed if not is_finished(pod) and card in self._cards_of(pod))

    def _cards_of(self, pod: Json) -> frozenset[str]:
        try:
            holding = self.parse(pod)
        except WireError:
            return frozenset()
        return frozenset(piece.card for piece in holding.grant.slices) if holding else frozenset()

    def placed_by_hami(self, pod: Json) -> bool:
        """Whether HAMi placed the pod here. Its record is counted, and its containers keep what HAMi gave them."""
        if not self._is_bound_here(pod) or GRANT in _annotations(pod):
            return False
        try:
            return self.parse(pod) is not None
        except WireError:
            return False

    def _is_bound_here(self, pod: Json) -> bool:
        return bool(at(pod, "spec").get("nodeName") == self._node.name)


def meta(pod: Json, key: str) -> str:
    """A text of the pod's metadata, "" if it is missing."""
    return str(at(pod, "metadata").get(key) or "")


def _annotations(pod: Json) -> Mapping[str, Any]:
    return at(pod, "metadata", "annotations")
