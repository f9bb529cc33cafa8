"""The desk: every question about the live state, and every reservation, with the lock inside.

Filter and prioritize are answered from what is kept up to date; nothing is copied on their path. Every other answer is
a value, so that what decides sees no state. Quota is part of each question about places (`within_quota`).
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant
from kerf.values.node import Node
from kerf.values.policy import QuotaEngine, SchedulingPolicy
from kerf.values.quota import Amount
from kerf.values.vendor import ResourceNames, Vendor
from kerf.values.verdict import Misfit, Reason
from kerf.wire.json import Json, at
from kerf.wire.resources import parse_pod, stages_of
from scheduler.core.columns import Ints
from scheduler.core.explain import short_reason
from scheduler.core.state import NodeState
from scheduler.core.victims import choose_victims
from scheduler.quota.evict import Running
from scheduler.solver.problem import QuotaRoom
from scheduler.state.answers import ByCards, Decided, Limits, Member, NoPlace, Promised, Where
from scheduler.state.binding import Bind
from scheduler.state.bookings import State, bound_again
from scheduler.state.live import Live
from scheduler.state.pending import Waiting
from scheduler.state.precedence import Precedence
from scheduler.state.reserved import why_not_yet
from scheduler.state.turns import Claimant, owners

NODES_A_HOLD = 100
"""Nodes read in one hold of the lock, so that a filter never waits for 5,000."""
PLANNED_S = 15.0
"""Seconds for which a pod's planned place is reserved while kube-scheduler takes its way to the bind."""


