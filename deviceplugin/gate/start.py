"""Admitting a pod: the check and the files, under one lock. The node has the last word here.

A pod's states on this node, by what is on disk and in the API server:

    bound ──(grant checked, ledgers and specs written, grant recorded)──▶ admitted ──(gone or finished)──▶ removed
      │ refused: event, gRPC error, the kubelet retries                      ▲ │
      └──────────────────────────────────────────────────────────────────────┘ container restart: same check and files

SIGKILL at any point leaves at worst files without a recorded grant: the next start writes them again, and the clean-up
removes them with the pod. Nothing else is remembered between calls.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from deviceplugin.core.check import LivePod, check_ask, check_modes, check_start, part_of
from deviceplugin.core.instances import on_instances, overlap, starting
from deviceplugin.core.refusal import StartRefusal, Why
from deviceplugin.core.start import Start
from deviceplugin.core.usage import ContainerRef
from deviceplugin.gate.instances import Instances, Occupant
from deviceplugin.gate.limits import PodLimits
from deviceplugin.gate.outfits import Outfits
from deviceplugin.gate.pods import BoundPods, PodList, meta
from deviceplugin.gate.rules import Rules
from deviceplugin.state.allocations import Allocations
from deviceplugin.state.files import Files
from deviceplugin.state.history import PodHistory
from deviceplugin.state.ledgers import Ledgers
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Json
from kerf.kube.errors import KubeError
from kerf.obs.loop import Loop, run_every
from kerf.probes.base import MigError
from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse, Grant, Holding, card_uses
from kerf.values.policy import DriverLimits, SchedulingPolicy
from kerf.wire.annotations import parse_grant
from kerf.wire.cdi import Edits
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.objects import is_finished
from kerf.wire.resources import stages_of

_LOG = logging.getLogger("kerf.deviceplugin.gate")
CLEAN_S = 30.0
CLAIMS = "claims"
"""Key of a recorded grant that was made of claims: their uids."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the gate has the driver do."""

    instances: Instances
    limits: PodLimits


