"""The scheduler's live state: what the watches say and what binds assume, under one lock, written here alone.

Everything that decides reads it through `engine` and `fleet` while holding `lock`; nothing is copied on that path,
and no I/O ever happens under the lock.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant, Holding, card_uses
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import Vendor, words_of
from kerf.values.verdict import Misfit, Reason
from kerf.wire.errors import WireError
from kerf.wire.objects import is_finished, parse_node
from kerf.wire.resourcequota import HardQuota
from kerf.wire.resources import ADMISSION, parse_pod, stages_of
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Shares
from scheduler.state.bookings import Booking, State, booking_of
from scheduler.state.engine import Engine
from scheduler.state.fleet import Fleet
from scheduler.state.held_places import HeldPlaces
from scheduler.state.ledger import Ledger
from scheduler.state.pending import Pending, Waiting
from scheduler.state.quotas import QuotaLedger

_LOG = logging.getLogger("kerf.store")
Json = Mapping[str, Any]
CHUNK = 500
"""Pods applied in one hold of the lock after a relist, so that a filter never waits for 40,000 of them."""


class Store:
    """Nodes, bookings and `pending` pods."""

    def __init__(
        self,
        policy: SchedulingPolicy,
        vendors: tuple[Vendor, ...],
        clock: Callable[[], float] = time.monotonic,
        *,
        check_node: bool = False,
    ) -> None:
        self.lock = threading.RLock()
        self.policy = policy
        self.vendors = vendors
        self.fleet = Fleet()
        self.engine = Engine(self.fleet, policy, check_node=check_node)
        self.pending = Pending(self.lock, clock)
        self.quotas = QuotaLedger()
        self.ledger = Ledger(self.lock, self.fleet, self.quotas, self.pending.changed)
        self.bookings = self.ledger.bookings
        self.held_places = HeldPlaces(self)
        self.inventory = 0
        """Counts changes of nodes."""
        self._clock = clock
        self.names = words_of(vendors)
        self._nodes: dict[str, Node] = {}
        self._binding: set[str] = set()

    # ---- what the watches say
    def apply_node(self, kind: str, item: Json) -> None:
        """One node event."""
        node = parse_node(item, self.vendors)
        with self.lock:
            if kind == "DELETED":
                self._nodes.pop(node.name, None)
                self.fleet.remove_node(node.name)
            elif self._nodes.get(node.name) != node:
                if node.problem:
                    _LOG.warning("node %s: %s", node.name, node.problem)
                self._nodes[node.name] = node
                if self.quotas.put_node(node):
                    self.quotas.recount(self.ledger.on_node(node.name))
                self.fleet.put_node(node, self.policy.factors(node))
            else:
                return
            self.inventory += 1
        self.pending.changed.set()

    def replace_nodes(self, items: list[dict[str, Any]]) -> None:
        """The whole list of nodes."""
        for item in items:
            self.apply_node("MODIFIED", item)
        names = {item["metadata"]["name"] for item in items}
        with self.lock:
            for name in [name for name in self._nodes if name not in names]:
                self.apply_node("DELETED", {"metadata": {"name": name}})

    def apply_pod(self, kind: str, item: Json) -> None:
        """One pod event."""
        with self.lock:
            self._apply_pod(kind, item)

    def replace_pods(self, items: list[dict[str, Any]]) -> None:
        """The whole list of pods; confirmed pods that are not in it are gone."""
        for start in range(0, len(items), CHUNK):
            with self.lock:
                for item in items[start : start + CHUNK]:
                    self._apply_pod("MODIFIED", item)
        uids = {item["metadata"].get("uid") for item in items}
        with self.lock:
            gone = [
                uid for uid, booking in self.bookings.items() if booking.state is State.CONFIRMED and uid not in uids
            ]
            for uid in gone:
                self.ledger.release(uid)
            for uid in [uid for uid in self.pending.pods if uid not in uids]:
                self._forget(uid)

    def set_policy(self, policy: SchedulingPolicy) -> None:
        """Use another policy from the next request on. Over-commitment changes what is free, not what pods hold."""
        with self.lock:
            self.policy = policy
            self.engine.set_policy(policy)
            for node in self._nodes.values():
                self.fleet.put_node(node, policy.factors(node))
        self.pending.changed.set()

    def set_quota(self, shares: Shares, capacity: Capacity, hard: Mapping[str, HardQuota], *, enforced: bool) -> None:
        """Hold tenants and namespaces to other limits from the next request on. What they hold already stays."""
        with self.lock:
            counted = self.quotas.active
            self.quotas.set_shares(shares, capacity, enforced=enforced)
            self.quotas.set_hard(hard)
            if not counted:
                self.quotas.recount(self.bookings.values())
        self.pending.changed.set()

    def _apply_pod(self, kind: str, item: Json) -> None:
        meta, spec = item.get("metadata") or {}, item.get("spec") or {}
        uid = str(meta.get("uid", ""))
        if kind == "DELETED" or is_finished(item):
            self._forget(uid)
        elif spec.get("nodeName"):
            self._bound(uid, item)
        else:
            self._wait(uid, item)

    def _wait(self, uid: str, item: Json) -> None:
        meta = item["metadata"]
        try:
            ask, problem = parse_pod(item, self.names, self.policy.defaults), ""
        except WireError as error:
            ask = PodAsk(str(meta.get("namespace") or "default"), str(meta.get("name", "")), uid)
            problem = str(error)
        if not ask.containers and not ask.gang and not problem:
            return
        created = str(meta.get("creationTimestamp", ""))
        stages = () if problem else stages_of(item["spec"])
        waiting = Waiting(
            ask,
            stages,
            created,
            problem,
            gates=bool(item["spec"].get("schedulingGates")),
            preempts=item["spec"].get("preemptionPolicy") != "Never",
        )
        self.pending.put(uid, waiting)

    def _bound(self, uid: str, item: Json) -> None:
        self.pending.forget(uid)
        known = self.bookings.get(uid)
        if known is not None and known.state is State.CONFIRMED and known.node == item["spec"]["nodeName"]:
            return
        seen = booking_of(item, self.vendors)
        self._seat(item)
        if known is not None and known.state is State.ASSUMED and known.holding == seen.holding:
            self.bookings[uid] = replace(known, state=State.CONFIRMED)
            return
        self.ledger.release(uid)
        self.ledger.charge(seen)

    def _seat(self, item: Json) -> None:
        """A pod that Kueue admitted is bound: the place that was held for it is not held any longer."""
        if ADMISSION in (item["metadata"].get("annotations") or {}):
            with suppress(WireError):
                self.held_places.pass_by(parse_pod(item, self.names, self.policy.defaults))

    # ---- the ledger
    def begin_bind(self, uid: str) -> bool:
        """Claim a pod for one bind; False while another is at it. Only it undoes the assumption until `end_bind`."""
        with self.lock:
            if uid in self._binding:
                return False
            self._binding.add(uid)
            return True

    def end_bind(self, uid: str) -> None:
        """The bind is over, whatever came of it."""
        with self.lock:
            self._binding.discard(uid)

    def assumed(self, uid: str, node: str) -> bool:
        """Whether the pod is still charged on the node, by an assumption or by the watch's word."""
        booking = self.bookings.get(uid)
        return booking is not None and booking.node == node and booking.state is not State.RESERVED

    def assume(self, ask: PodAsk, node: str, stages: Stages) -> Grant | Misfit:
        """Place the pod on the node and charge it, or say why not. Charged until `undo` or the watch's word."""
        with self.lock:
            known = self.bookings.get(ask.uid)
            if known is not None and known.state is not State.RESERVED:
                return self._again(known, node)
            if known is not None:
                if known.node == node and not self.ledger.ready(known):
                    return Misfit(Reason.RESERVED, detail="the pods that make room are still ending")
                self.ledger.release(ask.uid)
                if known.node == node and known.holding is not None:
                    self.ledger.charge(replace(known, state=State.ASSUMED, since=self._clock()))
                    return known.holding.grant
            grant = self.held_places.take(ask, node) or self._place_past(ask, node, stages)
            if isinstance(grant, Misfit):
                return grant
            self.ledger.charge(self._booking(ask, node, grant, stages, State.ASSUMED))
            return grant

    def _place_past(self, ask: PodAsk, node: str, stages: Stages) -> Grant | Misfit:
        """Place a pod that takes no place held for its workload."""
        grant = self.place(ask, node, stages)
        if isinstance(grant, Grant):
            self.held_places.pass_by(ask)
        return grant

    def place(self, ask: PodAsk, node: str, stages: Stages) -> Grant | Misfit:
        """The grant that the pod would get on the node within its quota. The caller holds the lock."""
        narrowed = self.quotas.narrow(ask)
        if isinstance(narrowed, Misfit):
            return narrowed
        grant = self.engine.place(narrowed, node)
        if isinstance(grant, Misfit):
            return grant
        return self.quotas.refuses(ask, node, grant, stages) or grant

    def undo(self, uid: str) -> None:
        """Take an assumption back. The one undo path; does nothing unless the pod is assumed."""
        with self.lock:
            booking = self.bookings.get(uid)
            if booking is not None and booking.state is State.ASSUMED:
                self.ledger.release(uid)

    def reserve(self, ask: PodAsk, node: str, grant: Grant, stages: Stages, until: float) -> None:
        """Hold capacity for a pod that is still pending, until a monotonic time. The caller has seen that it fits."""
        with self.lock:
            if ask.uid in self.pending.pods:
                self.hold(ask, node, grant, stages, until)

    def hold(self, ask: PodAsk, node: str, grant: Grant, stages: Stages, until: float) -> None:
        """Hold capacity under the ask's uid, whoever that is; does nothing where something is held already."""
        with self.lock:
            if ask.uid not in self.bookings:
                self.ledger.charge(replace(self._booking(ask, node, grant, stages, State.RESERVED), until=until))

    def reservation(self, uid: str) -> Booking | None:
        """What is held for a pending pod."""
        booking = self.bookings.get(uid)
        return booking if booking is not None and booking.state is State.RESERVED else None

    def drop_reservation(self, uid: str) -> None:
        """Give a reservation back; does nothing unless the pod has one."""
        with self.lock:
            booking = self.bookings.get(uid)
            if booking is not None and booking.state is State.RESERVED:
                self.ledger.release(uid)

    def drop_reservations(self) -> None:
        """Give every reservation and plan back: whoever leads next plans afresh."""
        with self.lock:
            for uid in [uid for uid, booking in self.bookings.items() if booking.state is State.RESERVED]:
                self.ledger.release(uid)
            self.pending.set_plan({}, {})

    def assumed_before(self, moment: float) -> list[Booking]:
        """Assumptions older than a monotonic time whose bind is over: they never became visible."""
        with self.lock:
            old = [t for t in self.bookings.values() if t.state is State.ASSUMED and t.since < moment]
            return [booking for booking in old if booking.uid not in self._binding]

    def gang_note(self, ask: PodAsk) -> str:
        """Why a gang's pod has to wait for the planner; empty for a pod that may be placed alone."""
        if not ask.gang or not self.policy.planner.enabled:
            return ""
        return self.pending.gang_note(ask, sum(1 for booking in self.bookings.values() if booking.gang == ask.gang))

    def node(self, name: str) -> Node | None:
        """A node as last seen."""
        return self._nodes.get(name)

    def node_values(self) -> list[Node]:
        """Every node, in no order."""
        with self.lock:
            return list(self._nodes.values())

    def node_names(self) -> list[str]:
        """Every node, sorted."""
        with self.lock:
            return sorted(self._nodes)

    def holdings(self) -> list[Holding]:
        """What bound and assumed pods hold, by name."""
        with self.lock:
            live = (booking for booking in self.bookings.values() if booking.state is not State.RESERVED)
            found = [booking.holding for booking in live if booking.holding is not None]
        return sorted(found, key=lambda holding: (holding.pod, holding.uid))

    # ---- inside
    def _again(self, known: Booking, node: str) -> Grant | Misfit:
        """A second bind of a pod that is assumed or bound: the same answer for the same node, else a refusal."""
        if known.node == node and known.holding is not None:
            return known.holding.grant
        return Misfit(Reason.RESERVED, detail=f"the pod is already {known.state} on {known.node}")

    def _booking(self, ask: PodAsk, node: str, grant: Grant, stages: Stages, state: State) -> Booking:
        return Booking(
            key=ask.key,
            uid=ask.uid,
            node=node,
            state=state,
            uses=card_uses(grant, stages),
            cpu_milli=ask.cpu_milli,
            memory_mib=ask.memory_mib,
            holding=Holding(ask.key, ask.uid, node, grant, stages),
            priority=ask.priority,
            gang=ask.gang,
            since=self._clock(),
        )

    def _forget(self, uid: str) -> None:
        self.held_places.forget(uid)
        self.pending.forget(uid)
        self.ledger.release(uid)


def load(store: Store, nodes: Iterable[Json], pods: Iterable[Json]) -> None:
    """Fill a store from dumps: for simulation, explanation and tests."""
    for node in nodes:
        store.apply_node("ADDED", node)
    for pod in pods:
        store.apply_pod("ADDED", pod)
