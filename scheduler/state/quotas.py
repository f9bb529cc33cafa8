"""What tenants and namespaces may hold, and hold: counted pod by pod beside the ledger, under the store's lock.

No tenant holds more than its limit, also where Kueue admits its pods: this is what refuses a pod that got past
it.

Nothing is counted while there is no quota, so that a cluster without tenants pays nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kerf.values.ask import PodAsk, Stages, whole_if_reserved
from kerf.values.grant import Grant, Holding, Slice
from kerf.values.hard_quota import HardLimit, HardQuota
from kerf.values.node import Node
from kerf.values.overdrawn import holds_nothing, overdrawn, overdrawn_namespace
from kerf.values.quota import (
    DIMENSIONS,
    NOTHING,
    Amount,
    Bound,
    CardClass,
    Usage,
    WhenOver,
    class_of,
    total,
    usage_of_ask,
    usage_of_grant,
)
from kerf.values.traits import Traits
from kerf.values.verdict import Misfit, Reason
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Part, Shares, TenantShare
from scheduler.solver.problem import QuotaRoom
from scheduler.state.bookings import Booking

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Counted:
    """A pod as quota counts it: by class of cards, and by vendor."""

    namespace: str
    traits: Traits
    by_class: Usage
    by_vendor: Usage


class QuotaLedger:
    """Limits and use. The caller holds the store's lock."""

    def __init__(self) -> None:
        self.shares = Shares()
        self.capacity: Capacity = {}
        self._tenant_of: dict[str, TenantShare] = {}
        self.hard: Mapping[str, HardQuota] = {}
        self._class_of: dict[str, dict[str, str]] = {}
        self._sizes: dict[str, dict[str, tuple[int, int]]] = {}
        """By node, what each card gives and what its driver keeps, where it keeps anything."""
        self._counted: dict[str, Counted] = {}
        self._replaced: set[str] = set()
        """Pods that are leaving and whose successors are counted instead."""
        self._sums: dict[tuple[str, str], Amount] = {}
        """By namespace and class."""
        self._by_traits: dict[tuple[str, str], dict[Traits, Amount]] = {}
        """By namespace and vendor, what pods of the same traits hold together."""

    @property
    def active(self) -> bool:
        """Whether there is any quota."""
        return bool(self._tenant_of or self.hard)

    # ---- what limits
    def set_shares(self, shares: Shares, capacity: Capacity) -> None:
        """Another division among tenants. A tenant of whose file nothing can be kept holds nothing."""
        self.shares, self.capacity = shares, capacity
        self._tenant_of = shares.by_namespace()

    def set_hard(self, hard: Mapping[str, HardQuota]) -> None:
        """What ResourceQuota objects say, by namespace."""
        self.hard = hard

    # ---- what is held
    def put_node(self, node: Node) -> bool:
        """Learn the classes of a node's cards; whether they are others than before."""
        classes = {card.id: class_of(card).slug for card in node.cards}
        sizes = {card.id: (card.factory_memory_mib, card.reserved_mib) for card in node.cards if card.reserved_mib}
        known = self._class_of.get(node.name), self._sizes.get(node.name, {})
        self._class_of[node.name], self._sizes[node.name] = classes, sizes
        return known != (classes, sizes)

    def recount(self, bookings: Iterable[Booking]) -> None:
        """Count pods again, after the first quota appears or cards change their class."""
        for booking in bookings:
            self.release(booking.uid)
            self.charge(booking)

    def charge(self, booking: Booking) -> None:
        """Count a pod."""
        if not self.active or booking.holding is None or booking.uid in self._counted or booking.uid in self._replaced:
            return
        counted = self._count(booking.holding, booking.traits)
        self._counted[booking.uid] = counted
        self._add(counted, 1)

    def release(self, uid: str) -> None:
        """Count a pod no longer."""
        counted = self._counted.pop(uid, None)
        if counted is not None:
            self._add(counted, -1)

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

    def owner(self, namespace: str) -> str:
        """The tenant of a namespace, empty for none."""
        share = self._tenant_of.get(namespace)
        return share.tenant.name if share else ""

    def usage_of(self, uid: str) -> Usage:
        """What a pod holds by class; nothing for one that is not counted."""
        counted = self._counted.get(uid)
        return counted.by_class if counted else Usage()

    def used(self, share: TenantShare) -> dict[str, Amount]:
        """What a tenant holds, by class."""
        slugs = [part.card_class.slug for part in share.parts]
        return {slug: self._held(share, slug) for slug in slugs}

    def overdrawn(self) -> bool:
        """Whether tenants hold more of a class than its cards give, and a file says that pods leave then."""
        if not any(share.tenant.when_over is WhenOver.EVICT for share in self.shares.tenants):
            return False
        theirs = {namespace for share in self.shares.tenants for namespace in share.tenant.namespaces}
        held: dict[str, Amount] = {}
        for (namespace, slug), amount in self._sums.items():
            if namespace in theirs:
                held[slug] = held.get(slug, NOTHING) + amount
        return any(
            (held.get(card_class.slug, NOTHING) - gives.total).floor() for card_class, gives in self.capacity.items()
        )

    # ---- verdicts
    def narrow(self, ask: PodAsk) -> PodAsk | Misfit:
        """The ask, confined to the classes of which its tenant and its namespace may hold it, or why there is none."""
        share = self._tenant_of.get(ask.namespace)
        if not ask.containers or (share is None and ask.namespace not in self.hard):
            return ask
        if share is not None and not share.parts:
            return holds_nothing(share.tenant.name, share.problems)
        allowed: list[str] = []
        for vendor in sorted({container.vendor for container in ask.containers}):
            slugs = self._allowed(ask, vendor, share)
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
        counted = self._count(Holding(ask.key, ask.uid, node, grant, stages), ask.traits)
        share = self._tenant_of.get(ask.namespace)
        if beside:
            counted = self._with(counted, share, beside)
        if share is not None:
            for slug, amount in counted.by_class.by:
                if misfit := self._broken(share, slug, amount):
                    return misfit
        return next(
            (misfit for vendor, amount in counted.by_vendor.by if (misfit := self._over(ask, vendor, amount))), None
        )

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
        return (*tenants, *hard)

    def classes_of(self, node: str, grant: Grant) -> tuple[str, ...]:
        """The classes of the cards of a grant on a node."""
        classes = self._class_of.get(node, {})
        cards = (piece.card for part in grant.containers for piece in part.slices)
        return tuple(sorted({classes[card] for card in cards if card in classes}))

    # ---- inside
    def _with(self, counted: Counted, share: TenantShare | None, beside: Sequence[tuple[Holding, Traits]]) -> Counted:
        """What a pod would hold together with others of its tenant by class, and of its namespace by vendor."""
        theirs = [self._count(*each) for each in beside]
        mates = share.tenant.namespaces if share else ()
        return replace(
            counted,
            by_class=_sum_of([counted.by_class, *(one.by_class for one in theirs if one.namespace in mates)]),
            by_vendor=_sum_of(
                [counted.by_vendor, *(one.by_vendor for one in theirs if one.namespace == counted.namespace)]
            ),
        )

    def _left(self, share: TenantShare) -> Iterator[tuple[str, Bound]]:
        for part in share.parts:
            slug = part.card_class.slug
            yield slug, self._limit(share, part).less(self._held(share, slug))

    def _hard_left(self, namespace: str, limit: HardLimit) -> Iterator[tuple[str, Bound]]:
        for vendor, bound in limit.bounds:
            yield vendor, bound.less(self._held_by(namespace, vendor, limit))

    def _held_by(self, namespace: str, vendor: str, limit: HardLimit) -> Amount:
        """What the pods hold that a ResourceQuota counts."""
        held = self._by_traits.get((namespace, vendor), {})
        return total(amount for traits, amount in held.items() if limit.takes(traits))

    def _allowed(self, ask: PodAsk, vendor: str, share: TenantShare | None) -> list[str] | Misfit:
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
        misfits = {one.slug: self._too_much(ask, one, share) for one in candidates}
        allowed = [slug for slug, misfit in misfits.items() if misfit is None]
        if share is None and len(allowed) == len(candidates):
            return list(meant)
        if not allowed:
            nothing = f"quota: tenant {share.tenant.name if share else ''} has none of the cards that the pod selects"
            return next((found for found in misfits.values() if found), None) or Misfit(Reason.QUOTA, 1, 0, nothing)
        return allowed

    def _too_much(self, ask: PodAsk, card_class: CardClass, share: TenantShare | None) -> Misfit | None:
        """Why the pod may not hold cards of this class, whatever their size."""
        asked = NOTHING
        for card in self.capacity[card_class].samples(card_class):
            asked = asked.peak(usage_of_ask(ask, card).of(card_class.vendor))
        broken = self._broken(share, card_class.slug, asked) if share is not None else None
        return broken or self._over(ask, card_class.vendor, asked)

    def _over(self, ask: PodAsk, vendor: str, more: Amount) -> Misfit | None:
        """Whether a ResourceQuota of the namespace has no room for more."""
        hard = self.hard.get(ask.namespace)
        for limit in hard.limits if hard else ():
            bound = dict(limit.bounds).get(vendor)
            if bound is None or not limit.takes(ask.traits):
                continue
            held = self._held_by(ask.namespace, vendor, limit)
            if broken := bound.first_broken(held, more):
                return overdrawn_namespace(ask.namespace, limit, vendor, (bound, held, more), broken)
        return None

    def _broken(self, share: TenantShare, slug: str, more: Amount) -> Misfit | None:
        part = next((part for part in share.parts if part.card_class.slug == slug), None)
        limit = self._limit(share, part) if part else Bound(0, 0, 0)
        held = self._held(share, slug)
        broken = limit.first_broken(held, more)
        model = part.card_class.model if part else slug
        return overdrawn(share.tenant.name, model, (limit, held, more), broken) if broken else None

    def _limit(self, share: TenantShare, part: Part) -> Bound:
        """The most that a tenant may hold of a class now: no more than others leave of what they do not lend."""
        others = [
            (self._held(other, part.card_class.slug), theirs)
            for other in self.shares.tenants
            if other.tenant.name != share.tenant.name
            for theirs in other.parts
            if theirs.card_class == part.card_class
        ]
        gives = self.capacity[part.card_class].total
        found = []
        for name in DIMENSIONS:
            kept = sum(max(getattr(held, name), _kept(theirs, name)) for held, theirs in others)
            own, most = part.guaranteed.of(name), part.limit.of(name)
            lent = max(getattr(gives, name) - kept, own or 0)
            defended = any(_kept(theirs, name) for _, theirs in others)
            found.append(most if own is None or not defended else lent if most is None else min(most, lent))
        return Bound(*found)

    def _held(self, share: TenantShare, slug: str) -> Amount:
        return total(self._sums.get((namespace, slug), NOTHING) for namespace in share.tenant.namespaces)

    def _count(self, holding: Holding, traits: Traits) -> Counted:
        classes = self._class_of.get(holding.node, {})
        if sizes := self._sizes.get(holding.node):
            holding = _fitted(holding, sizes)
        vendors = {slice_.card: slice_.vendor for part in holding.grant.containers for slice_ in part.slices}
        return Counted(
            namespace=holding.pod.partition("/")[0],
            traits=traits,
            by_class=usage_of_grant(holding.grant, holding.stages, classes),
            by_vendor=usage_of_grant(holding.grant, holding.stages, vendors),
        )

    def _add(self, counted: Counted, sign: int) -> None:
        for slug, amount in counted.by_class.by:
            _sum(self._sums, (counted.namespace, slug), amount * sign)
        for vendor, amount in counted.by_vendor.by:
            key = (counted.namespace, vendor)
            _sum(self._by_traits.setdefault(key, {}), counted.traits, amount * sign)
            if not self._by_traits[key]:
                del self._by_traits[key]


