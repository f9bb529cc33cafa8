"""What tenants and namespaces may hold, and hold: counted pod by pod beside the ledger, under the store's lock.

Nothing is counted while there is no quota, so that a cluster without tenants pays nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant, Holding
from kerf.values.node import Node
from kerf.values.overdrawn import overdrawn, overdrawn_namespace
from kerf.values.quota import (
    NOTHING,
    Amount,
    Bound,
    CardClass,
    Usage,
    a_card_of,
    class_of,
    total,
    usage_of_ask,
    usage_of_grant,
)
from kerf.values.verdict import Misfit, Reason
from kerf.wire.resourcequota import HardQuota
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Shares, TenantShare
from scheduler.solver.problem import QuotaRoom
from scheduler.state.bookings import Booking

_ANY = CardClass("", "")


@dataclass(frozen=True, slots=True)
class Counted:
    """A pod as quota counts it: by class of cards, and by vendor."""

    namespace: str
    by_class: Usage
    by_vendor: Usage


class QuotaLedger:
    """Limits and use. The caller holds the store's lock."""

    def __init__(self) -> None:
        self.shares = Shares()
        self.capacity: Capacity = {}
        self.enforced = False
        """Whether Kerf itself holds tenants to their limits; Kueue does it otherwise."""
        self._smallest = a_card_of(_ANY, 0)
        """A card of the smallest size: what a percentage asks for at least."""
        self._tenant_of: dict[str, TenantShare] = {}
        self.hard: Mapping[str, HardQuota] = {}
        self._class_of: dict[str, dict[str, str]] = {}
        self._counted: dict[str, Counted] = {}
        self._sums: dict[tuple[str, str], Amount] = {}

    @property
    def active(self) -> bool:
        """Whether there is any quota."""
        return bool(self._tenant_of or self.hard)

    # ---- what limits
    def set_shares(self, shares: Shares, capacity: Capacity, *, enforced: bool) -> None:
        """Another division among tenants."""
        self.shares, self.capacity, self.enforced = shares, capacity, enforced
        self._smallest = a_card_of(_ANY, min((gives.smallest_mib for gives in capacity.values()), default=0))
        self._tenant_of = {
            namespace: share for share in shares.tenants if share.parts for namespace in share.tenant.namespaces
        }

    def set_hard(self, hard: Mapping[str, HardQuota]) -> None:
        """What ResourceQuota objects say, by namespace."""
        self.hard = hard

    # ---- what is held
    def put_node(self, node: Node) -> bool:
        """Learn the classes of a node's cards; whether they are others than before."""
        classes = {card.id: class_of(card).slug for card in node.cards}
        changed = self._class_of.get(node.name) != classes
        self._class_of[node.name] = classes
        return changed

    def recount(self, bookings: Iterable[Booking]) -> None:
        """Count pods again, after the first quota appears or cards change their class."""
        for booking in bookings:
            self.release(booking.uid)
            self.charge(booking)

    def charge(self, booking: Booking) -> None:
        """Count a pod."""
        if not self.active or booking.holding is None or booking.uid in self._counted:
            return
        counted = self._count(booking.holding)
        self._counted[booking.uid] = counted
        self._add(counted, 1)

    def release(self, uid: str) -> None:
        """Count a pod no longer."""
        counted = self._counted.pop(uid, None)
        if counted is not None:
            self._add(counted, -1)

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

    # ---- verdicts
    def narrow(self, ask: PodAsk) -> PodAsk | Misfit:
        """The ask, confined to the classes in which its tenant has room, or why there is none."""
        if not ask.containers:
            return ask
        if misfit := self._over_hard(ask.namespace, usage_of_ask(ask, self._smallest)):
            return misfit
        share = self._tenant_of.get(ask.namespace)
        if share is None or not self.enforced:
            return ask
        broken: Misfit | None = None
        allowed = []
        for part in share.parts:
            slug = part.card_class.slug
            if ask.selection.classes and slug not in ask.selection.classes:
                continue
            card = self.capacity[part.card_class].sample(part.card_class)
            asked = usage_of_ask(ask, card).of(part.card_class.vendor)
            found = self._broken(share, slug, asked)
            broken = broken or found
            if found is None:
                allowed.append(slug)
        if not allowed:
            nothing = f"quota: tenant {share.tenant.name} has none of the cards that the pod selects"
            return broken or Misfit(Reason.QUOTA, 1, 0, nothing)
        return replace(ask, selection=replace(ask.selection, classes=tuple(sorted(allowed))))

    def refuses(self, ask: PodAsk, node: str, grant: Grant, stages: Stages) -> Misfit | None:
        """Whether a grant would break a limit: the exact word, said before it is charged."""
        if not self.active:
            return None
        counted = self._count(Holding(ask.key, ask.uid, node, grant, stages))
        share = self._tenant_of.get(ask.namespace)
        if share is not None and self.enforced:
            for slug, amount in counted.by_class.by:
                if misfit := self._broken(share, slug, amount):
                    return misfit
        return self._over_hard(ask.namespace, counted.by_vendor)

    def rooms(self, namespaces: Iterable[str]) -> tuple[QuotaRoom, ...]:
        """What the pods of these namespaces may still take: by tenant and class, and by ResourceQuota and vendor."""
        asked = sorted(set(namespaces))
        shares = {share.tenant.name: share for name in asked if (share := self._tenant_of.get(name)) is not None}
        tenants = [
            QuotaRoom(f"tenant {name}", share.tenant.namespaces, tuple(self._left(share)))
            for name, share in sorted(shares.items())
            if self.enforced
        ]
        hard = [
            QuotaRoom(f"namespace {name}", (name,), tuple(self._hard_left(name, self.hard[name])), by_vendor=True)
            for name in asked
            if name in self.hard
        ]
        return (*tenants, *hard)

    def classes_of(self, node: str, grant: Grant) -> tuple[str, ...]:
        """The classes of the cards of a grant on a node."""
        classes = self._class_of.get(node, {})
        cards = (piece.card for part in grant.containers for piece in part.slices)
        return tuple(sorted({classes[card] for card in cards if card in classes}))

    # ---- inside
    def _left(self, share: TenantShare) -> Iterator[tuple[str, Bound]]:
        for part in share.parts:
            slug = part.card_class.slug
            yield slug, part.limit.less(self._held(share, slug))

    def _hard_left(self, namespace: str, hard: HardQuota) -> Iterator[tuple[str, Bound]]:
        for vendor, bound in hard.bounds:
            yield vendor, bound.less(self._sums.get((namespace, f"vendor {vendor}"), NOTHING))

    def _over_hard(self, namespace: str, more: Usage) -> Misfit | None:
        """Whether a namespace's ResourceQuota has no room for more, by vendor."""
        hard = self.hard.get(namespace)
        if hard is None:
            return None
        for vendor, bound in hard.bounds:
            held, amount = self._sums.get((namespace, f"vendor {vendor}"), NOTHING), more.of(vendor)
            if broken := bound.first_broken(held, amount):
                return overdrawn_namespace(namespace, hard.name, vendor, (bound, held, amount), broken)
        return None

    def _broken(self, share: TenantShare, slug: str, more: Amount) -> Misfit | None:
        part = next((part for part in share.parts if part.card_class.slug == slug), None)
        limit = part.limit if part else Bound(0, 0, 0)
        held = self._held(share, slug)
        broken = limit.first_broken(held, more)
        model = part.card_class.model if part else slug
        return overdrawn(share.tenant.name, model, (limit, held, more), broken) if broken else None

    def _held(self, share: TenantShare, slug: str) -> Amount:
        return total(self._sums.get((namespace, slug), NOTHING) for namespace in share.tenant.namespaces)

    def _count(self, holding: Holding) -> Counted:
        classes = self._class_of.get(holding.node, {})
        vendors = {slice_.card: slice_.vendor for part in holding.grant.containers for slice_ in part.slices}
        return Counted(
            namespace=holding.pod.partition("/")[0],
            by_class=usage_of_grant(holding.grant, holding.stages, classes),
            by_vendor=usage_of_grant(holding.grant, holding.stages, vendors),
        )

    def _add(self, counted: Counted, sign: int) -> None:
        parts = [*counted.by_class.by, *((f"vendor {vendor}", amount) for vendor, amount in counted.by_vendor.by)]
        for name, amount in parts:
            key = (counted.namespace, name)
            summed = self._sums.get(key, NOTHING) + amount * sign
            if summed:
                self._sums[key] = summed
            else:
                self._sums.pop(key, None)
