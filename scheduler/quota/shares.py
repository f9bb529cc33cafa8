"""How tenants share what the cards give: guarantees first, shrunk fairly where they exceed it, the rest for all."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from kerf.values.card_names import listed
from kerf.values.quota import DIMENSIONS, Amount, Bound, CardClass, ClassQuota, TenantQuota, total
from scheduler.quota.capacity import Capacity, ClassCapacity

WORDS = {"memory_mib": "memory", "cores": "cores", "cards": "cards"}
"""A dimension as a file names it."""
_ALL_BORROWED = [Bound(*amounts) for amounts in product((0, None), repeat=len(DIMENSIONS))][:-1]
"""Guarantees of nothing: what such a tenant holds is borrowed, whatever it leaves out."""


@dataclass(frozen=True, slots=True)
class Part:
    """A tenant's part of one class.

    `promised` is what its file says and `guaranteed` what it gets: less where all promises exceed the cards. `burst`
    and `lendable` are bounds on what it borrows and lends. None in `guaranteed` is a dimension without limit.
    """

    card_class: CardClass
    promised: Bound
    guaranteed: Bound
    burst: Bound
    lendable: Bound

    @property
    def shrunk(self) -> bool:
        """Whether the tenant gets less than its file says."""
        return self.promised != self.guaranteed

    @property
    def limit(self) -> Bound:
        """What the tenant may hold in all."""
        return self.guaranteed + self.burst


@dataclass(frozen=True, slots=True)
class TenantShare:
    """A tenant with its parts, and one sentence for each thing of its file that cannot be kept."""

    tenant: TenantQuota
    parts: tuple[Part, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shares:
    """The whole division: tenants by name, and per class what no tenant is guaranteed."""

    tenants: tuple[TenantShare, ...] = ()
    rest: tuple[tuple[CardClass, Amount], ...] = ()

    def by_namespace(self) -> dict[str, TenantShare]:
        """The tenant of each namespace: of several that claim it, the first by name, as `kerf.wire.quota.conflicts`."""
        found: dict[str, TenantShare] = {}
        for share in self.tenants:
            for namespace in share.tenant.namespaces:
                found.setdefault(namespace, share)
        return found


def divide(tenants: Iterable[TenantQuota], found: Capacity, conflicting: Mapping[str, str] | None = None) -> Shares:
    """Divide the capacity. Tenants in conflict with another get nothing but the sentence that says so."""
    ordered = sorted(tenants, key=lambda tenant: tenant.name)
    bad = conflicting or {}
    drafts = [_draft(tenant, found, bad.get(tenant.name)) for tenant in ordered]
    for card_class, gives in found.items():
        drafts = _shrink(drafts, card_class, gives.total)
    drafts = [replace(draft, problems=(*draft.problems, *_taken(draft, drafts))) for draft in drafts]
    return Shares(tuple(drafts), tuple((key, _rest(drafts, key, gives)) for key, gives in found.items()))


def _draft(tenant: TenantQuota, found: Capacity, conflict: str | None) -> TenantShare:
    if conflict:
        return TenantShare(tenant, (), (conflict,))
    parts: dict[CardClass, Part] = {}
    problems = []
    for quota in tenant.classes:
        matches = quota.among(found)
        if len(matches) > 1:
            models = ", ".join(card_class.model for card_class in matches)
            problems.append(f"model {quota.model} means several classes of cards ({models}): write one of them")
        elif not matches:
            known = listed(one.model for one in found if one.mode is quota.mode)
            other_vendors = bool(quota.vendor and found) and quota.vendor not in {one.vendor for one in found}
            vendor = f" of vendor {quota.vendor}" if other_vendors else ""
            missing = f"no card{vendor} of model {quota.model} in mode {quota.mode.value} is known"
            problems.append(f"{missing} (known models: {known}): it counts as none")
        elif matches[0] in parts:
            problems.append(f"model {quota.model} means {matches[0].model}, as an entry before it does: merge the two")
        else:
            parts[matches[0]] = _part(quota, matches[0], found[matches[0]])
    return TenantShare(tenant, tuple(parts[key] for key in sorted(parts)), tuple(problems))


def _taken(draft: TenantShare, drafts: Iterable[TenantShare]) -> Iterator[str]:
    """What is promised to a tenant and may be held by others without a limit, so that it may never come back."""
    for part in draft.parts:
        takers: dict[str, list[str]] = {}
        for other in drafts:
            for theirs in other.parts if other.tenant.name != draft.tenant.name else ():
                if theirs.card_class == part.card_class and theirs.promised not in _ALL_BORROWED:
                    open_ = [name for name in DIMENSIONS if part.promised.of(name) and theirs.promised.of(name) is None]
                    takers |= {other.tenant.name: open_} if open_ else {}
        for name, dimensions in takers.items():
            words = " and ".join(WORDS[dimension] for dimension in dimensions)
            yield (
                f"{words} of {part.card_class.model} may not come back: tenant {name} may hold all of this, because "
                f"its guaranteed leaves {words} out: write {words} there, or leave {words} out here"
            )


def _part(quota: ClassQuota, card_class: CardClass, gives: ClassCapacity) -> Part:
    promised = quota.guaranteed.on(gives.card)
    return Part(card_class, promised, promised, quota.burst.on(gives.card), quota.lendable.on(gives.card))


def _shrink(drafts: list[TenantShare], card_class: CardClass, gives: Amount) -> list[TenantShare]:
    """Each dimension on its own: where the promises exceed it, largest remainder; no promise ends above itself."""
    kept: dict[str, dict[str, int]] = {}
    for dimension in DIMENSIONS:
        wanted = {
            draft.tenant.name: value
            for draft in drafts
            for part in draft.parts
            if part.card_class == card_class and (value := part.promised.of(dimension)) is not None
        }
        kept[dimension] = largest_remainder(wanted, getattr(gives, dimension))
    return [_with_guarantee(draft, card_class, kept) for draft in drafts]


def _with_guarantee(draft: TenantShare, card_class: CardClass, kept: Mapping[str, Mapping[str, int]]) -> TenantShare:
    def guarantee(part: Part) -> Part:
        if part.card_class != card_class:
            return part
        return replace(part, guaranteed=Bound(*(kept[name].get(draft.tenant.name) for name in DIMENSIONS)))

    return replace(draft, parts=tuple(guarantee(part) for part in draft.parts))


def largest_remainder(wanted: Mapping[str, int], most: int) -> dict[str, int]:
    """Whole numbers proportional to `wanted` that add up to `most`, or `wanted` itself where it is not more.

    Hamilton's method: round down, then hand what is left to the largest remainders, ties by name.
    """
    asked = sum(wanted.values())
    if asked <= most:
        return dict(wanted)
    kept = {name: value * most // asked for name, value in wanted.items()}
    order = sorted(wanted, key=lambda name: (-(wanted[name] * most % asked), name))
    for name in order[: most - sum(kept.values())]:
        kept[name] += 1
    return kept


def _rest(drafts: list[TenantShare], card_class: CardClass, gives: ClassCapacity) -> Amount:
    held = total(
        Amount(*(part.guaranteed.of(name) or 0 for name in DIMENSIONS))
        for draft in drafts
        for part in draft.parts
        if part.card_class == card_class
    )
    return (gives.total - held).floor()
