"""The loop of recovery: look at every card's health, cordon, and move tenants, unless the breaker says otherwise.

It keeps nothing that a new leader needs: what is to be done follows from nodes, pods and policy each time, so a leader
that is killed between a cordon and an eviction is followed by one that evicts.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import Conflict, KubeError, NotFound
from kerf.kube.events import Events
from kerf.obs.loop import Loop, run_every
from kerf.values.policy import SchedulingPolicy
from kerf.values.recovery import RecoveryMode
from kerf.wire.annotations import FAULT_CORDON
from scheduler.metrics import RecoveryMetrics
from scheduler.recovery.breaker import Pause
from scheduler.recovery.decide import NO_POOL, FailedCard, Round, decide
from scheduler.recovery.movers import Movers, Tenant
from scheduler.recovery.remedies import job_of
from scheduler.state.bookings import State
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.recovery")
LOOP = Loop("recovery", every_s=0.25, at_once=True, longest_pause_s=5.0, expected=(KubeError,))
LOOK_S = 5.0
"""A round without any change of the inventory: deadlines, held evictions, the breaker's quiet period."""
DRAIN_S = 0.25
"""The same while a pod waits until gateways send nothing to it."""
SETTLE_S = 1.0
"""Between the first sight of a fault and an eviction: a burst reaches the inventory in pieces."""
PAUSED = "KerfRecoveryPaused"
MANAGER = "kerf-scheduler-recovery"


