"""Quota where no Kueue keeps it: refuse what its tenant has no room for, with numbers.

The scheduler is the arbiter: it counts under its lock, whatever passed here. The webhook says "no" early, where the
user, or the controller that makes the pod, reads it.
"""

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.overdrawn import beyond, holds_nothing, overdrawn
from kerf.values.quota import NOTHING, Amount, usage_of_ask
from kerf.values.verdict import Misfit
from webhook.core.draft import Draft
from webhook.core.recent import Recent, RecentReview

HOLDS = "holds or waits for"


class OverQuota(ValueError):
    """A tenant has no room; the message is the sentence for the user."""


def never_fits(draft: Draft, tenant: TenantAccount) -> Misfit | None:
    """Why a pod could not be admitted if its tenant held nothing; None where it could, or where others decide."""
    if not tenant.enforced or not draft.ask.containers:
        return None
    return holds_nothing(tenant.name, tenant.problems) if tenant.holds_nothing else _never_fits(_asked(draft), tenant)


def room_for(draft: Draft, tenant: TenantAccount, recent: Recent, now: float) -> tuple[RecentReview, ...] | Misfit:
    """What to remember of a pod that is admitted now, or why its tenant has no room for it."""
    if not tenant.enforced:
        return ()
    if tenant.holds_nothing and draft.ask.containers:
        return holds_nothing(tenant.name, tenant.problems)
    by_vendor = _asked(draft)
    if misfit := _never_fits(by_vendor, tenant):
        return misfit
    admitted = []
    for classes in by_vendor:
        refused: Misfit | None = None
        for entry, asked in classes:
            said = entry.used + entry.pending
            held = recent.held(tenant.name, entry.slug, said)
            broken = entry.limit.first_broken(held, asked)
            if broken is None:
                admitted.append(RecentReview(tenant.name, entry.slug, asked, said, now))
                break
            refused = refused or overdrawn(tenant.name, entry.model, (entry.limit, held, asked), broken, holds=HOLDS)
        else:
            if refused:
                return refused
    return tuple(admitted)


def _asked(draft: Draft) -> list[list[tuple[ClassAccount, Amount]]]:
    """For each vendor, the classes that may serve the pod and what it asks of each."""
    return [
        [
            (entry, usage_of_ask(draft.ask, sample).of(vendor))
            for entry, sample in zip(cards.classes, cards.samples, strict=True)
        ]
        for vendor, cards in draft.cards.items()
    ]


def _never_fits(by_vendor: list[list[tuple[ClassAccount, Amount]]], tenant: TenantAccount) -> Misfit | None:
    for classes in by_vendor:
        broken = [_beyond(entry, asked, tenant.name) for entry, asked in classes]
        if broken and all(broken):
            return broken[0]
    return None


def _beyond(entry: ClassAccount, asked: Amount, tenant: str) -> Misfit | None:
    broken = entry.limit.first_broken(NOTHING, asked)
    return beyond(tenant, entry.model, entry.limit, asked, broken[0]) if broken else None
