"""What the planner and preemption ask of the live state, and what they reserve. The lock is inside."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kerf.values.ask import PodAsk
from kerf.values.grant import Grant
from kerf.values.policy import QuotaEngine
from kerf.values.verdict import Misfit, Reason
from scheduler.core.explain import explain_misfit
from scheduler.core.state import NodeState
from scheduler.core.victims import Allowed, Evictable, without
from scheduler.solver.problem import Assignment, Movable, Problem
from scheduler.state.answers import Candidate, NoPlace
from scheduler.state.desk import Desk
from scheduler.state.live import Live
from scheduler.state.pending import Waiting
from scheduler.state.reserved import why_not_yet
from scheduler.state.turns import Claimant

PODS_A_HOLD = 32
"""Waiting pods read in one hold of the lock: a few tenths of a millisecond."""
PLACES_A_HOLD = 4
"""Places checked again and reserved in one hold of the lock."""
Offered = tuple[tuple[str, frozenset[str]], ...]


@dataclass(frozen=True, slots=True)
class Seeker:
    """A refused pod for which others may leave. `tenant` is set where it is within that tenant's guarantee."""

    waiting: Waiting
    claimant: Claimant
    since: float
    """Since when it is refused everywhere, and where it has a tenant within that guarantee (monotonic seconds)."""
    offered: frozenset[str] | None = None
    """The nodes that kube-scheduler's own filters left to it; None where they left all."""
    tenant: str = ""

    @property
    def ask(self) -> PodAsk:
        """What it asks for."""
        return self.waiting.ask


