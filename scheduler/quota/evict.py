"""Who has to go when the cards no longer give what is held: the newest borrowers whose files say so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kerf.values.quota import DIMENSIONS, NOTHING, Amount, Bound, WhenOver, total
from scheduler.quota.borrowing import borrowed
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Shares


@dataclass(frozen=True, slots=True)
class Running:
    """A workload or a pod that holds cards. `since` sorts by age, the newest last; equal ages by name."""

    name: str
    tenant: str
    held: tuple[tuple[str, Amount], ...]
    """By class."""
    since: str
    priority: int = 0

    def of(self, slug: str) -> Amount:
        """What it holds of one class."""
        return dict(self.held).get(slug, NOTHING)


def victims(capacity: Capacity, shares: Shares, running: Iterable[Running]) -> tuple[Running, ...]:
    """Who leaves, in order, so that no class is held beyond what it gives.

    Only tenants that hold more than their guarantee are asked, and of those only who says `whenOver: evict`; the least
    important first, then the newest. A tenant that holds no more than its guarantee loses nothing.
    """
    staying = list(running)
    gone: list[Running] = []
    guaranteed = {
        (share.tenant.name, part.card_class.slug): part.guaranteed for share in shares.tenants for part in share.parts
    }
    willing = {share.tenant.name for share in shares.tenants if share.tenant.when_over is WhenOver.EVICT}
    for card_class, gives in capacity.items():
        slug = card_class.slug
        while over := _over(total(one.of(slug) for one in staying), gives.total):
            held = _held_by_tenant(staying, slug)
            asked = [
                one
                for one in staying
                if one.tenant in willing
                and any(getattr(one.of(slug), name) for name in over)
                and borrowed(held[one.tenant], one.of(slug), guaranteed.get((one.tenant, slug), Bound(0, 0, 0)))
            ]
            if not asked:
                break
            least = min(one.priority for one in asked)
            chosen = max((one for one in asked if one.priority == least), key=lambda one: (one.since, one.name))
            staying.remove(chosen)
            gone.append(chosen)
    return tuple(gone)


def _over(held: Amount, gives: Amount) -> list[str]:
    """The dimensions in which more is held than there is."""
    return [name for name in DIMENSIONS if getattr(held, name) > getattr(gives, name)]


def _held_by_tenant(running: Iterable[Running], slug: str) -> Mapping[str, Amount]:
    held: dict[str, Amount] = {}
    for one in running:
        held[one.tenant] = held.get(one.tenant, NOTHING) + one.of(slug)
    return held
