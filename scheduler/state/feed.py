"""The feed: what the watches, the policy file and the quota keeper say becomes values, and then state.

Objects are read outside the lock and applied under it, many of them in slices.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from kerf.values.ask import PodAsk, Stages
from kerf.values.device import Card
from kerf.values.fleet import PartPlaces
from kerf.values.hard_quota import HardQuota
from kerf.values.node import Node
from kerf.values.policy import Defaults, SchedulingPolicy
from kerf.values.quick import quick
from kerf.wire.claims import is_by_claims
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.objects import cards_without_grant, is_finished, parse_node
from kerf.wire.resources import ADMISSION, effective_requests, parse_pod
from scheduler.core.neighbours import Term, terms_of
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Shares
from scheduler.state.bookings import Booking, State, booking_of, read_again
from scheduler.state.live import Live
from scheduler.state.pending import Waiting
from scheduler.state.templates import Templates

_LOG = logging.getLogger("kerf.store")
PODS_A_HOLD = 500
"""Pods applied in one hold of the lock after a relist, so that a filter never waits for 40,000 of them."""


@quick
@dataclass(frozen=True, slots=True)
class _Gone:
    """A pod that holds nothing and waits for nothing: deleted, finished, or without asks."""

    uid: str


@quick
@dataclass(frozen=True, slots=True)
class _Bound:
    """A pod on a node. Without a booking: the ledger has it confirmed already. `admitted`: Kueue let it in."""

    uid: str
    booking: Booking | None = None
    admitted: PodAsk | None = None
    leaves: bool = False
    """It is being deleted."""
    grace_s: float | None = None
    """How long it may take for that."""
    resized: tuple[int, int] | None = None
    """Its CPU (thousandths) and memory (MiB), where they are others than the ledger has."""


@quick
@dataclass(frozen=True, slots=True)
class _Waits:
    """A pod that waits for a node."""

    uid: str
    waiting: Waiting
    defaults: Defaults
    """Those with which it was read."""


_Seen = _Gone | _Bound | _Waits | None


class Feed:
    """Writes what was seen. Safe from several threads."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._listed = False
        self._templates = Templates(live.vendors)

    # ---- watches
    def apply_node(self, kind: str, item: Json) -> None:
        """One node event."""
        live = self._live
        node = parse_node(item, live.vendors)
        with live.lock:
            if kind == "DELETED":
                live.nodes.pop(node.name, None)
                live.fleet.remove_node(node.name)
            elif live.nodes.get(node.name) != node:
                if node.problem:
                    _LOG.warning("node %s: %s", node.name, node.problem)
                live.nodes[node.name] = node
                if live.quotas.cards.put_node(node):
                    live.quotas.recount(live.ledger.on_node(node.name))
                    live.claimed.recount(node.name)
                live.fleet.put_node(node, live.policy.factors(node))
                self._read_again(node)
            else:
                return
            live.inventory += 1
        live.changed.set()

    def replace_nodes(self, items: Iterable[dict[str, Any]]) -> None:
        """The whole list of nodes. Each is read and let go before the next."""
        names = set()
        for item in items:
            self.apply_node("MODIFIED", item)
            names.add(item["metadata"]["name"])
        with self._live.lock:
            gone = [name for name in self._live.nodes if name not in names]
        for name in gone:
            self.apply_node("DELETED", {"metadata": {"name": name}})

    def apply_pod(self, kind: str, item: Json) -> None:
        """One pod event."""
        uid, seen, terms = self._event(kind, item)
        with self._live.lock:
            self._apply(seen)
            self._live.onlookers.put(uid, terms)

    def replace_pods(self, items: Iterable[dict[str, Any]]) -> None:
        """The whole list of pods; confirmed pods that are not in it are gone. Each is read and let go."""
        uids = set()
        coming = iter(items)
        while some := [self._event("MODIFIED", item) for item in islice(coming, PODS_A_HOLD)]:
            with self._live.lock:
                for uid, seen, terms in some:
                    uids.add(uid)
                    self._apply(seen)
                    self._live.onlookers.put(uid, terms)
        live = self._live
        if not self._listed:
            self._listed = True
            live.ledger.begin_history()
        with live.lock:
            for booking in live.ledger.bookings(State.CONFIRMED):
                if booking.uid not in uids:
                    self._forget(booking.uid)
            for uid in [uid for uid in live.pending.pods if uid not in uids]:
                self._forget(uid)
            live.onlookers.keep(uids)

    def set_gang_size(self, gang: str, size: int) -> None:
        """The size of one group; 0 forgets it."""
        with self._live.lock:
            self._live.pending.set_gang_size(gang, size)

    def set_one_by_one(self, groups: str, *, apart: bool) -> None:
        """Whether the pods of the gangs `groups/…` start one after the other."""
        with self._live.lock:
            self._live.pending.set_one_by_one(groups, apart=apart)

    def put_planned(self, name: str, listed: PartPlaces) -> None:
        """What a fleet's plan has here for a part of a workload, as the object of this name lists it."""
        with self._live.lock:
            self._live.planned.put(name, listed)

    def drop_planned(self, name: str) -> None:
        """The object of this name is gone."""
        with self._live.lock:
            self._live.planned.drop(name)

    def cards_on(self, node: str) -> tuple[Card, ...]:
        """The cards that a node has published."""
        with self._live.lock:
            known = self._live.nodes.get(node)
        return known.cards if known else ()

    # ---- settings
    def set_policy(self, policy: SchedulingPolicy) -> None:
        """Use another policy from the next request on. Over-commitment changes what is free, not what pods hold."""
        live = self._live
        with live.lock:
            others, live.policy = policy.defaults != live.policy.defaults, policy
            live.engine.set_policy(policy)
            for node in live.nodes.values():
                live.fleet.put_node(node, policy.factors(node))
        if others:
            self._ask_all_again()
        live.changed.set()

    def set_quota(self, shares: Shares, capacity: Capacity, hard: Mapping[str, HardQuota]) -> None:
        """Hold tenants and namespaces to other limits from the next request on. What they hold already stays."""
        live = self._live
        with live.lock:
            counted = live.quotas.active
            live.quotas.set_shares(shares, capacity)
            live.quotas.set_hard(hard)
            if not counted:
                live.quotas.recount(live.ledger.bookings())
                live.claimed.recount()
        live.changed.set()

    # ---- pods as values
    def _event(self, kind: str, item: Json) -> tuple[str, _Seen, tuple[Term, ...]]:
        """The pod's uid, what it is now, and the terms by which it looks at others."""
        terms = () if kind == "DELETED" or is_finished(item) else terms_of(item)
        return str(at(item, "metadata").get("uid", "")), self._read(kind, item), terms

    def _read(self, kind: str, item: Json) -> _Seen:
        meta, spec = at(item, "metadata"), at(item, "spec")
        uid = str(meta.get("uid", ""))
        if kind == "DELETED" or is_finished(item):
            return _Gone(uid)
        if spec.get("nodeName"):
            return self._bound(uid, item)
        if meta.get("deletionTimestamp"):  # with a finalizer it may stay so for long, and nobody binds it any more
            return _Gone(uid)
        defaults = self._live.policy.defaults
        waiting = self._waiting(uid, item, defaults)
        return _Waits(uid, waiting, defaults) if waiting is not None else None

    def _bound(self, uid: str, item: Json) -> _Bound:
        known, leaves = self._live.ledger.get(uid), "deletionTimestamp" in item["metadata"]
        grace_s = item["metadata"].get("deletionGracePeriodSeconds") if leaves else None
        if known is not None and known.state is State.CONFIRMED and known.node == item["spec"]["nodeName"]:
            started = known.holding is None and (
                cards_without_grant(item, self._live.vendors) != known.without_grant or is_by_claims(item)
            )
            found = booking_of(item, self._live.vendors, self._templates) if started else None
            return _Bound(uid, found, None, leaves, grace_s, _resized(known, item))
        admitted = None
        if ADMISSION in at(item["metadata"], "annotations"):
            with suppress(WireError):
                admitted = parse_pod(item, self._live.names, self._live.policy.defaults)
        return _Bound(uid, booking_of(item, self._live.vendors, self._templates), admitted, leaves, grace_s)

    def _waiting(self, uid: str, item: Json, defaults: Defaults) -> Waiting | None:
        meta = item["metadata"]
        stages: Stages = ()
        problem = ""
        common = self._templates.common(item)
        try:
            ask, stages = self._templates.ask_of(item, defaults, common)
        except WireError as error:
            ask = PodAsk(str(meta.get("namespace") or "default"), str(meta.get("name", "")), uid)
            problem = str(error)
        if not ask.containers and not ask.gang and not problem:
            return None
        return Waiting(
            ask,
            stages,
            str(meta.get("creationTimestamp", "")),
            problem,
            gates=bool(item["spec"].get("schedulingGates")),
            preempts=item["spec"].get("preemptionPolicy") != "Never",
            template=self._templates.small(common),
        )

    def _ask_all_again(self) -> None:
        """The waiting pods with the defaults of the policy in force, in slices."""
        live, uids = self._live, iter(self._live.pending.pods.copy())
        while some := list(islice(uids, PODS_A_HOLD)):
            with live.lock:
                for uid in some:
                    if (waiting := live.pending.pods.get(uid)) is not None:
                        live.pending.put(uid, self._ask_again(waiting))

    # ---- under the lock
    def _ask_again(self, waiting: Waiting) -> Waiting:
        """The pod with the defaults of the policy in force. What is reserved for it stays as it was promised."""
        if not waiting.template:
            return waiting
        try:
            ask, stages = self._templates.ask_again(waiting.template, waiting.ask, self._live.policy.defaults)
        except WireError as error:
            unread = PodAsk(waiting.ask.namespace, waiting.ask.name, waiting.ask.uid)
            return replace(waiting, ask=unread, stages=(), problem=str(error))
        return replace(waiting, ask=ask, stages=stages, problem="")

    def _read_again(self, node: Node) -> None:
        """What HAMi recorded of pods means something else on other cards."""
        live = self._live
        for booking in live.ledger.on_node(node.name):
            again = read_again(booking, live.vendors, node.cards)
            if again is not booking:
                live.ledger.correct(again)

    def _apply(self, seen: _Seen) -> None:
        live = self._live
        if isinstance(seen, _Bound):
            live.pending.forget(seen.uid)
            self._confirm(seen)
            if seen.leaves:
                live.ledger.leave(seen.uid, seen.grace_s)
        elif isinstance(seen, _Waits):
            late = seen.defaults is not live.policy.defaults  # the policy changed while the pod was read
            live.pending.put(seen.uid, self._ask_again(seen.waiting) if late else seen.waiting)
        elif isinstance(seen, _Gone):
            self._forget(seen.uid)

    def _confirm(self, seen: _Bound) -> None:
        live, booking = self._live, seen.booking
        known = live.ledger.get(seen.uid)
        if known is not None and seen.resized is not None:
            cpu, memory = seen.resized
            known = replace(known, template=replace(known.template, cpu_milli=cpu, memory_mib=memory))
            live.ledger.correct(known)
        if booking is None or (known is not None and _is_settled(known, booking)):
            return
        if seen.admitted is not None:
            live.places.pass_by(seen.admitted)
        if booking.record and (node := live.nodes.get(booking.node)) is not None:
            booking = read_again(booking, live.vendors, node.cards)
        live.ledger.confirm(booking)

    def _forget(self, uid: str) -> None:
        self._live.places.forget(uid)
        self._live.pending.forget(uid)
        self._live.ledger.release(uid)


def _resized(known: Booking, item: Json) -> tuple[int, int] | None:
    """What a confirmed pod takes of its node, where it was resized in place; None where that is as known.

    Few pods are: the API server counts the changes of a spec, and the kubelet's answers come with the new count.
    """
    generation = item["metadata"].get("generation")
    if not isinstance(generation, int) or generation < 2:
        return None
    with suppress(WireError):
        requests = effective_requests(item["spec"], at(item, "status"))
        return requests if requests != (known.cpu_milli, known.memory_mib) else None
    return None


def _is_settled(known: Booking, booking: Booking) -> bool:
    """Whether the ledger has a bound pod as it is: the first grant that was seen counts."""
    same = known.state is State.CONFIRMED and known.node == booking.node
    late = known.holding is None and booking.holding is not None
    return same and not late and known.without_grant == booking.without_grant
