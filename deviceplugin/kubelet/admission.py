"""Letting a pod in: fresh pods, the check, the files. The node's last word is spoken here, under one lock.

A pod's way on this node, by what stands on disk and in the API server:

    bound ──(grant checked, ledgers and specs written, grant recorded)──▶ let in ──(gone or finished)──▶ removed
      │ refused: event, gRPC error, the kubelet asks again                 ▲ │
      └────────────────────────────────────────────────────────────────────┘ container restart: same check, same files

SIGKILL anywhere leaves at worst files without a recorded grant: the next PreStartContainer writes them again, the
clean-up removes them with the pod. Nothing else is remembered between calls.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from deviceplugin.core.check import Tenant, check_ask, check_start
from deviceplugin.core.edits import edits_of, limits_of, render_specs, wants_no_limiter
from deviceplugin.core.identify import Start
from deviceplugin.core.refusal import Refusal, Why
from deviceplugin.kubelet.board import Board
from deviceplugin.kubelet.files import Files
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.values.grant import Grant, Holding
from kerf.values.injection import NodeFiles, Terms
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.annotations import GRANT, parse_grant, render_grant
from kerf.wire.cdi import Edits
from kerf.wire.errors import WireError
from kerf.wire.limiter import Policy, render_ledger
from kerf.wire.objects import is_finished, parse_holding
from kerf.wire.resources import containers_of, parse_pod, stages_of

_LOG = logging.getLogger("kerf.deviceplugin.admission")
Json = dict[str, Any]
MOST_RECENT = 512
"""Pods let in that a concurrent list may have missed; more than can start while one list is read."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How this node treats its pods."""

    node: str
    policy: Callable[[], SchedulingPolicy]
    limiter_policy: Policy = "cap"
    allow_disable: bool = False
    """Whether a container may opt out of the limiter with CUDA_DISABLE_CONTROL=true."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The pods bound to this node, read at one moment."""

    pods: tuple[Json, ...]
    moment: int

    def named(self, namespace: str, name: str) -> Json | None:
        """A pod by name."""
        return next((p for p in self.pods if _meta(p, "namespace") == namespace and _meta(p, "name") == name), None)

    def by_uid(self, uid: str) -> Json | None:
        """A pod by uid."""
        return next((p for p in self.pods if _meta(p, "uid") == uid), None)