class Planning:
    """Safe from several threads."""

    def __init__(self, live: Live, desk: Desk) -> None:
        self._live = live
        self._desk = desk

    # ---- plans
    def candidates(self) -> list[Candidate]:
        """The waiting pods that hold and have reserved nothing, each with its ask within quota, in no order."""
        live = self._live
        waiting = self._desk.waiting()
        found: list[Candidate] = []
        for start in range(0, len(waiting), PODS_A_HOLD):
            with live.lock:
                free = (w for w in waiting[start : start + PODS_A_HOLD] if live.ledger.get(w.ask.uid) is None)
                found += [self._candidate(one) for one in free if not one.problem and not one.gates]
            live.precedence.pause()
        return found

    def problem(
        self,
        asks: Iterable[PodAsk],
        movable: tuple[Movable, ...] = (),
        budgets: tuple[tuple[str, int], ...] = (),
        offered: Offered | None = None,
    ) -> Problem:
        """The live state as a planner's problem, with what quota leaves to these pods.

        `offered` names the nodes that pods may use; without it, those that kube-scheduler offered.
        """
        live, asked = self._live, tuple(asks)
        nodes = self._desk.states()
        with live.lock:
            left = ((ask.uid, names) for ask in asked if (names := live.pending.offered(ask.uid)) is not None)
            return Problem(
                nodes=nodes,
                asks=asked,
                policy=live.policy,
                movable=movable,
                running=tuple(sorted(live.ledger.gang_members().items())),
                offered=tuple(sorted(left)) if offered is None else offered,
                budgets=budgets,
                quotas=live.quotas.rooms(ask.namespace for ask in (*asked, *(each.ask for each in movable))),
            )

    def reserve_all(self, members: Sequence[tuple[PodAsk, Assignment]], until: float) -> str:
        """Reserve the planned place of every pod, each checked again on the live state; or none, and say why.

        The lock is taken in slices. No pod may take its place before every pod has one.
        """
        ledger = self._live.ledger
        with ledger.unsettled(frozenset(ask.uid for ask, _ in members)):
            why = self._reserve_in_slices(members, until)
            with self._live.lock:
                lost = (ask.key for ask, _ in members if ledger.get(ask.uid) is None)
                why = why or next((f"pod {key}: its place was given back" for key in lost), "")
                for ask, _ in members if why else ():
                    ledger.drop_reservation(ask.uid)
        return why

    def reserve_listed(self, asks: Sequence[PodAsk], until: float) -> str:
        """Reserve what a fleet's plan has here for the pods of a gang, for all or for none; the node of the first one.

        Empty where it has no place for one of them that is free. They are placed as any other gang then.
        """
        live, nodes = self._live, list[str]()
        with live.lock:
            for ask in asks:
                waiting, offered = live.pending.pods.get(ask.uid), live.pending.offered(ask.uid)
                names = live.nodes.keys() if offered is None else offered
                found = live.within.planned(ask, names, waiting.stages) if waiting is not None else None
                if waiting is None or found is None:
                    for seated in asks[: len(nodes)]:
                        live.ledger.drop_reservation(seated.uid)
                    return ""
                live.ledger.reserve(ask, *found, waiting.stages, until)
                nodes.append(found[0])
        return nodes[0] if nodes else ""

    def set_plan(self, planned: dict[str, str], notes: dict[str, str]) -> None:
        """Adopt a plan: a node per pod's uid, and why complete gangs wait."""
        with self._live.lock:
            self._live.pending.set_plan(planned, notes)

    def add_notes(self, notes: dict[str, str]) -> None:
        """Say why further gangs wait, beside what the last plan says."""
        with self._live.lock:
            self._live.pending.add_notes(notes)

    def drop(self) -> None:
        """Give every reservation and plan back: the next leader plans again."""
        with self._live.lock:
            self._live.ledger.drop_reservations()
            self._live.pending.set_plan({}, {})

    # ---- preemption
    def seekers(self, moment: float) -> list[Seeker]:
        """Pods refused since before a monotonic time that evictions may help, each with its ask within quota."""
        live = self._live
        with live.lock:
            alone = [one for one in live.pending.refused_before(moment) if self._is_alone(one)]
        found: list[Seeker] = []
        for start in range(0, len(alone), PODS_A_HOLD):
            with live.lock:
                for one in alone[start : start + PODS_A_HOLD]:
                    found += self._seekers(one)
            live.precedence.pause()
        return found

    def gangs(self, moment: float) -> list[tuple[Seeker, ...]]:
        """Gangs of which as many pods as are missing were refused before a monotonic time, all within the guarantee."""
        live, members, found = self._live, dict[str, list[Waiting]](), []
        with live.lock:
            for one in live.pending.refused_before(moment) if self._reclaims else ():
                if one.ask.gang and one.ask.containers and not self._is_alone(one):
                    members.setdefault(one.ask.gang, []).append(one)
            for gang, waiting in sorted(members.items()):
                missing = live.pending.sized(waiting[0].ask).gang_size - live.ledger.members_of(gang)
                free = sorted(
                    (one for one in waiting if live.ledger.get(one.ask.uid) is None),
                    key=lambda one: (one.created, one.ask.key),
                )
                seekers = [seeker for one in free[:missing] for seeker in self._seekers(one) if seeker.tenant]
                if len(seekers) == missing:
                    found.append(tuple(seekers))
        return found

    def reserve_free(self, seeker: Seeker, until: float) -> bool:
        """Reserve a place that is free as things are, within the tenant's guarantee."""
        live, ask, stages = self._live, seeker.ask, seeker.waiting.stages
        with live.lock:
            if ask.uid not in live.pending.pods or live.turns.within_guarantee(ask) is None:
                return False
            names = sorted(live.nodes if seeker.offered is None else seeker.offered)
            found = live.within.best(ask, names, stages) if live.within.has_room(ask, names) else None
            if found is None or isinstance(found, NoPlace):
                return False
            live.ledger.reserve(ask, *found, stages, until)
            return True

    def freed(self, moment: float) -> dict[str, str]:
        """By uid of a pod refused since before a monotonic time, the node on which its reserved room is free by now."""
        live = self._live
        with live.lock:
            refused = [one.ask for one in live.pending.refused_before(moment)]
            held = [(ask, live.ledger.reservation(ask.uid)) for ask in refused]
            return {ask.uid: place.node for ask, place in held if place and not why_not_yet(live, ask, place)}

    def has_room(self, ask: PodAsk) -> bool:
        """Whether the pod fits, as things are, on a node that kube-scheduler offered it."""
        with self._live.lock:
            offered = self._live.pending.offered(ask.uid)
            names = sorted(self._live.nodes if offered is None else offered)
            return self._live.within.has_room(ask, names)

    def nodes_to_free(self, claimant: Claimant) -> list[str]:
        """Nodes on offer with pods that may leave for the claimant, those with the most first."""
        with self._live.lock:
            offered = self._live.pending.offered(claimant.ask.uid)
            found = self._live.turns.nodes_to_free(claimant)
        return [name for name in found if offered is None or name in offered]

    def node_with_pods(self, name: str, claimant: Claimant) -> tuple[NodeState, list[Evictable], Allowed]:
        """What will be free on a node once those have ended that leave already, and which others may leave together."""
        live = self._live
        with live.lock:
            state = without(live.fleet.state(name), live.turns.leaving(name))
            evictable = live.turns.evictable(name, claimant)
            return state, evictable, live.turns.rule(evictable)

    def leaving(self, node: str) -> list[Evictable]:
        """The node's pods that are on their way out."""
        with self._live.lock:
            return self._live.turns.leaving(node)

    def leaving_borrowers(self, node: str, claimant: Claimant) -> list[Evictable]:
        """Those of them that their owners borrow, the claimant's own apart."""
        with self._live.lock:
            return self._live.turns.leaving_borrowers(node, claimant)

    def leave(self, uid: str) -> None:
        """A pod is a victim: count on what it holds, and not on the pod."""
        self._live.ledger.leave(uid)

    def stay(self, uid: str) -> None:
        """It could not be evicted."""
        self._live.ledger.stay(uid)

    def reserve_after(self, seeker: Seeker, node: str, victims: Sequence[Evictable], until: float) -> bool:
        """Reserve what the victims will free, and those that leave already, if that is right and enough by now.

        They are looked at again: meanwhile one may have left, or have become another tenant's, or policy and shares may
        have changed.
        """
        live, waiting, ask = self._live, seeker.waiting, seeker.ask
        with live.lock:
            if seeker.tenant and (not self._reclaims or live.turns.within_guarantee(ask) is None):
                return False
            chosen = {pod.uid for pod in victims}
            found = [pod for pod in live.turns.evictable(node, seeker.claimant) if pod.uid in chosen]
            if len(found) < len(chosen) or not live.turns.rule(found)(found):
                return False
            state = without(live.fleet.state(node), [*live.turns.leaving(node), *found])
            grant = live.within.place_on(ask, state, waiting.stages)
            if isinstance(grant, Misfit) or ask.uid not in live.pending.pods:
                return False
            live.ledger.reserve(ask, node, grant, waiting.stages, until)
            return True

    # ---- inside
    @property
    def _reclaims(self) -> bool:
        quota = self._live.policy.quota
        return quota.engine is QuotaEngine.KERF and quota.reclaim.enabled

    def _is_alone(self, one: Waiting) -> bool:
        """Whether it is placed without others: it has no gang, or one that starts one by one or runs in full."""
        ask = self._live.pending.sized(one.ask)
        alone = not ask.gang or ask.gang_size < 2 or self._live.ledger.members_of(ask.gang) >= ask.gang_size
        return alone and bool(ask.containers)

    def _seekers(self, one: Waiting) -> Iterator[Seeker]:
        """The pod as a claimant of its tenant's guarantee, and by its priority."""
        live, uid = self._live, one.ask.uid
        narrowed = live.within.narrow(one.ask)
        settled = uid in live.pending.planned or live.ledger.get(uid) is not None
        since, offered = live.pending.refused.get(uid), live.pending.offered(uid)
        if settled or since is None or isinstance(narrowed, Misfit):  # no eviction helps a pod that quota refuses
            return
        mine = live.turns.within_guarantee(narrowed) if self._reclaims else None
        claimed = live.pending.claims_since(uid, within=mine is not None)
        if mine is not None:
            claimant = Claimant(mine, one.preempts, guaranteed=True)
            yield Seeker(replace(one, ask=mine), claimant, claimed, offered, live.quotas.owner(mine.namespace))
        if one.preempts:
            yield Seeker(replace(one, ask=narrowed), Claimant(narrowed), since, offered)

    def _reserve_in_slices(self, members: Sequence[tuple[PodAsk, Assignment]], until: float) -> str:
        """Why a place cannot be reserved; those before it are reserved. Empty where all are."""
        for start in range(0, len(members), PLACES_A_HOLD):
            with self._live.lock:
                for member in members[start : start + PLACES_A_HOLD]:
                    if why := self._reserve(*member, until):
                        return why
            self._live.precedence.pause()
        return ""

    def _candidate(self, one: Waiting) -> Candidate:
        ask = self._live.pending.sized(one.ask)
        narrowed = self._live.within.narrow(ask)
        refused = ask.uid in self._live.pending.refused
        if isinstance(narrowed, Misfit):
            return Candidate(replace(one, ask=ask), refused, narrowed.detail)
        return Candidate(replace(one, ask=narrowed), refused)

    def _reserve(self, ask: PodAsk, planned: Assignment, until: float) -> str:
        """Why the place cannot be reserved; empty where it is."""
        live = self._live
        waiting = live.pending.pods.get(ask.uid)
        if waiting is None:
            return f"pod {ask.key} does not wait any longer"
        grant = live.within.place(self._as_planned(ask, planned), planned.node, waiting.stages)
        if isinstance(grant, Grant):
            live.ledger.reserve(ask, planned.node, grant, waiting.stages, until)
            return ""
        why = grant.detail if grant.reason is Reason.QUOTA else f"{planned.node}: {explain_misfit(grant)}"
        return f"pod {ask.key}: {why}"

    def _as_planned(self, ask: PodAsk, planned: Assignment) -> PodAsk:
        """The ask on the classes of cards that the plan has for it: the gang's quota was shared out by class."""
        classes = self._live.quotas.cards.classes_of(planned.node, planned.grant) if self._live.quotas.active else ()
        return replace(ask, selection=replace(ask.selection, classes=classes)) if classes else ask
