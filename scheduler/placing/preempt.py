"""Preemption that kube-scheduler cannot see.

kube-scheduler looks for victims only among what its own plugins count. Slices of memory and cores are not among them,
so a pod that is refused for its cards alone never gets a candidate, and the `preempt` verb is never called. This loop
does what is missing: for a refused pod it finds the node where the fewest, least important pods must leave, evicts
them through the Eviction API (so PodDisruptionBudgets hold), and reserves what they free.

A pod within its tenant's guarantee comes first: for it leaves what others borrow, whatever the priorities. A budget
delays that until the policy's deadline and does not prevent it.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.kube.events import Events
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.obs.loop import Loop, run_every
from kerf.values.recovery import AfterDeadline
from scheduler.core.place import node_misfit
from scheduler.core.victims import Evictable, choose_victims, without
from scheduler.metrics import SchedulerMetrics
from scheduler.placing.pauses import Pauses
from scheduler.placing.together import who_stays
from scheduler.placing.wake import wake_scheduler
from scheduler.state.planning import Seeker
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.preempt")
LOOP = Loop("preempt", every_s=0.5)
PATIENCE_S = 1.0
"""A pod must have been refused for this long: the planner or a leaving pod may help it meanwhile."""
MOST_NODES = 256
"""Nodes examined for one pod, those with the most evictable pods first."""
ENOUGH_NODES = 16
"""The best of so many nodes that help is taken. On a large fleet a pod for which others leave needs no better one."""
HOLD_S = 90.0
"""How long the freed capacity is held: a pod's termination grace and kube-scheduler's back-off."""
PROTECTED_S = 30.0
"""How long a pod that a PodDisruptionBudget protects is no victim: others are looked for meanwhile."""
GANG_PAUSE_S = 5.0
"""Until a gang that found no places is tried again: all of its places are sought one by one."""
CALL_AFTER = 2
"""Rounds with a free place after which kube-scheduler is woken; mostly it has retried by itself before."""
GRACE_S = 30
"""After the deadline a borrower that leaves already gets no longer than this."""


class Preemption:
    """Evicts for refused pods: for every one within a guarantee, and for one a round by its priority."""

    def __init__(self, store: Store, kube: Kube, metrics: SchedulerMetrics, events: Events | None = None) -> None:
        self._desk = store.desk
        self._planning = store.planning
        self._allocations = store.allocations
        self._ledger = store.ledger
        self._kube = kube
        self._metrics = metrics
        self._events = events
        self._rounds: dict[str, int] = {}
        """By uid of a waiting pod, for how many rounds its reserved room has been free."""
        self._woken: set[str] = set()
        """The uids of those of them for which kube-scheduler was woken."""
        self._protected: dict[str, float] = {}
        """Until when (monotonic seconds) pods that could not be evicted are no victims."""
        self._looked: dict[str, int] = {}
        """By uid of a waiting pod, how many nodes of a large fleet were looked at for it."""
        self._pauses = Pauses()
        self._gangs_later: dict[str, float] = {}
        """Until when no place is sought for gangs that found none."""

    def run(self, stop: threading.Event) -> None:
        """Run twice a second until stopped."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """One round: the refused pods that evictions can help; a wake-up for those whose room is free."""
        now = time.monotonic()
        self._wake(now - PATIENCE_S)
        self._protected = {uid: until for uid, until in self._protected.items() if until > now}
        self._gangs_later = {gang: until for gang, until in self._gangs_later.items() if until > now}
        self._pauses.forget()
        self._looked = {uid: nodes for uid, nodes in self._looked.items() if self._desk.waiting_pod(uid)}
        self._show({**self._help_alone(now - PATIENCE_S), **self._help_gangs(now)})

    # ---- inside
    def _help_alone(self, moment: float) -> dict[str, str]:
        """Evict for pods without a gang. The tenants, by uid, of those for whose guarantee nobody may leave."""
        full: set[object] = set()
        helped: set[str] = set()
        unmet: dict[str, str] = {}
        for seeker in sorted(self._planning.seekers(moment), key=_order):
            uid = seeker.ask.uid
            if uid in helped or self._planning.has_room(seeker.ask):
                continue
            kind = (replace(seeker.ask, name="", uid=""), seeker.tenant, seeker.offered, self._is_late(seeker))
            found = None if kind in full else self._best(seeker)
            if found is not None and found[1] and self._pauses.holds(uid):
                unmet |= {uid: seeker.tenant} if seeker.tenant else {}
            elif found is not None and self._evict(seeker, *found):
                helped.add(uid)
                unmet.pop(uid, None)
                if not seeker.tenant:
                    break
            else:
                full.add(kind)  # pods of one kind wait for the same
                unmet |= {uid: seeker.tenant} if seeker.tenant else {}
        return unmet

    def _help_gangs(self, now: float) -> dict[str, str]:
        """The same for gangs."""
        unmet: dict[str, str] = {}
        for members in self._planning.gangs(now - PATIENCE_S):
            gang = str(members[0].ask.gang)
            if gang in self._gangs_later or not self._free_gang(gang, members):
                self._gangs_later.setdefault(gang, now + GANG_PAUSE_S)
                unmet |= {seeker.ask.uid: seeker.tenant for seeker in members}
        return unmet

    def _free_gang(self, gang: str, members: tuple[Seeker, ...]) -> bool:
        """Reserve a place for every member, then evict what is borrowed there; or neither."""
        chosen: dict[str, tuple[Seeker, str, Evictable]] = {}
        with self._ledger.unsettled(frozenset(seeker.ask.uid for seeker in members)):
            for seeker in members:
                if self._planning.reserve_free(seeker, time.monotonic() + HOLD_S):
                    continue
                found = self._best(seeker)
                if found is None or not self._planning.reserve_after(seeker, *found, time.monotonic() + HOLD_S):
                    self._give_up(members, chosen)
                    return False
                for victim in found[1]:
                    chosen[victim.uid] = (seeker, found[0], victim)
                    self._planning.leave(victim.uid)
        leaving = list(chosen.values())
        if (leaving and self._pauses.holds(gang)) or self._some_stay(
            [(seeker, victim) for seeker, _, victim in leaving]
        ):
            self._give_up(members, chosen)
            return False
        for seeker in members:
            self._hurry(seeker)
        for seeker, node, victim in leaving:
            if not self._remove(seeker, node, victim):
                self._give_up(members, chosen)
                return False
            del chosen[victim.uid]
        if leaving:
            self._pauses.note(gang)
        return True

    def _give_up(self, members: tuple[Seeker, ...], chosen: Iterable[str]) -> None:
        for uid in chosen:
            self._planning.stay(uid)
        for seeker in members:
            self._ledger.drop_reservation(seeker.ask.uid)

    def _show(self, unmet: Mapping[str, str]) -> None:
        claiming = self._allocations.unmet_pods()
        for gauge, counts in ((self._metrics.unmet, Counter(unmet.values())), (self._metrics.unmet_claims, claiming)):
            gauge.clear()
            for tenant, count in counts.items():
                gauge.labels(tenant).set(count)

    def _wake(self, moment: float) -> None:
        """Wake kube-scheduler, once, for a pod whose victims are gone and that is still not placed.

        kube-scheduler may retry before we see the eviction; that retry fails, and the next one comes after minutes.
        """
        free = self._planning.freed(moment)
        self._rounds = {uid: self._rounds.get(uid, 0) + 1 for uid in free}
        self._woken &= free.keys()
        due = [uid for uid in free if self._rounds[uid] >= CALL_AFTER and uid not in self._woken]
        if due and wake_scheduler(self._kube, free[due[0]], f"room-{due[0]}"):
            self._woken.update(due)  # one event of a node is enough for all of them

    def _is_late(self, seeker: Seeker) -> bool:
        """Whether budgets delay its tenant's guarantee no longer."""
        settings = self._desk.policy.quota.reclaim
        over = time.monotonic() - seeker.since >= settings.deadline_s
        return bool(seeker.tenant) and over and settings.after_deadline is AfterDeadline.DELETE

    def _best(self, seeker: Seeker) -> tuple[str, tuple[Evictable, ...]] | None:
        """The node and its victims: of what is borrowed first, fewest, the least important, then the node's name."""
        best: tuple[tuple[bool, int, int, str], tuple[Evictable, ...]] | None = None
        late, helping = self._is_late(seeker), 0
        for name in self._nodes(seeker):
            victims = self._victims(seeker, name, late) if helping < ENOUGH_NODES else None
            if victims is None:
                continue
            helping += 1
            own = bool(seeker.tenant) and not all(pod.borrowed for pod in victims)
            rank = (own, len(victims), max((pod.priority for pod in victims), default=0), name)
            if best is None or rank < best[0]:
                best = (rank, victims)
        return (best[0][3], best[1]) if best else None

    def _nodes(self, seeker: Seeker) -> list[str]:
        """The nodes to look at in this round. Of a large fleet each round has others, until one helps."""
        names = self._planning.nodes_to_free(seeker.claimant)
        if len(names) <= MOST_NODES:
            return names
        start = self._looked.get(seeker.ask.uid, 0) % len(names)
        self._looked[seeker.ask.uid] = start + MOST_NODES
        return (names[start:] + names[:start])[:MOST_NODES]

    def _victims(self, seeker: Seeker, node: str, late: bool) -> tuple[Evictable, ...] | None:
        """Who has to leave on a node, besides those that leave already. None: it does not help."""
        state, evictable, rule = self._planning.node_with_pods(node, seeker.claimant)
        evictable = [pod for pod in evictable if late or pod.uid not in self._protected]
        uids = choose_victims(seeker.ask, state, evictable, self._desk.by_cards_alone, rule)
        if uids is None or (not uids and not self._planning.leaving(node)):
            return None
        victims = tuple(pod for pod in evictable if pod.uid in uids)
        return victims if node_misfit(seeker.ask, without(state, victims)) is None else None

    def _evict(self, seeker: Seeker, node: str, victims: tuple[Evictable, ...]) -> bool:
        if not self._planning.reserve_after(seeker, node, victims, time.monotonic() + HOLD_S):
            return False
        if self._some_stay([(seeker, victim) for victim in victims]):
            self._ledger.drop_reservation(seeker.ask.uid)
            return False
        self._hurry(seeker)
        for victim in victims:
            if not self._remove(seeker, node, victim):
                self._ledger.drop_reservation(seeker.ask.uid)
                return False
        if victims:
            self._pauses.note(seeker.ask.uid)
        return True

    def _some_stay(self, leaving: Sequence[tuple[Seeker, Evictable]]) -> bool:
        """Whether one of several pods would not leave: then none is asked to. Of one alone its eviction says it."""
        asked = [pod for seeker, pod in leaving if not (pod.borrowed and self._is_late(seeker))]
        stay = who_stays(self._kube, asked) if len(leaving) > 1 else {}
        for pod in asked:
            if pod.uid in stay:
                self._protect(pod, stay[pod.uid])
        return bool(stay)

    def _protect(self, pod: Evictable, why: str) -> None:
        _LOG.warning("%s cannot be evicted: %s", pod.key, why)
        self._protected[pod.uid] = time.monotonic() + PROTECTED_S

    def _remove(self, seeker: Seeker, node: str, victim: Evictable) -> bool:
        """Whether the pod leaves. One that a budget protects is no victim for a while."""
        answer, how = evict(self._kube, victim.key, victim.uid), "evicted"
        if isinstance(answer, NotEvicted) and victim.borrowed and self._is_late(seeker):
            answer, how = self._delete(victim), "deleted"
        if isinstance(answer, NotEvicted):
            self._protect(victim, f"{answer.reason} (for {seeker.ask.key})")
            return False
        if isinstance(answer, Evicted):
            self._planning.leave(victim.uid)
            self._say(seeker, victim, node, how)
        return True

    def _delete(self, pod: Evictable, **options: int) -> Evicted | AlreadyGone | NotEvicted:
        namespace, _, name = pod.key.partition("/")
        try:
            self._kube.delete(paths.pod(namespace, name), {"preconditions": {"uid": pod.uid}, **options})
        except NotFound:
            return AlreadyGone()
        except KubeError as error:
            return NotEvicted(str(error))
        return Evicted()

    def _hurry(self, seeker: Seeker) -> None:
        """After the deadline borrowers that leave already, on the reserved cards, may not stay as long as they like."""
        place = self._ledger.reservation(seeker.ask.uid)
        if place is None or not self._is_late(seeker):
            return
        for pod in self._planning.leaving_borrowers(place.node, seeker.claimant):
            if pod.uses.keys() & place.uses.keys():
                self._delete(pod, gracePeriodSeconds=GRACE_S)

    def _say(self, seeker: Seeker, victim: Evictable, node: str, how: str) -> None:
        ask = seeker.ask
        if not victim.borrowed:
            self._metrics.preemptions.inc()
            _LOG.info("%s %s from %s for %s", how, victim.key, node, ask.key)
            return
        owner = f"tenant {victim.owner} holds" if victim.owner else "namespaces without a tenant hold"
        why = f"{owner} more than is guaranteed, and tenant {seeker.tenant} asks for its guarantee (pod {ask.key})"
        self._metrics.reclaimed.labels(victim.owner or "none", how).inc()
        _LOG.info("%s %s from %s: %s", how, victim.key, node, why)
        if self._events is not None:
            namespace, _, name = victim.key.partition("/")
            about = {"kind": "Pod", "namespace": namespace, "name": name, "uid": victim.uid}
            self._events.emit(about, "Reclaimed", f"{how}: {why}")


def _order(seeker: Seeker) -> tuple[bool, int, str, str]:
    """Guarantees first, then the most important, then the oldest."""
    return not seeker.tenant, -seeker.ask.priority, seeker.waiting.created, seeker.ask.key