class Recovery:
    """One for each term. `namespace` is where remedies run."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        events: Events,
        metrics: RecoveryMetrics,
        namespace: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._kube = kube
        self._events = events
        self._metrics = metrics
        self._namespace = namespace
        self._clock = clock
        self._movers = Movers(store, kube, events, metrics)
        self._seen = -1
        self._looked_at = float("-inf")
        self._observing = False
        self._pauses: dict[str, Pause] = {}
        self._paused_nodes: dict[str, str] = {}
        self._remedied: set[str] = set()
        self._known: dict[tuple[str, str, str], float] = {}
        """By node, card and tenant, when the fault was first seen here."""

    def after(self, may_leave: Callable[[str], bool]) -> Self:
        """Evict a pod only once `may_leave` says so of its uid."""
        self._movers.may_leave = may_leave
        return self

    def run(self, stop: threading.Event) -> None:
        """Run four times a second until stopped; a round without news costs nothing."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """One round, if anything changed or is due. Raises KubeError."""
        inventory, now = self._store.desk.inventory, self._clock()
        if inventory == self._seen and now - self._looked_at < self._wait_s():
            return
        policy = self._store.desk.policy
        acts = self._acts(policy)
        if not acts and self._observing:
            return  # the last round has given back all that was cordoned
        self._round(policy, now)
        self._seen, self._looked_at, self._observing = inventory, now, not acts

    # ---- inside
    def _wait_s(self) -> float:
        """Until the next round without news."""
        if self._movers.draining or any(self._looked_at - since < SETTLE_S for since in self._known.values()):
            return DRAIN_S
        return 1.0 if self._movers.held else LOOK_S

    def _acts(self, policy: SchedulingPolicy) -> bool:
        modes = {policy.recovery.mode, *(pool.recovery for pool in policy.pools)}
        return bool(modes & {RecoveryMode.CORDON, RecoveryMode.RECOVER})

    def _round(self, policy: SchedulingPolicy, now: float) -> None:
        found = decide(self._store.desk.nodes(), policy, self._pauses, now)
        for node, cards in found.cordons.items():
            self._cordon(node, cards)
        self._show_pauses(found)
        tenants = self._tenants(self._settled(found.move, now))
        self._movers.keep_only(frozenset(tenant.uid for tenant in tenants))
        for tenant in tenants:
            self._movers.move(tenant, policy.recovery, now)
        self._metrics.held.set(len(self._movers.held))
        self._metrics.failed_cards.set(len(found.broken))
        if not policy.recovery.dry_run:
            self._remedy(found.broken, policy)

    def _settled(self, move: Sequence[FailedCard], now: float) -> list[FailedCard]:
        """Those that were known a moment ago: of a burst of faults the breaker sees all before a pod is evicted."""
        keys = [(one.node, one.card.id, one.tenant) for one in move]
        self._known = {key: self._known.get(key, now) for key in keys}
        return [one for one, key in zip(move, keys, strict=True) if now - self._known[key] >= SETTLE_S]

    def _tenants(self, move: Sequence[FailedCard]) -> list[Tenant]:
        """The pods whose grants name a failed card, each once; of a failed MIG instance the one that holds it."""
        tenants: dict[str, Tenant] = {}
        for failed in move:
            for booking in self._store.ledger.on_node(failed.node):
                concerned = failed.card.id in booking.uses and failed.tenant in {"", booking.uid}
                if booking.state is State.CONFIRMED and concerned:
                    tenants.setdefault(booking.uid, Tenant(booking.key, booking.uid, failed))
        return list(tenants.values())

    def _cordon(self, node: str, cards: tuple[str, ...]) -> None:
        value = ",".join(cards) or None
        with suppress(NotFound):
            self._kube.patch(paths.node(node), {"metadata": {"annotations": {FAULT_CORDON: value}}})
        _LOG.warning(
            "node %s: %s", node, f"cordoned for faults: {value}" if value else "no card is cordoned for a fault"
        )

    # ---- pauses
    def _show_pauses(self, found: Round) -> None:
        for pool, pause in found.pauses.items():
            if pool not in self._pauses:
                _LOG.error("recovery is paused in pool %s: %s", pool or "(none)", pause.why)
        for pool in self._pauses.keys() - found.pauses.keys():
            _LOG.warning("recovery goes on in pool %s", pool or "(none)")
        for pool in {*self._pauses, *found.pauses}:
            self._metrics.paused.labels(pool or NO_POOL or "none").set(int(pool in found.pauses))
        self._pauses = dict(found.pauses)
        for node in sorted({*self._paused_nodes, *found.paused_nodes}):
            why = found.paused_nodes.get(node, "")
            if why != self._paused_nodes.get(node, ""):
                self._condition(node, why)

    def _condition(self, node: str, why: str) -> None:
        """The node's condition, and an Event. A refusal is logged: it must not keep cards from being cordoned."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {
            "type": PAUSED,
            "status": "True" if why else "False",
            "reason": "TooManyFaults" if why else "Resumed",
            "message": f"nothing is evicted because of faults: {why}" if why else "tenants of failed cards are moved",
            "lastTransitionTime": now,
            "lastHeartbeatTime": now,
        }
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": {"conditions": [condition]}}
        try:
            query = {"fieldManager": MANAGER, "force": "true"}
            self._kube.patch(f"{paths.node(node)}/status", body, kind="apply", query=query)
        except KubeError as error:
            _LOG.warning("the condition %s of node %s is not written: %s", PAUSED, node, error)
        if why:
            self._paused_nodes[node] = why
            about = {"kind": "Node", "name": node, "uid": node}
            self._events.emit(about, "RecoveryPaused", str(condition["message"]))
        else:
            self._paused_nodes.pop(node, None)

    # ---- remedies
    def _remedy(self, broken: tuple[FailedCard, ...], policy: SchedulingPolicy) -> None:
        """Start the remedy of each card that no pod holds any longer, once for each fault."""
        templates = dict(policy.recovery.remedies)
        for failed in broken:
            template = next((text for name, text in templates.items() if name == failed.card.health.remedy), "")
            key = f"{failed.node}/{failed.card.id}/{failed.card.health.since}"
            if not template or key in self._remedied or self._is_held(failed):
                continue
            job = job_of(failed, template, self._namespace)
            try:
                self._kube.create(f"/apis/batch/v1/namespaces/{self._namespace}/jobs", job)
                _LOG.warning("remedy %s of node %s, card %s", job["metadata"]["name"], failed.node, failed.card.id)
            except Conflict:
                pass  # an earlier leader made it
            except KubeError as error:
                _LOG.error("the remedy of node %s, card %s is not started: %s", failed.node, failed.card.id, error)
                continue
            self._remedied.add(key)

    def _is_held(self, failed: FailedCard) -> bool:
        return any(failed.card.id in booking.uses for booking in self._store.ledger.on_node(failed.node))