class StartGate:
    """Checks grants against the cards and writes what containers need. Safe from several threads."""

    def __init__(
        self, pods: BoundPods, files: Files, node: LocalNode, rules: Rules, hardware: Hardware | None = None
    ) -> None:
        self.pods = pods
        self.instances = hardware.instances if hardware else Instances(files, {})
        self._limits = hardware.limits if hardware else PodLimits(Path("/"), {})
        self._files = files
        self.history = PodHistory(files)
        self._ledgers = Ledgers(files)
        self._outfits = Outfits(files, node, rules, self.instances)
        self._allocations = Allocations(files)
        self._node = node
        self._rules = rules
        self._lock = threading.Lock()
        for uid, grant in _grants(files.grants()).items():
            if CLAIMS in dict(grant.extra):
                pods.add_claimed(uid, grant)

    def admit_pod(
        self, pod: Json, listing: PodList, spec: str, starts: tuple[Start, ...], vendor: str
    ) -> StartRefusal | None:
        """Check the pod beside all others, then write the ledgers of `starts` and the CDI spec file called `spec`.

        The spec is about the containers' slices of one vendor's cards. None if the containers may start.
        """
        holding = self.pods.holding(pod)
        if isinstance(holding, StartRefusal):
            return holding
        policy = self._rules.policy()
        with self._lock:
            cards = self._node.grantable(policy)
            refusal = check_ask(pod["spec"], self._part_of(holding), cards, self._rules.names, policy.defaults)
            return refusal or self._admit(pod, holding, listing, (spec, vendor), starts, Allocator.EXTENDER)

    def admit_claims(
        self, pod: Json, holding: Holding, listing: PodList, spec: tuple[str, str], starts: tuple[Start, ...]
    ) -> StartRefusal | None:
        """The same for a pod that holds what Kubernetes' own allocator gave its claims. `spec` is (file, vendor)."""
        with self._lock:
            refusal = self._admit(pod, holding, listing, spec, starts, Allocator.DRA)
            if refusal is None:
                self.pods.add_claimed(holding.uid, holding.grant)
            return refusal

    def release_claims(self, uid: str, spec: str) -> None:
        """A pod that held claims has ended: remove its files. A second call is a no-op."""
        with self._lock:
            self.pods.drop_claimed(uid)
            self._files.remove_pod(uid, spec)

    def policy(self) -> SchedulingPolicy:
        """The policy as it is now."""
        return self._rules.policy()

    def uses(self) -> dict[str, CardUse]:
        """What admitted pods hold of each card, where every container of a pod counts."""
        total: dict[str, CardUse] = {}
        for grant in _grants(self._files.grants()).values():
            for card, use in card_uses(grant, ()).items():
                total[card] = total.get(card, NO_USE) + use
        return total

    def while_held(self, change: Callable[[frozenset[str]], None]) -> None:
        """Call `change` with the cards of which pods of this node hold slices; none is admitted meanwhile.

        Raises KubeError.
        """
        listing = self.pods.list(fresh=True)
        with self._lock:
            admitted = _grants(self._files.grants())
            live = [pod for each in listing.pods if (pod := self._live_pod(each, admitted))]
            live += self.pods.admitted_since(listing)
            change(frozenset(piece.card for pod in live for piece in pod.holding.grant.slices))

    def edits(self, pod: Json, holding: Holding, container: str, vendor: str) -> Edits:
        """One container's edits for its slices of one vendor's cards."""
        return self._outfits.edits(pod, holding, container, vendor)

    def clean(self) -> int:
        """Remove the files and MIG instances of pods that are gone or finished; how many. Raises KubeError."""
        records = self.history.read()  # first, so that no pod which is admitted meanwhile is among them
        listing = self.pods.list(fresh=True)
        live = {meta(pod, "uid") for pod in listing.pods if not is_finished(pod)}
        with self._lock:
            live |= {pod.holding.uid for pod in self.pods.admitted_since(listing)}
            # Before the ledgers go, and under the lock: a container that starts again keeps its earlier peaks.
            records = self.history.see(records, self._ledgers.read(), {meta(pod, "uid"): pod for pod in listing.pods})
            removed = self._files.remove_except(frozenset(live)) + self._allocations.remove_except(frozenset(live))
            for uid in self.pods.claimed():
                if uid not in live:
                    self.pods.drop_claimed(uid)
            removed += self._tidy_instances(listing, frozenset(live))
            self._keep_limits(listing)
        self.history.end(records, live)
        if removed:
            _LOG.info("removed %d ledgers, specs and records of pods that are gone", removed)
        return removed

    def run_clean_up(self, stop: threading.Event) -> None:
        """Clean up at once and then every half minute, until `stop`."""
        run_every(Loop("deviceplugin.cleanup", CLEAN_S, at_once=True, expected=(KubeError, OSError)), self.clean, stop)

    # ---- inside
    def _admit(
        self,
        pod: Json,
        holding: Holding,
        listing: PodList,
        spec: tuple[str, str],
        starts: tuple[Start, ...],
        allocator: Allocator,
    ) -> StartRefusal | None:
        """Check the pod beside all others, make its MIG instances, and write its files."""
        words = self._rules.words_of(pod)
        cards = self._node.grantable(self._rules.policy())
        refusal = check_modes(self._part_of(holding), words.modes, cards, self._node.modes)
        refusal = refusal or self._check(pod, holding, listing, allocator)
        ready = refusal or self._make_instances(pod, holding, listing, starts)
        if isinstance(ready, StartRefusal):
            return ready
        unlimited = self._limit(holding)
        if unlimited is None:
            for start in ready:
                self._keep_peak(ContainerRef(holding.uid, start.container))
            self._outfits.write(pod, holding, spec, ready, words.priority)
            self.history.begin(pod, holding)
            self.pods.add_admitted(LivePod(self._part_of(holding), True, _order(pod)))
        return unlimited

    def _limit(self, holding: Holding) -> StartRefusal | None:
        """Have the driver keep the pod's memory, where the card says so; that is decided first."""
        held, cards = self._part_of(holding), self._cards()
        undecided = [piece.card for piece in held.grant.slices if piece.card not in self._node.modes]
        wanted = any(pool.driver_limits is not DriverLimits.NEVER for pool in self._rules.policy().pools)
        if wanted and any(card in cards and not cards[card].no_limits for card in undecided):
            message = f"pod {holding.pod}: what keeps the memory of card {undecided[0]} is not decided yet"
            return StartRefusal(Why.NO_LIMIT, message, lasting=False)
        return self._limits.keep(held, cards)

    def _make_instances(
        self, pod: Json, holding: Holding, listing: PodList, starts: tuple[Start, ...]
    ) -> tuple[Start, ...] | StartRefusal:
        """The containers that may start now that their MIG instances exist.

        Where containers that the kubelet does not distinguish hold instances that cover each other, it is the one
        whose turn it is; the others get theirs when they start.
        """
        cards = self._cards()
        held = {start.container: on_instances(holding.grant.of(start.container), cards) for start in starts}
        if not any(held.values()):
            return starts
        if any(overlap(one, other) for one in held.values() for other in held.values()):
            turn = starting(pod, holding.stages, held)
            starts = tuple(start for start in starts if start.container == turn)
            if not starts:
                message = f"an init container of pod {holding.pod} still runs by its status, and holds another instance"
                return StartRefusal(Why.AMBIGUOUS, message, lasting=False)
        live = {meta(other, "uid") for other in listing.pods if not is_finished(other)} | {holding.uid}
        live |= {other.holding.uid for other in self.pods.admitted_since(listing)}
        occupant = Occupant(self._part_of(holding), cards, live, _ran(pod, holding.grant))
        try:
            for start in starts:
                self.instances.ensure(occupant, held[start.container])
        except MigError as error:
            return StartRefusal(Why.NO_INSTANCE, f"pod {holding.pod}: {error}", lasting=False)
        return starts

    def _tidy_instances(self, listing: PodList, live: frozenset[str]) -> int:
        cards = self._cards()
        if not self.instances.records() and all(card.mig is None for card in cards.values()):
            return 0
        admitted = _grants(self._files.grants())
        for pod in listing.pods:
            running = self._live_pod(pod, admitted)
            if running is not None and running.started:
                self.instances.adopt(Occupant(running.holding, cards, live, ran=True))
        return self.instances.reclaim(live, {card.id: card.vendor for card in cards.values()})

    def _keep_limits(self, listing: PodList) -> None:
        cards = self._cards()
        if any(card.backend.native for card in cards.values()):
            admitted = _grants(self._files.grants())
            found = (self._live_pod(pod, admitted) for pod in listing.pods)
            self._limits.again((live.holding for live in found if live and live.started), cards)

    def _cards(self) -> dict[str, Card]:
        return {card.id: card for card in self._node.cards}

    def _check(self, pod: Json, holding: Holding, listing: PodList, allocator: Allocator) -> StartRefusal | None:
        admitted = _grants(self._files.grants())
        before = admitted.get(holding.uid)
        if before is not None and before.containers != holding.grant.containers:
            message = f"the grant of pod {holding.pod} was changed after the pod was admitted: delete the pod"
            return StartRefusal(Why.BAD_GRANT, message)
        listed = {meta(other, "uid") for other in listing.pods} | {holding.uid}
        others = [
            live
            for other in listing.pods
            if meta(other, "uid") != holding.uid and (live := self._live_pod(other, admitted))
        ]
        others += [live for live in self.pods.admitted_since(listing) if live.holding.uid not in listed]
        started = before is not None or _ran(pod, holding.grant)
        own = LivePod(self._part_of(holding), started, _order(pod), allocator)
        return check_start(own, tuple(others), self._node.grantable(self._rules.policy()))

    def _keep_peak(self, ref: ContainerRef) -> None:
        """What the container's last start held at most, before a fresh ledger takes the place of its own."""
        before = self._ledgers.one(ref)
        if before is not None:
            self.history.restart(ref, before)

    def _part_of(self, holding: Holding) -> Holding:
        """What is held of this plugin's cards. Another vendor's plugin checks the rest."""
        return part_of(holding, self._rules.served)

    def _live_pod(self, pod: Json, admitted: dict[str, Grant]) -> LivePod | None:
        """What another pod holds. An admitted pod holds what it was admitted with, even if its annotation changed."""
        if is_finished(pod):
            return None
        uid, name = meta(pod, "uid"), f"{meta(pod, 'namespace')}/{meta(pod, 'name')}"
        if uid in admitted:
            holding = Holding(name, uid, "", admitted[uid], stages_of(at(pod, "spec")))
            return LivePod(self._part_of(holding), True, _order(pod))
        try:
            parsed = self.pods.parse(pod)
        except WireError as error:
            _LOG.warning("pod %s cannot be counted: %s", name, error)
            return None
        return LivePod(self._part_of(parsed), _ran(pod, parsed.grant), _order(pod)) if parsed else None


def _grants(texts: dict[str, str]) -> dict[str, Grant]:
    """Recorded grants by uid. A damaged record is left out; the pod's annotation is used instead."""
    parsed = {uid: _grant(text) for uid, text in texts.items()}
    return {uid: grant for uid, grant in parsed.items() if grant is not None}


@lru_cache(maxsize=1024)
def _grant(text: str) -> Grant | None:
    try:
        return parse_grant(text)
    except WireError as error:
        _LOG.warning("a recorded grant is damaged: %s", error)
        return None


def _ran(pod: Json, grant: Grant) -> bool:
    """Whether a container that holds a slice was created, by the pod's status."""
    status = at(pod, "status")
    listed = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return any(item.get("containerID") and grant.of(str(item.get("name"))) for item in listed)


def _order(pod: Json) -> tuple[str, str, str]:
    """When the pod was bound, when it was created, and its uid: a total order, the same for every observer."""
    conditions = at(pod, "status").get("conditions") or []
    bound = next((c.get("lastTransitionTime") for c in conditions if c.get("type") == "PodScheduled"), "")
    return (str(bound or ""), meta(pod, "creationTimestamp"), meta(pod, "uid"))
