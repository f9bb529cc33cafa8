"""Tenants' accounts from shares, the ledger, waiting pods and Kueue's reservations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.ask import PodAsk
from kerf.values.quota import NOTHING, Amount, usage_of_ask
from scheduler.quota.capacity import Capacity, ClassCapacity
from scheduler.quota.shares import Part, Shares, TenantShare

MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class TenantActivity:
    """What was seen of one tenant: held by class, asks of waiting pods, Kueue's reservations by flavor, reasons."""

    used: Mapping[str, Amount] = field(default_factory=dict)
    waiting: tuple[PodAsk, ...] = ()
    ungated: tuple[PodAsk, ...] = ()
    """Those of `waiting` that Kueue has let pass."""
    reserved: Mapping[str, Amount] | None = None
    reasons: tuple[str, ...] = ()


NO_ACTIVITY = TenantActivity()


def tenant_accounts(
    shares: Shares, capacity: Capacity, seen: Mapping[str, TenantActivity], *, enforced: bool
) -> tuple[TenantAccount, ...]:
    """The account of every tenant, by name."""
    return tuple(
        _account(share, capacity, seen.get(share.tenant.name, NO_ACTIVITY), enforced) for share in shares.tenants
    )


def _account(share: TenantShare, capacity: Capacity, seen: TenantActivity, enforced: bool) -> TenantAccount:
    pending, passed = (_pending(share, capacity, asks) for asks in (seen.waiting, seen.ungated))
    return TenantAccount(
        name=share.tenant.name,
        namespaces=share.tenant.namespaces,
        enforced=enforced,
        classes=tuple(_class(part, capacity[part.card_class], (pending, passed), seen) for part in share.parts),
        problems=share.problems,
        waiting=_few(seen.reasons),
    )


def _class(
    part: Part, gives: ClassCapacity, asked: tuple[Mapping[str, Amount], ...], seen: TenantActivity
) -> ClassAccount:
    card_class = part.card_class
    slug = card_class.slug
    pending, passed = (amounts.get(slug, NOTHING) for amounts in asked)
    used = seen.used.get(slug, NOTHING)
    reserved = None if seen.reserved is None else seen.reserved.get(slug, NOTHING)
    return ClassAccount(
        slug=slug,
        vendor=card_class.vendor,
        model=card_class.model,
        mode=card_class.mode.value,
        smallest_mib=gives.smallest_mib,
        largest_mib=gives.largest_mib,
        reserved_mib=gives.reserved_mib,
        promised=part.promised,
        guaranteed=part.guaranteed,
        limit=part.limit,
        used=used,
        pending=pending,
        reserved=reserved,
        drift=None if reserved is None else reserved - used - passed,
    )


def _pending(share: TenantShare, capacity: Capacity, asks: Iterable[PodAsk]) -> dict[str, Amount]:
    """Each waiting pod counts in the first class that its selection takes."""
    found: dict[str, Amount] = {}
    for ask in asks:
        for part in share.parts:
            slug, vendor = part.card_class.slug, part.card_class.vendor
            if ask.selection.classes and slug not in ask.selection.classes:
                continue
            amount = usage_of_ask(ask, capacity[part.card_class].sample(part.card_class)).of(vendor)
            if amount:
                found[slug] = found.get(slug, NOTHING) + amount
                break
    return found


def _few(reasons: Iterable[str]) -> tuple[str, ...]:
    """Each sentence once, a few of them, and how many more there are."""
    each = tuple(dict.fromkeys(reasons))
    if len(each) <= MOST_REASONS:
        return each
    return (*each[: MOST_REASONS - 1], f"and {len(each) - MOST_REASONS + 1} more")