class Desk:
    """Safe from several threads."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._states: dict[str, tuple[int, NodeState]] = {}
        """By node, what was last read of it, and its version in the fleet then."""

    # ---- what holds for all
    @property
    def policy(self) -> SchedulingPolicy:
        """The policy in force."""
        return self._live.policy

    @property
    def precedence(self) -> Precedence:
        """Of answers, over all that can wait."""
        return self._live.precedence

    @property
    def names(self) -> tuple[ResourceNames, ...]:
        """The vendors' words."""
        return self._live.names

    @property
    def vendors(self) -> tuple[Vendor, ...]:
        """The vendors."""
        return self._live.vendors

    @property
    def changed(self) -> threading.Event:
        """Set whenever a new plan may help a waiting pod."""
        return self._live.changed

    @property
    def inventory(self) -> int:
        """Grows with every change of any node."""
        return self._live.inventory

    @property
    def version(self) -> int:
        """Grows with every change of what any node has or holds."""
        return self._live.fleet.version

    @property
    def node_count(self) -> int:
        """How many nodes are known."""
        return len(self._live.nodes)

    @property
    def size(self) -> int:
        """How many pods wait or hold something."""
        return len(self._live.ledger) + len(self._live.pending.pods)

    def read(self, pod: Json) -> tuple[PodAsk, Stages]:
        """A pod's ask with the policy's defaults, and its containers' stages. Raises WireError."""
        return parse_pod(pod, self._live.names, self._live.policy.defaults), stages_of(at(pod, "spec"))

    # ---- one pod
    def where(self, ask: PodAsk, names: Sequence[str]) -> Where:
        """Which of the nodes kube-scheduler may choose. A pod that fits on none of them is remembered as refused."""
        live = self._live
        with live.lock:
            self._seat_lost(ask)
            decided = (
                self._charged(ask, names)
                or self._reserved(ask, names)
                or self._gang(ask, names)
                or self._held(ask, names)
                or self._planned(ask, names)
            )
            if decided is not None:
                return decided
            found = live.within.fits(ask, names)
            if isinstance(found, Misfit):  # no plan and no eviction helps, so neither needs to know
                return Decided([], found.detail, over_quota=True)
            if found.why is not None:
                live.pending.refuse(ask.uid, names, all_nodes=len(live.fleet))
            return found

    def fits(self, ask: PodAsk, names: Sequence[str]) -> ByCards | Misfit:
        """On which of the nodes the pod fits by its cards and its quota, reservations and gangs apart."""
        with self._live.lock:
            return self._live.within.fits(ask, names)

    def order(self, ask: PodAsk, names: Sequence[str]) -> Ints:
        """A total order of the nodes, best highest; the node that a plan has for the pod comes first."""
        with self._live.lock:
            scores = self._live.within.preferred(ask, names, self._live.within.scores(ask, names))
            planned = self._live.pending.planned.get(ask.uid)
        if planned is not None and planned in names:
            scores[names.index(planned)] = scores.max() + 1
        return scores

    def looked_at(self, ask: PodAsk, labels: Mapping[str, str]) -> bool:
        """Whether another pod's affinity may look at the pod, which has these labels."""
        with self._live.lock:
            return self._live.onlookers.look_at(ask.namespace, labels)

    def victims(self, ask: PodAsk, names: Iterable[str]) -> dict[str, tuple[str, ...] | None]:
        """By node, the fewest, least important pods whose cards make room, else None; nothing where quota refuses."""
        live = self._live
        with live.lock:
            narrowed = live.within.narrow(ask)
        if isinstance(narrowed, Misfit):
            return {}
        found = {}
        for name in sorted(names):
            with live.lock:
                state, evictable = live.fleet.state(name), live.turns.evictable(name, Claimant(ask))
                rule = live.turns.rule(evictable)
            found[name] = choose_victims(narrowed, state, evictable, self.by_cards_alone, rule)
        return found

    def spares_guarantees(self, ask: PodAsk, uids: Sequence[str]) -> bool:
        """Whether pods that kube-scheduler chose for a more important one take no tenant below its guarantee."""
        with self._live.lock:
            return self._live.turns.spare(ask, uids)

    def look(
        self, ask: PodAsk, names: Sequence[str], stages: Stages, promised: Sequence[Promised]
    ) -> tuple[str, Grant] | NoPlace:
        """The best of the nodes for a pod that is not there yet, beside what others were promised. Leaves no trace."""
        with self._live.lock:
            return self._live.within.beside(ask, names, stages, promised)

    def could_hold(self, ask: PodAsk, state: NodeState) -> bool:
        """Whether quota leaves something to the pod and a node as it might be has the cards for that."""
        with self._live.lock:
            return self._live.within.could_hold(ask, state)

    def by_cards_alone(self, ask: PodAsk, state: NodeState) -> Grant | Misfit:
        """The grant on a node as it might be, whatever quota says. Reads no live state."""
        return self._live.within.by_cards_alone(ask, state)

    def rooms(self, namespaces: Iterable[str]) -> tuple[QuotaRoom, ...]:
        """What the pods of these namespaces may still take of their tenants' quotas and of ResourceQuotas."""
        with self._live.lock:
            return self._live.quotas.rooms(namespaces)

    def refusals(self, asks: Iterable[PodAsk]) -> tuple[str, ...]:
        """What quota says of waiting pods that it refuses."""
        found = []
        for ask in asks:
            with self._live.lock:
                narrowed = self._live.within.narrow(ask)
            if isinstance(narrowed, Misfit):
                found.append(f"{ask.key}: {narrowed.detail}")
        return tuple(found)

    # ---- binding
    def begin_bind(self, uid: str) -> Bind | None:
        """A bind of the pod; None while another one has it."""
        live = self._live
        if not live.ledger.begin_bind(uid):
            return None
        known = live.pending.pods.get(uid)
        # No bind is asked for a gated pod: the watch lags, and what opened the gate may have written into the pod.
        sure = known is not None and not known.problem and not known.gates
        return Bind(uid, known if sure else None, live.ledger, self.assume)

    def assume(self, ask: PodAsk, node: str, stages: Stages) -> Grant | Misfit:
        """Place the pod on the node and charge it, or say why not. Charged until it is undone or the watch shows it."""
        live = self._live
        with live.lock:
            known = live.ledger.get(ask.uid)
            if known is not None and known.state is not State.RESERVED:
                return bound_again(known, node)
            if known is not None and known.node == node:
                if why := why_not_yet(live, ask, known):
                    return Misfit(Reason.RESERVED, detail=why)
                if known.holding is not None and live.ledger.is_usable(known):
                    live.ledger.assume_reserved(known)
                    return known.holding.grant
            live.ledger.drop_reservation(ask.uid)
            grant = live.places.take(ask, node) or live.within.place(ask, node, stages)
            if isinstance(grant, Misfit):
                return grant
            live.places.pass_by(ask)  # no-op for a pod that has just taken a place
            live.ledger.assume(ask, node, grant, stages)
            return grant

    # ---- places of workloads
    def hold_places(self, workload: str, members: Sequence[Member], until: float) -> NoPlace | None:
        """Hold a place for every pod of a workload, or for none and say why. Takes the lock in slices."""
        return self._live.places.hold(workload, members, self.nodes(), until)

    def drop_places(self, workload: str) -> None:
        """Give back what is still held for a workload."""
        self._live.places.drop(workload)

    def hold_for_successor(self, pod: str, member: Member, until: float) -> NoPlace | None:
        """Hold a place for the pod that follows a leaving one, or say why there is none."""
        return self._live.places.hold_for_successor(pod, member, self.nodes(), until)

    def drop_successor(self, pod: str, owner: str) -> None:
        """The pod does not leave: give its successor's place back."""
        self._live.places.drop_successor(pod, owner)

    # ---- nodes
    def node(self, name: str) -> Node | None:
        """A node as last seen."""
        return self._live.nodes.get(name)

    def nodes(self) -> list[Node]:
        """Every node, by name."""
        with self._live.lock:
            found = list(self._live.nodes.values())
        return sorted(found, key=lambda node: node.name)

    def node_names(self) -> list[str]:
        """Every node, sorted."""
        with self._live.lock:
            return sorted(self._live.nodes)

    def state(self, name: str) -> NodeState:
        """What is free on a node."""
        with self._live.lock:
            return self._live.fleet.state(name)

    def states(self) -> tuple[NodeState, ...]:
        """What is free on every node that has cards, by name. Takes the lock in slices.

        A node that has not changed since the last call is the very same value.
        """
        names, found, fleet = self.node_names(), dict[str, tuple[int, NodeState]](), self._live.fleet
        for start in range(0, len(names), NODES_A_HOLD):
            with self._live.lock:
                for name in names[start : start + NODES_A_HOLD]:
                    known, version = self._states.get(name), fleet.version_of(name)
                    found[name] = known if known and known[0] == version else (version, fleet.state(name))
            self._live.precedence.pause()
        self._states = found
        return tuple(state for _, state in found.values() if state.cards)

    # ---- pods
    def waiting(self) -> list[Waiting]:
        """The pods that wait, in no order."""
        with self._live.lock:
            return list(self._live.pending.pods.values())

    def waiting_pod(self, uid: str) -> Waiting | None:
        """A pod that waits."""
        return self._live.pending.pods.get(uid)

    # ---- quota
    def limits(self) -> Limits:
        """What tenants and namespaces may hold."""
        with self._live.lock:
            quotas = self._live.quotas
            return Limits(quotas.shares, quotas.capacity, quotas.hard)

    def used(self) -> dict[str, dict[str, Amount]]:
        """What every tenant holds, by class."""
        with self._live.lock:
            quotas = self._live.quotas
            return {share.tenant.name: quotas.used(share) for share in quotas.shares.tenants}

    def overdrawn(self) -> bool:
        """Whether tenants hold more of a class than its cards give, and a file says that pods leave then."""
        with self._live.lock:
            return self._live.quotas.overdrawn()

    def running(self) -> list[Running]:
        """The confirmed pods of tenants, with what they hold by class."""
        with self._live.lock:
            quotas = self._live.quotas
            return [
                Running(f"{b.key}/{b.uid}", owner, quotas.usage_of(b.uid).by, b.created, b.priority)
                for b in self._live.ledger.bookings(State.CONFIRMED)
                if (owner := quotas.owner(b.key.partition("/")[0]))
            ]

    def unmet(self, ask: PodAsk) -> str:
        """Who may leave so that a refused pod gets what its tenant is guaranteed, or why nobody does."""
        live, quota = self._live, self._live.policy.quota
        if quota.engine is not QuotaEngine.KERF or not quota.reclaim.enabled:
            return ""
        with live.lock:
            owner, mine = live.quotas.owner(ask.namespace), live.turns.within_guarantee(ask)
            borrowers = live.turns.borrowers(ask.namespace) if mine is not None else []
        if not owner:
            return ""
        if mine is None:
            return f"nobody leaves for it: with it tenant {owner} would hold more than it is guaranteed"
        if not borrowers:
            return f"tenant {owner} is guaranteed this, and nobody borrows it: kerf repack --plan shows what to move"
        return f"tenant {owner} is guaranteed this: pods of {owners(borrowers)} may leave for it"

    # ---- inside: what decides before the cards do
    def _charged(self, ask: PodAsk, names: Sequence[str]) -> Decided | None:
        """A pod that is being bound goes nowhere else."""
        known = self._live.ledger.get(ask.uid)
        if known is None or known.state is State.RESERVED:
            return None
        fits = [known.node] if known.node in names else []
        return Decided(fits, f"the pod is already {known.state} on {known.node}")

    def _reserved(self, ask: PodAsk, names: Sequence[str]) -> Decided | None:
        ledger = self._live.ledger
        held = ledger.reservation(ask.uid)
        if held is None:
            return None
        if held.node not in names or not ledger.is_usable(held):
            ledger.drop_reservation(ask.uid)
            return None
        if why := why_not_yet(self._live, ask, held):
            return Decided([], why)
        return Decided([held.node], short_reason(Reason.RESERVED))

    def _gang(self, ask: PodAsk, names: Sequence[str]) -> Decided | None:
        live = self._live
        if not ask.gang or not live.policy.planner.enabled:
            return None
        note = live.pending.gang_note(ask, lambda: live.ledger.members_of(ask.gang))
        if not note:
            return None
        live.pending.refuse(ask.uid, names, all_nodes=len(live.fleet))
        return Decided([], note)

    def _seat_lost(self, newcomer: PodAsk) -> None:
        """Reserve places for pods that a running gang has lost, before a pod that is no more important is answered."""
        live = self._live
        full: set[object] = set()
        for uid, version in list(live.pending.lost.items()):
            one = live.pending.pods.get(uid)
            if one is None or uid == newcomer.uid or one.ask.priority < newcomer.priority:
                continue
            if version == live.fleet.version or live.ledger.get(uid) is not None:
                continue
            if not live.ledger.members_of(one.ask.gang):  # nothing of it runs any more: it starts as a whole
                del live.pending.lost[uid]
                continue
            offered = live.pending.offered(uid)
            kind = (replace(one.ask, name="", uid=""), one.stages, offered)
            if kind not in full:  # a gang's members ask for the same: where one finds no place, none does
                names = sorted(live.nodes if offered is None else offered)
                found = live.within.best(one.ask, names, one.stages) if live.within.has_room(one.ask, names) else None
                if found is not None and not isinstance(found, NoPlace):
                    until = live.clock() + live.policy.planner.gang_timeout_s
                    live.ledger.reserve(one.ask, *found, one.stages, until)
                    continue
                full.add(kind)
            live.pending.lost[uid] = live.fleet.version

    def _held(self, ask: PodAsk, names: Sequence[str]) -> Decided | None:
        places = [name for name in self._live.places.nodes(ask) if name in names]
        return Decided(places, short_reason(Reason.RESERVED)) if places else None

    def _planned(self, ask: PodAsk, names: Sequence[str]) -> Decided | None:
        """Reserve the place that a fleet's plan has for the pod, so that the next one of its part gets another."""
        live = self._live
        stages = tuple((each.name, each.stage) for each in ask.containers)  # the watch may not have shown the pod yet
        found = live.within.planned_first(ask, names, stages)
        if found is None:
            return None
        live.ledger.reserve(ask, *found, stages, live.clock() + PLANNED_S)
        return Decided([found[0]], short_reason(Reason.RESERVED))