class Admission:
    """Checks grants against the cards and writes what containers need. Safe from several threads."""

    def __init__(self, kube: Kube, files: Files, board: Board, rules: Rules) -> None:
        self._kube = kube
        self._files = files
        self._board = board
        self._rules = rules
        self._lock = threading.Lock()
        self._moment = 0
        self._floor = 0
        self._recent: deque[tuple[int, Tenant]] = deque(maxlen=MOST_RECENT)

    def list_pods(self, *, fresh: bool = False) -> Listing:
        """The pods bound to this node. Raises KubeError.

        Unless `fresh`, from the API server's cache (a fresh read waits up to 100 ms for it to catch up), but never
        older than what an earlier list showed: every pod that was let in is there, and with each pod all those that
        were bound before it. So a cached list may refuse too much, which a fresh one corrects, but never too little.
        """
        moment, floor = self._moment, self._floor
        query: dict[str, str | int] = {"fieldSelector": f"spec.nodeName={self._rules.node}"}
        if floor and not fresh:
            query |= {"limit": 0, "resourceVersion": str(floor), "resourceVersionMatch": "NotOlderThan"}
        try:
            pods, version = self._kube.list(paths.PODS, query)
        except KubeError:
            self._floor = 0  # the server may have been restored to an older state: begin anew
            raise
        with self._lock:
            self._floor = max(self._floor, int(version) if version.isdigit() else 0)
        if not self._board.labels_known:
            node = self._kube.get(paths.node(self._rules.node))
            self._board.label((node.get("metadata") or {}).get("labels") or {})
        return Listing(tuple(pods), moment)

    def holding(self, pod: Json) -> Holding | Refusal:
        """What the pod's grant says, if it may run here at all."""
        name = f"{_meta(pod, 'namespace')}/{_meta(pod, 'name')}"
        if (pod.get("spec") or {}).get("nodeName") != self._rules.node or is_finished(pod):
            return Refusal(Why.NOT_HERE, f"pod {name} is not bound to node {self._rules.node}, or has finished")
        if GRANT not in _annotations(pod):
            message = f"pod {name} has no grant ({GRANT}): it was not placed by Kerf's scheduler"
            return Refusal(Why.NO_GRANT, message)
        try:
            found = parse_holding(pod, VENDORS)
        except WireError as error:
            return Refusal(Why.BAD_GRANT, f"pod {name}: {error}")
        return found or Refusal(Why.NO_GRANT, f"the grant of pod {name} holds nothing")

    def moved_over(self, pod: Json) -> bool:
        """Whether HAMi placed the pod here: its record is counted, and its containers keep what HAMi gave them."""
        if (pod.get("spec") or {}).get("nodeName") != self._rules.node or GRANT in _annotations(pod):
            return False
        try:
            return parse_holding(pod, VENDORS) is not None
        except WireError:
            return False

    def let_in(self, pod: Json, listing: Listing, stem: str, starts: tuple[Start, ...]) -> Refusal | None:
        """Check the pod beside all others and write the ledgers and the spec of `starts`; None if it may start."""
        holding = self.holding(pod)
        if isinstance(holding, Refusal):
            return holding
        cards = self._board.grantable(self._rules.policy())
        with self._lock:
            refusal = check_ask(pod["spec"], holding, cards, self._rules.policy().defaults)
            refusal = refusal or self._check(pod, holding, listing)
            if refusal is None:
                self._write(pod, holding, stem, starts)
            return refusal

    def edits(self, pod: Json, holding: Holding, container: str) -> Edits:
        """One container's edits."""
        return edits_of(
            holding.grant.of(container),
            self._files.ledger_path(holding.uid, container),
            self._node_files(holding, container),
            self._terms(pod, container),
            VENDORS,
        )

    def clean(self) -> int:
        """Remove what belongs to pods that are gone or finished; how many things went. Raises KubeError."""
        listing = self.list_pods(fresh=True)
        live = {_meta(pod, "uid") for pod in listing.pods if not is_finished(pod)}
        with self._lock:
            live |= {tenant.holding.uid for at, tenant in self._recent if at > listing.moment}
            return self._files.remove_except(frozenset(live))

    # ---- inside
    def _check(self, pod: Json, holding: Holding, listing: Listing) -> Refusal | None:
        let_in = _grants(self._files.grants())
        before = let_in.get(holding.uid)
        if before is not None and before.containers != holding.grant.containers:
            message = f"the grant of pod {holding.pod} was changed after the pod was let in: delete the pod"
            return Refusal(Why.BAD_GRANT, message)
        listed = {_meta(other, "uid") for other in listing.pods}
        others = [t for other in listing.pods if _meta(other, "uid") != holding.uid and (t := _tenant(other, let_in))]
        others += [
            tenant
            for at, tenant in self._recent
            if at > listing.moment and tenant.holding.uid not in {*listed, holding.uid}
        ]
        own = Tenant(holding, before is not None or _ran(pod, holding.grant), _order(pod))
        return check_start(own, tuple(others), self._board.grantable(self._rules.policy()))

    def _write(self, pod: Json, holding: Holding, stem: str, starts: tuple[Start, ...]) -> None:
        devices = []
        for start in starts:
            files, terms = self._node_files(holding, start.container), self._terms(pod, start.container)
            slices = holding.grant.of(start.container)
            self._files.write_ledger(holding.uid, start.container, render_ledger(limits_of(slices, files, terms)))
            edits = edits_of(slices, self._files.ledger_path(holding.uid, start.container), files, terms, VENDORS)
            devices += [(name, edits) for name in start.names]
        if devices:
            self._files.write_spec(stem, render_specs(holding.pod, holding.uid, tuple(devices)))
        self._files.write_grant(holding.uid, render_grant(holding.grant))
        self._moment += 1
        self._recent.append((self._moment, Tenant(holding, True, _order(pod))))

    def _node_files(self, holding: Holding, container: str) -> NodeFiles:
        wanted = {piece.card for piece in holding.grant.of(container)}
        return self._files.node_files(card for card in self._board.cards if card.id in wanted)

    def _terms(self, pod: Json, container: str) -> Terms:
        own = next((c for c, _ in containers_of(pod["spec"]) if c.get("name") == container), {})
        try:
            priority = parse_pod(pod, NAMES, self._rules.policy().defaults).task_priority
        except WireError:
            priority = 1
        limited = not (self._rules.allow_disable and wants_no_limiter(own))
        return Terms(self._rules.limiter_policy, priority, limited)


def _grants(texts: dict[str, str]) -> dict[str, Grant]:
    """Recorded grants by uid; a damaged record counts as none, the pod's annotation then speaks."""
    parsed = {uid: _grant(text) for uid, text in texts.items()}
    return {uid: grant for uid, grant in parsed.items() if grant is not None}


@lru_cache(maxsize=1024)
def _grant(text: str) -> Grant | None:
    try:
        return parse_grant(text)
    except WireError as error:
        _LOG.warning("a recorded grant is damaged: %s", error)
        return None


def _tenant(pod: Json, let_in: dict[str, Grant]) -> Tenant | None:
    """What another pod holds: what it was let in with, whatever its annotation says now."""
    if is_finished(pod):
        return None
    uid, name = _meta(pod, "uid"), f"{_meta(pod, 'namespace')}/{_meta(pod, 'name')}"
    if uid in let_in:
        return Tenant(Holding(name, uid, "", let_in[uid], stages_of(pod.get("spec") or {})), True, _order(pod))
    try:
        holding = parse_holding(pod, VENDORS)
    except WireError as error:
        _LOG.warning("pod %s cannot be counted: %s", name, error)
        return None
    return Tenant(holding, _ran(pod, holding.grant), _order(pod)) if holding else None


def _ran(pod: Json, grant: Grant) -> bool:
    """Whether a container that holds a slice was created, by the pod's status."""
    status = pod.get("status") or {}
    listed = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return any(item.get("containerID") and grant.of(str(item.get("name"))) for item in listed)


def _order(pod: Json) -> tuple[str, str, str]:
    """When the pod was bound, was created, and its uid: a total order that every observer agrees on."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    bound = next((c.get("lastTransitionTime") for c in conditions if c.get("type") == "PodScheduled"), "")
    return (str(bound or ""), _meta(pod, "creationTimestamp"), _meta(pod, "uid"))


def _meta(pod: Json, key: str) -> str:
    return str((pod.get("metadata") or {}).get(key) or "")


def _annotations(pod: Json) -> Json:
    return (pod.get("metadata") or {}).get("annotations") or {}