def _sum_of(parts: Iterable[Usage]) -> Usage:
    """The sum of what several pods hold, name by name."""
    found: dict[str, Amount] = {}
    for part in parts:
        for name, amount in part.by:
            found[name] = found.get(name, NOTHING) + amount
    return Usage.build(found)


def _sum(sums: dict[Key, Amount], key: Key, amount: Amount) -> None:
    """Add; what adds up to nothing is left out."""
    if summed := sums.get(key, NOTHING) + amount:
        sums[key] = summed
    else:
        sums.pop(key, None)


def _fitted(holding: Holding, sizes: Mapping[str, tuple[int, int]]) -> Holding:
    """The holding with slices that reach into what a driver keeps as whole cards."""

    def fit(piece: Slice) -> Slice:
        size = sizes.get(piece.card)
        return replace(piece, memory_mib=whole_if_reserved(piece.memory_mib, *size)) if size else piece

    containers = (replace(each, slices=tuple(map(fit, each.slices))) for each in holding.grant.containers)
    return replace(holding, grant=replace(holding.grant, containers=tuple(containers)))


def _kept(part: Part, dimension: str) -> int:
    """What a tenant keeps of its guarantee while it is idle: what it does not lend."""
    guaranteed, lendable = part.guaranteed.of(dimension), part.lendable.of(dimension)
    return 0 if guaranteed is None or lendable is None else max(guaranteed - lendable, 0)
