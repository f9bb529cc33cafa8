"""Which pods may leave for another one: by priority, or because they borrow what another tenant is guaranteed.

No pod of another tenant leaves while that tenant holds no more than its guarantee, whatever the priorities: a
PriorityClass is a word that anyone may write. The caller holds the lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from kerf.values.ask import PodAsk
from kerf.values.verdict import Misfit
from scheduler.core.victims import Allowed, Evictable
from scheduler.quota.borrowing import NO_TENANT, Standing, may_leave
from scheduler.state.bookings import Booking, State
from scheduler.state.ledger import Ledger
from scheduler.state.quotas import QuotaLedger
from scheduler.state.within_quota import WithinQuota


@dataclass(frozen=True, slots=True)
class Claimant:
    """The pod for which others may leave."""

    ask: PodAsk
    preempts: bool = True
    """Its PriorityClass lets less important pods leave."""
    guaranteed: bool = False
    """It is within its tenant's guarantee: what others borrow leaves, whatever its priority."""


class Turns:
    """Asks the ledger and the quotas."""

    def __init__(self, ledger: Ledger, quotas: QuotaLedger, within: WithinQuota) -> None:
        self._ledger = ledger
        self._quotas = quotas
        self._within = within

    def evictable(self, node: str, claimant: Claimant) -> list[Evictable]:
        """The node's pods that may leave for the claimant, were each the only one. Those that leave already are not.

        Pods with claims are not, either: their cards are in the hands of Kubernetes' allocator.
        """
        own = self._owner(claimant.ask.namespace)
        staying = (each for each in self._staying(node) if not each.by_claims)
        found = [pod for each in staying if (pod := self._evictable(each, claimant, own)) is not None]
        rule = self.rule(found)
        return [pod for pod in found if rule((pod,))]

    def leaving(self, node: str) -> list[Evictable]:
        """The node's pods that are on their way out: what they hold is free soon."""
        return [_pod(b) for b in self._ledger.on_node(node) if self._ledger.ends_soon(b.uid)]

    def leaving_borrowers(self, node: str, claimant: Claimant) -> list[Evictable]:
        """Those of them that their owners, others than the claimant's, borrow."""
        own, found = self._owner(claimant.ask.namespace), []
        for pod in self.leaving(node):
            owner, holds = self._owner(pod.key.partition("/")[0]), self._quotas.usage_of(pod.uid)
            if owner != own and self._quotas.standing(owner).lends(holds):
                found.append(replace(pod, owner=owner, holds=holds, borrowed=True))
        return found

    def rule(self, pods: Iterable[Evictable]) -> Allowed:
        """Which of these may leave together, as things are now."""
        return partial(_allow, {owner: self._standing(owner) for owner in {pod.owner for pod in pods if pod.guarded}})

    def spare(self, ask: PodAsk, uids: Sequence[str]) -> bool:
        """Whether these pods, which kube-scheduler chose for a more important one, may leave."""
        claimant, own = Claimant(ask), self._owner(ask.namespace)
        known = [booking for uid in uids if (booking := self._ledger.get(uid)) is not None and booking.uses]
        found = [self._evictable(booking, claimant, own) for booking in known]
        chosen = [pod for pod in found if pod is not None]
        return self.rule(chosen)(chosen)

    def within_guarantee(self, ask: PodAsk) -> PodAsk | None:
        """The ask on those classes of which its tenant is guaranteed so much more; None where there is none."""
        found = self._within.guaranteed(ask) if self._quotas.owner(ask.namespace) else None
        return None if isinstance(found, Misfit) else found

    def nodes_to_free(self, claimant: Claimant) -> list[str]:
        """Nodes with pods that may leave for the claimant, or leave already; those with the most first."""
        own = self._owner(claimant.ask.namespace)
        classes = frozenset(claimant.ask.selection.classes if claimant.guaranteed else ())
        if classes.issuperset(one.slug for one in self._quotas.capacity):
            classes = frozenset()  # no pod holds cards of another one
        lends = cache(lambda owner: owner != own and self._standing(owner).only(classes).borrows)
        counts: dict[str, int] = {}
        for booking in self._ledger.bookings(State.CONFIRMED):
            if not booking.uses or booking.by_claims:
                continue
            if self._ledger.leaves(booking.uid):
                may = self._ledger.ends_soon(booking.uid)
            else:
                may = claimant.preempts and booking.priority < claimant.ask.priority
                may = may or (claimant.guaranteed and lends(self._owner_of(booking)))
            if may and (not classes or self._holds_some(booking.uid, classes)):
                counts[booking.node] = counts.get(booking.node, 0) + 1
        return [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

    def borrowers(self, namespace: str) -> list[str]:
        """The owners, other than the namespace's, that hold more than they are guaranteed."""
        own = self._owner(namespace)
        owners = (NO_TENANT, *(share.tenant.name for share in self._quotas.shares.tenants))
        return [owner for owner in owners if owner != own and self._standing(owner).borrows]

    # ---- inside
    def _holds_some(self, uid: str, classes: frozenset[str]) -> bool:
        return any(slug in classes for slug, _ in self._quotas.usage_of(uid).by)

    def _staying(self, node: str) -> list[Booking]:
        found = self._ledger.on_node(node)
        return [b for b in found if b.state is State.CONFIRMED and not self._ledger.leaves(b.uid)]

    def _evictable(self, booking: Booking, claimant: Claimant, own: str) -> Evictable | None:
        owner = self._owner_of(booking)
        by_priority = claimant.preempts and booking.priority < claimant.ask.priority
        borrowed = claimant.guaranteed and owner != own
        if not by_priority and not borrowed:
            return None
        guarded = owner != own and (owner != NO_TENANT or not by_priority)
        holds = self._quotas.usage_of(booking.uid)
        return replace(_pod(booking), owner=owner, holds=holds, guarded=guarded, borrowed=borrowed)

    def _owner(self, namespace: str) -> str:
        return self._quotas.owner(namespace)

    def _owner_of(self, booking: Booking) -> str:
        return self._owner(booking.key.partition("/")[0])

    def _standing(self, owner: str) -> Standing:
        """What the owner holds once all that leaves is gone."""
        standing = self._quotas.standing(owner)
        for uid in self._ledger.leaving():
            booking = self._ledger.get(uid)
            if booking is not None and self._owner_of(booking) == owner:
                standing = standing.without(self._quotas.usage_of(uid))
        return standing


def owners(names: Iterable[str]) -> str:
    """Owners in words."""
    return " and ".join(f"tenant {name}" if name else "namespaces without a tenant" for name in names)


def _allow(standings: Mapping[str, Standing], pods: Sequence[Evictable]) -> bool:
    return may_leave(standings, ((pod.owner, pod.holds) for pod in pods if pod.guarded))


def _pod(booking: Booking) -> Evictable:
    return Evictable(
        booking.uid,
        booking.key,
        booking.priority,
        booking.uses,
        booking.cpu_milli,
        booking.memory_mib,
        booking.created,
    )
