"""One cluster of the fleet, followed: its nodes and pods, and when it last answered."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from kerf.kube import paths
from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError
from kerf.kube.watch import Follower, PermittedFollower
from kerf.obs.loop import Loop, run_every
from kerf.values.grant import Slice
from kerf.values.node import Node
from kerf.wire.claims import CLAIMS
from kerf.wire.fleet import LABEL_EPOCH, LABEL_MANAGER, LABEL_MODEL, LABEL_WORKLOAD, slug
from kerf.wire.json import at, items_at, text_at
from kerf.wire.objects import is_finished
from scheduler.core.state import NodeState
from scheduler.fleet.handover import is_for
from scheduler.fleet.neighbours import Neighbour, Neighbourhood
from scheduler.fleet.rights import REVIEW, REVIEWS, lacking
from scheduler.fleet.view import FleetPod
from scheduler.state.claims import ClaimingPods
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.fleet")
PROBE = Loop("fleet-probe", every_s=2.0, first_pause_s=2.0, longest_pause_s=2.0, at_once=True, expected=(KubeError,))
REVIEW_EVERY_S, REVIEW_AGAIN_S = 60.0, 10.0
"""How often a cluster is asked what the credential may do, and how often while it lacks something."""


class Member(Protocol):
    """What the manager needs of a cluster."""

    @property
    def kube(self) -> Kube:
        """Its API server."""

    def answered(self) -> float:
        """When it last answered, in seconds since 1970; 0 for never."""

    def seen(self) -> tuple[tuple[Node, ...], tuple[NodeState, ...], tuple[FleetPod, ...]]:
        """Its nodes, what is free on them, and the fleet's pods there."""

    def neighbours(self) -> Mapping[Neighbour, frozenset[str]]:
        """The nodes of all of its pods, equal pods together."""

    def knows_claims(self) -> bool:
        """Whether what claims hold there can be read."""

    def lacks(self) -> tuple[str, ...]:
        """What the credential may not do there of what the manager does."""

    def stop(self) -> None:
        """Stop following."""


class FollowedMember:
    """Watches the cluster and asks it for its version every two seconds, from threads of its own."""

    def __init__(
        self, kube: Kube, store: Store, vendor: str, fleet: str, name: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.kube = kube
        self._store = store
        self._joined = ClaimingPods(store, vendor)
        self._fleet = fleet
        self._name = name
        self._clock = clock
        self._answered = 0.0
        self._lacks: tuple[str, ...] = ()
        self._review_at = 0.0
        self._lock = threading.Lock()
        self._pods: dict[str, FleetPod] = {}
        self._neighbours = Neighbourhood()
        self._stop = threading.Event()
        joined = self._joined
        # A credential that an earlier Kerf wrote may not read claims.
        self._claims = PermittedFollower(kube, CLAIMS, joined.replace_claims, joined.apply_claim, optional=True)
        self._followers = (
            Follower(kube, paths.NODES, joined.replace_nodes, joined.apply_node),
            Follower(kube, paths.PODS, self._replace, self._change),
            self._claims,
        )
        for follower in self._followers:
            follower.start()
        threading.Thread(target=run_every, args=(PROBE, self._probe, self._stop), name="probe", daemon=True).start()

    def answered(self) -> float:
        return self._answered if all(follower.synced.is_set() for follower in self._followers) else 0.0

    def seen(self) -> tuple[tuple[Node, ...], tuple[NodeState, ...], tuple[FleetPod, ...]]:
        with self._lock:
            pods = tuple(self._pods.values())
        # A claim may become known after the pod that uses it.
        pods = tuple(replace(pod, slices=_slices_of(self._store, pod.uid)) for pod in pods)
        return tuple(self._store.desk.nodes()), self._store.desk.states(), pods

    def neighbours(self) -> Mapping[Neighbour, frozenset[str]]:
        with self._lock:
            return self._neighbours.seen()

    def knows_claims(self) -> bool:
        return not self._claims.refused

    def lacks(self) -> tuple[str, ...]:
        return self._lacks

    def stop(self) -> None:
        self._stop.set()
        for follower in self._followers:
            follower.stop()

    def _probe(self) -> None:
        asked = self._clock()
        self.kube.get("/version")
        self._answered = asked
        if asked >= self._review_at:
            self._review_at = asked + REVIEW_AGAIN_S
            self._lacks = lacking(self.kube.create(REVIEWS, REVIEW))
            self._review_at = asked + (REVIEW_AGAIN_S if self._lacks else REVIEW_EVERY_S)

    def _replace(self, items: list[Json]) -> None:
        self._joined.replace_pods([dict(item) for item in items])
        found = fleet_pods(items, self._fleet, self._name, self._store)
        with self._lock:
            self._pods = {pod.uid: pod for pod in found}
            self._neighbours.replace(items)

    def _change(self, kind: str, item: Json) -> None:
        self._joined.apply_pod(kind, item)
        uid = text_at(item, "metadata", "uid")
        found = fleet_pods([item], self._fleet, self._name, self._store) if kind != "DELETED" else []
        with self._lock:
            self._neighbours.change(kind, item)
            self._pods.pop(uid, None)
            self._pods.update({pod.uid: pod for pod in found})


def fleet_pods(items: Iterable[Json], fleet: str, cluster: str, store: Store) -> list[FleetPod]:
    """The live pods among some of a cluster that the fleet's hand-over made for it."""
    found = []
    for item in items:
        labels = at(item, "metadata", "labels")
        if labels.get(LABEL_MANAGER) != slug(fleet) or not is_for(item, cluster) or is_finished(item):
            continue
        notes, meta = at(item, "metadata", "annotations"), at(item, "metadata")
        workload = str(notes.get(LABEL_WORKLOAD, ""))
        if workload.partition("/")[0] != text_at(meta, "namespace"):
            continue  # anybody may write these marks on a pod; in another namespace they would count for its workloads
        epoch = str(labels.get(LABEL_EPOCH, ""))
        uid = text_at(meta, "uid")
        found.append(
            FleetPod(
                workload=workload,
                epoch=int(epoch) if epoch.isdigit() and len(epoch) < 10 else 0,
                model=str(notes.get(LABEL_MODEL, "")),
                namespace=text_at(meta, "namespace"),
                name=text_at(meta, "name"),
                uid=uid,
                bound=bool(at(item, "spec").get("nodeName")),
                ready=any(
                    c.get("type") == "Ready" and c.get("status") == "True"
                    for c in items_at(item, "status", "conditions")
                ),
                leaving=bool(meta.get("deletionTimestamp")),
                slices=_slices_of(store, uid),
                node=str(at(item, "spec").get("nodeName") or ""),
            )
        )
    return found


def _slices_of(store: Store, uid: str) -> tuple[Slice, ...]:
    booking = store.ledger.get(uid)
    held = booking.holding.grant.containers if booking is not None and booking.holding is not None else ()
    return tuple(piece for container in held for piece in container.slices)
