"""What tenants and namespaces may hold, and hold: counted pod by pod beside the ledger, under the store's lock.

No tenant holds more than its limit, also where Kueue admits its pods: this is what refuses a pod that got past
it.

Nothing is counted while there is no quota, so that a cluster without tenants pays nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant, Holding
from kerf.values.hard_quota import HardLimit, HardQuota
from kerf.values.overdrawn import holds_nothing, overdrawn, overdrawn_namespace, overdrawn_rest
from kerf.values.quota import (
    DIMENSIONS,
    NOTHING,
    UNKNOWN,
    Amount,
    Bound,
    CardClass,
    Usage,
    WhenOver,
    usage_of_ask,
)
from kerf.values.traits import Traits
from kerf.values.verdict import Misfit, Reason
from scheduler.quota.borrowing import NO_TENANT, Standing
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Part, Shares, TenantShare
from scheduler.solver.problem import QuotaRoom
from scheduler.state.bookings import Booking
from scheduler.state.counted import Counted, CountedCards, claim_key, sum_of
from scheduler.state.members import Members
from scheduler.state.quota_sums import QuotaSums


class QuotaLedger:
    """Limits and use. The caller holds the store's lock."""

    def __init__(self) -> None:
        self.shares = Shares()
        self.capacity: Capacity = {}
        self._tenant_of: dict[str, TenantShare] = {}
        self._kept = False
        """Whether a tenant keeps some of its guarantee for itself."""
        self.hard: Mapping[str, HardQuota] = {}
        self.cards = CountedCards()
        self._counted: dict[str, Counted] = {}
        self._replaced: set[str] = set()
        """Pods that are leaving and whose successors are counted instead."""
        self._sums = QuotaSums()
        self._claims = Members()
        """Claims, by the pods for which they are reserved."""

    @property
    def active(self) -> bool:
        """Whether there is any quota."""
        return bool(self._tenant_of or self.hard)

    # ---- what limits
    def set_shares(self, shares: Shares, capacity: Capacity) -> None:
        """Another division among tenants. A tenant of whose file nothing can be kept holds nothing."""
        self.shares, self.capacity = shares, capacity
        self._tenant_of = shares.by_namespace()
        self._kept = any(_kept(part, name) for share in shares.tenants for part in share.parts for name in DIMENSIONS)
        self._sums.set_tenants(self._tenant_of.keys())

    def set_hard(self, hard: Mapping[str, HardQuota]) -> None:
        """What ResourceQuota objects say, by namespace."""
        self.hard = hard

    # ---- what is held
    def recount(self, bookings: Iterable[Booking]) -> None:
        """Count pods again, after the first quota appears or cards change their class."""
        for booking in bookings:
            self.release(booking.uid)
            self.charge(booking)

    def charge(self, booking: Booking) -> None:
        """Count a pod. What it holds by claims is counted with these (`hold`)."""
        if not self.active or booking.holding is None or booking.by_claims:
            return
        if booking.uid in self._counted or booking.uid in self._replaced:
            return
        counted = self.cards.count(booking.holding, booking.traits)
        self._counted[booking.uid] = counted
        self._sums.add(counted, 1)

    def release(self, uid: str) -> None:
        """Count a pod no longer."""
        counted = self._counted.pop(uid, None)
        if counted is not None:
            self._sums.add(counted, -1)

    def replace(self, uid: str) -> None:
        """Count a pod's successor instead of the pod."""
        self.release(uid)
        self._replaced.add(uid)

    def count_again(self, booking: Booking) -> None:
        """The pod has no successor after all."""
        self._replaced.discard(booking.uid)
        self.charge(booking)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self.release(uid)
        self._replaced.discard(uid)

    def hold(self, claim: str, counted: Counted | None, pods: Iterable[str] = ()) -> None:
        """Count what a claim, named by its uid, holds or may turn out to hold instead of what it held; None is nothing.

        `pods` are those that it is reserved for.
        """
        self.release(claim_key(claim))
        self._claims.put(claim, pods if counted is not None else ())
        if counted is not None and self.active:
            self._counted[claim_key(claim)] = counted
            self._sums.add(counted, 1)

    def bounds(self, namespace: str) -> bool:
        """Whether anything limits what a namespace holds."""
        return namespace in self._tenant_of or namespace in self.hard or self._kept

    def owner(self, namespace: str) -> str:
        """The tenant of a namespace, empty for none."""
        share = self._tenant_of.get(namespace)
        return share.tenant.name if share else ""

    def usage_of(self, uid: str) -> Usage:
        """What a pod holds by class, by its claims too; nothing for one that is not counted."""
        keys = (uid, *map(claim_key, self._claims.of(uid)))
        return sum_of(counted.by_class for key in keys if (counted := self._counted.get(key)))

    def used(self, share: TenantShare) -> dict[str, Amount]:
        """What a tenant holds, by class."""
        slugs = [part.card_class.slug for part in share.parts]
        return {slug: self._held(share, slug) for slug in slugs}

    def standing(self, owner: str) -> Standing:
        """What a tenant is guaranteed and holds; for the empty name, all namespaces of no tenant together."""
        if owner == NO_TENANT:
            rest = {card_class.slug: Bound(*astuple(amount)) for card_class, amount in self.shares.rest}
            return Standing(rest, dict(self._sums.without_tenant))
        share = next(share for share in self.shares.tenants if share.tenant.name == owner)
        guaranteed = {part.card_class.slug: part.guaranteed for part in share.parts}
        return Standing(guaranteed, {one.slug: self._held(share, one.slug) for one in self.capacity})

    def overdrawn(self) -> bool:
        """Whether tenants hold more of a class than its cards give, and a file says that pods leave then."""
        if not any(share.tenant.when_over is WhenOver.EVICT for share in self.shares.tenants):
            return False
        held = self._sums.of_tenants()
        return any(
            (held.get(card_class.slug, NOTHING) - gives.total).floor() for card_class, gives in self.capacity.items()
        )

    # ---- verdicts
    def narrow(self, ask: PodAsk, *, guaranteed: bool = False) -> PodAsk | Misfit:
        """The ask, confined to the classes of which its tenant and its namespace may hold it, or why there is none.

        `guaranteed` asks for what is within the tenant's guarantee alone.
        """
        share = self._tenant_of.get(ask.namespace)
        if not ask.containers or (share is None and ask.namespace not in self.hard and not self._kept):
            return ask
        if share is not None and not share.parts:
            return holds_nothing(share.tenant.name, share.problems)
        allowed: list[str] = []
        for vendor in sorted({container.vendor for container in ask.containers}):
            slugs = self._allowed(ask, vendor, share, guaranteed)
            if isinstance(slugs, Misfit):
                return slugs
            allowed += slugs
        if not allowed:
            return ask
        return replace(ask, selection=replace(ask.selection, classes=tuple(sorted(allowed))))

    def refuses(
        self, ask: PodAsk, node: str, grant: Grant, stages: Stages, beside: Sequence[tuple[Holding, Traits]] = ()
    ) -> Misfit | None:
        """Whether a grant would break a limit: the exact word, said before it is charged.

        `beside` is what others may hold soon: what is of the same tenant, or namespace, counts too.
        """
        if not self.active:
            return None
        counted = self.cards.count(Holding(ask.key, ask.uid, node, grant, stages), ask.traits)
        if beside:
            counted = self._with(counted, self._tenant_of.get(ask.namespace), beside)
        return self._no_room(counted)

    def refuses_claim(self, claim: str, counted: Counted) -> Misfit | None:
        """Whether a claim may not hold so much in all, beside what others hold: said before Kubernetes allocates it."""
        share, own = self._tenant_of.get(counted.namespace), self._counted.get(claim_key(claim))
        if share is not None and not share.parts and counted.by_class.by:
            return holds_nothing(share.tenant.name, share.problems)
        if own is None:
            return self._no_room(counted)
        self._sums.add(own, -1)
        found = self._no_room(counted)
        self._sums.add(own, 1)
        return found

    def rooms(self, namespaces: Iterable[str]) -> tuple[QuotaRoom, ...]:
        """What the pods of these namespaces may still take: by tenant and class, and by ResourceQuota and vendor."""
        asked = sorted(set(namespaces))
        shares = {share.tenant.name: share for name in asked if (share := self._tenant_of.get(name)) is not None}
        tenants = [
            QuotaRoom(f"tenant {name}", share.tenant.namespaces, tuple(self._left(share)))
            for name, share in sorted(shares.items())
        ]
        hard = [
            QuotaRoom(
                f"namespace {name}", (name,), tuple(self._hard_left(name, limit)), by_vendor=True, scopes=limit.scopes
            )
            for name in asked
            if name in self.hard
            for limit in self.hard[name].limits
        ]
        return (*tenants, *self._rest_room(asked), *hard)

    # ---- inside
    def _no_room(self, counted: Counted) -> Misfit | None:
        """The first limit that so much more would break."""
        share = self._tenant_of.get(counted.namespace)
        if share is not None or self._kept:
            for slug, amount in counted.by_class.by:
                if misfit := self._broken(share, slug, amount):
                    return misfit
        who = counted.namespace, counted.traits
        return next(
            (misfit for vendor, amount in counted.by_vendor.by if (misfit := self._over(who, vendor, amount))), None
        )

    def _with(self, counted: Counted, share: TenantShare | None, beside: Sequence[tuple[Holding, Traits]]) -> Counted:
        """What a pod would hold together with others of its tenant by class, and of its namespace by vendor."""
        theirs = [self.cards.count(*each) for each in beside]
        mates = share.tenant.namespaces if share else ()
        return replace(
            counted,
            by_class=sum_of([counted.by_class, *(one.by_class for one in theirs if one.namespace in mates)]),
            by_vendor=sum_of(
                [counted.by_vendor, *(one.by_vendor for one in theirs if one.namespace == counted.namespace)]
            ),
        )

    def _rest_room(self, namespaces: Iterable[str]) -> Iterator[QuotaRoom]:
        """What namespaces without a tenant may still take together, where tenants keep something."""
        theirs = tuple(name for name in namespaces if name not in self._tenant_of)
        if theirs and self._kept:
            held = self._sums.without_tenant
            left = ((one.slug, self._lent(one).less(held.get(one.slug, NOTHING))) for one in self.capacity)
            yield QuotaRoom("namespaces without a tenant", theirs, tuple(left))

    def _left(self, share: TenantShare) -> Iterator[tuple[str, Bound]]:
        for part in share.parts:
            slug = part.card_class.slug
            yield slug, self._limit(share, part).less(self._held(share, slug))

    def _hard_left(self, namespace: str, limit: HardLimit) -> Iterator[tuple[str, Bound]]:
        for vendor, bound in limit.bounds:
            yield vendor, bound.less(self._sums.under(limit, namespace, vendor))

    def _allowed(self, ask: PodAsk, vendor: str, share: TenantShare | None, guaranteed: bool) -> list[str] | Misfit:
        """The classes of one vendor's cards of which the pod may hold what it asks; empty is any class."""
        meant = ask.selection.classes_of(vendor)
        theirs = self.capacity if share is None else {part.card_class for part in share.parts}
        candidates = [
            one
            for one in theirs
            if one.vendor == vendor
            and (not meant or one.slug in meant)
            and any(ask.selection.takes(one.model, mode) for mode in one.modes)
        ]
        misfits = {one.slug: self._too_much(ask, one, share, guaranteed) for one in candidates}
        allowed = [slug for slug, misfit in misfits.items() if misfit is None]
        if share is None and len(allowed) == len(candidates):
            return list(meant)
        if not allowed:
            nothing = f"quota: tenant {share.tenant.name if share else ''} has none of the cards that the pod selects"
            return next((found for found in misfits.values() if found), None) or Misfit(Reason.QUOTA, 1, 0, nothing)
        return allowed

    def _too_much(
        self, ask: PodAsk, card_class: CardClass, share: TenantShare | None, guaranteed: bool
    ) -> Misfit | None:
        """Why the pod may not hold cards of this class, whatever their size."""
        asked = NOTHING
        for card in self.capacity[card_class].samples(card_class):
            asked = asked.peak(usage_of_ask(ask, card).of(card_class.vendor))
        broken = self._broken(share, card_class.slug, asked, guaranteed=guaranteed)
        return broken or self._over((ask.namespace, ask.traits), card_class.vendor, asked)

    def _over(self, who: tuple[str, Traits | None], vendor: str, more: Amount) -> Misfit | None:
        """Whether a ResourceQuota of the namespace has no room for more that has these traits."""
        namespace, traits = who
        hard = self.hard.get(namespace)
        for limit in hard.limits if hard else ():
            bound = dict(limit.bounds).get(vendor)
            if bound is None or not limit.takes(traits):
                continue
            held = self._sums.under(limit, namespace, vendor)
            if broken := bound.first_broken(held, more):
                return overdrawn_namespace(namespace, limit, vendor, (bound, held, more), broken)
        return None

    def _broken(self, share: TenantShare | None, slug: str, more: Amount, *, guaranteed: bool = False) -> Misfit | None:
        if share is None:
            return self._beside_tenants(slug, more) if self._kept else None
        part = next((part for part in share.parts if part.card_class.slug == slug), None)
        if guaranteed and part and not part.guaranteed.names(more):
            return Misfit(Reason.QUOTA)
        limit = Bound(0, 0, 0) if not part else part.guaranteed if guaranteed else self._limit(share, part)
        held = self._held(share, slug)
        broken = limit.first_broken(held, more)
        model = part.card_class.model if part else slug if slug != UNKNOWN else "cards that are not known"
        return overdrawn(share.tenant.name, model, (limit, held, more), broken) if broken else None

    def _beside_tenants(self, slug: str, more: Amount) -> Misfit | None:
        """Why namespaces without a tenant may not hold more of a class: tenants keep the rest."""
        card_class = next((one for one in self.capacity if one.slug == slug), None)
        if card_class is None:
            return None
        limit, held = self._lent(card_class), self._sums.without_tenant.get(slug, NOTHING)
        broken = limit.first_broken(held, more)
        return overdrawn_rest(card_class.model, (limit, held, more), broken) if broken else None

    def _limit(self, share: TenantShare, part: Part) -> Bound:
        """The most that a tenant may hold of a class now: no more than others leave of what they do not lend."""
        lent, found = self._lent(part.card_class, share.tenant.name), []
        for name in DIMENSIONS:
            own, most, left = part.guaranteed.of(name), part.limit.of(name), lent.of(name)
            free = None if own is None or left is None else max(left, own)
            found.append(most if free is None else free if most is None else min(most, free))
        return Bound(*found)

    def _lent(self, card_class: CardClass, but: str = "") -> Bound:
        """What tenants leave of a class, `but` apart; no bound where none of them keeps anything."""
        slug, gives = card_class.slug, self.capacity[card_class].total
        others = [
            (self._held(other, slug), theirs)
            for other in self.shares.tenants
            if other.tenant.name != but
            for theirs in other.parts
            if theirs.card_class == card_class
        ]
        return Bound(
            *(
                max(
                    getattr(gives, name)
                    - sum(max(getattr(held, name), _kept(theirs, name)) for held, theirs in others),
                    0,
                )
                if any(_kept(theirs, name) for _, theirs in others)
                else None
                for name in DIMENSIONS
            )
        )

    def _held(self, share: TenantShare, slug: str) -> Amount:
        return self._sums.of(share.tenant.namespaces, slug)


def _kept(part: Part, dimension: str) -> int:
    """What a tenant keeps of its guarantee while it is idle: what it does not lend."""
    guaranteed, lendable = part.guaranteed.of(dimension), part.lendable.of(dimension)
    return 0 if guaranteed is None or lendable is None else max(guaranteed - lendable, 0)
