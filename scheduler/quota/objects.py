"""From shares to Kueue's objects, and what has to change for the cluster to have them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from kerf.values.policy import QuotaSettings
from kerf.values.quota import DIMENSIONS, Bound
from kerf.values.units import parse_quantity
from kerf.values.vendor import ResourceNames
from kerf.wire import kueue
from kerf.wire.json import Json, at
from kerf.wire.kueue import FlavorQuota
from scheduler.quota.shares import Shares, TenantShare

Key = tuple[str, str, str]
"""Kind, namespace (empty for cluster-wide kinds) and name."""
OPTIONAL = ("borrowingLimit", "lendingLimit", "admissionChecksStrategy", "resourceGroups")
"""Fields that Kerf writes at times and leaves out at others; left out, they mean something: no limit, no check."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: `create` and `update` apply `document`, `delete` removes what nothing wants any more."""

    action: str
    key: Key
    document: Json
    details: tuple[str, ...] = ()
    """For people: `field: before → after`."""

    def __str__(self) -> str:
        kind, namespace, name = self.key
        where = f"{namespace}/{name}" if namespace else name
        return f"{self.action} {kind} {where}" + "".join(f"\n    {detail}" for detail in self.details)


def desired(shares: Shares, settings: QuotaSettings, vendors: tuple[ResourceNames, ...]) -> tuple[dict[str, Any], ...]:
    """Every object that Kueue needs, those first that others name."""
    bands = sorted({share.tenant.priority for share in shares.tenants})
    return (
        *(kueue.render_flavor(card_class.slug) for card_class, _ in shares.rest),
        *(kueue.render_priority(band) for band in bands),
        *([kueue.render_fit_check()] if settings.fit_check and shares.tenants else []),
        kueue.render_cohort(settings.cohort, _rest(shares), vendors),
        *(_cluster_queue(share, settings, vendors) for share in shares.tenants),
        *(
            kueue.render_local_queue(settings.queue, namespace, share.tenant.name)
            for namespace, share in shares.by_namespace().items()
        ),
    )


def changes(wanted: Iterable[Json], live: Iterable[Json]) -> tuple[Change, ...]:
    """The writes that make `live` (what Kerf manages now) into `wanted`, in an order that never promises twice.

    What nothing else wants is deleted last; of ClusterQueues and Cohorts those shrink first that shrink.
    """
    have = {key_of(item): item for item in live}
    want = {key_of(item): item for item in wanted}
    found = []
    for key, document in want.items():
        before = have.get(key)
        details = tuple(differences(document, before)) if before is not None else ()
        if before is None or details:
            found.append(Change("create" if before is None else "update", key, document, details))
    gone = [Change("delete", key, have[key]) for key in have if key not in want]
    order = list(kueue.PLURALS)
    found.sort(key=lambda change: (_rank(change, order), _growth(change, have), change.key))
    gone.sort(key=lambda change: (-order.index(change.key[0]), change.key))
    return (*found, *gone)


def key_of(item: Json) -> Key:
    """What names an object."""
    meta = item["metadata"]
    return str(item["kind"]), str(meta.get("namespace") or ""), str(meta["name"])


def differences(wanted: Any, found: Any, path: str = "") -> Iterable[str]:  # noqa: ANN401 (raw JSON)
    """What differs between `wanted` and `found`, which may have more. Equal quantities are equal, "8k" and 8000."""
    if isinstance(wanted, Mapping):
        below = found if isinstance(found, Mapping) else {}
        for key, value in wanted.items():
            yield from differences(value, below.get(key), f"{path}.{key}" if path else key)
        for key in OPTIONAL:
            if key not in wanted and below.get(key) not in (None, [], {}):
                yield f"{path}.{key}: {_text(below[key])} → {_text(None)}"
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for i, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{path}[{_label(one, i)}]")
    elif not _same(wanted, found):
        yield f"{path}: {_text(found)} → {_text(wanted)}"


def _cluster_queue(share: TenantShare, settings: QuotaSettings, vendors: tuple[ResourceNames, ...]) -> dict[str, Any]:
    tenant = share.tenant
    spec = kueue.render_queue_spec(settings.cohort, tenant.namespaces, tenant.weight, fit_check=settings.fit_check)
    quotas = (
        FlavorQuota(part.card_class.slug, part.card_class.vendor, part.guaranteed, part.burst, part.lendable)
        for part in share.parts
    )
    return kueue.render_cluster_queue(tenant.name, spec, quotas, vendors)


def _rest(shares: Shares) -> Iterable[FlavorQuota]:
    for card_class, amount in shares.rest:
        yield FlavorQuota(card_class.slug, card_class.vendor, Bound(*(getattr(amount, name) for name in DIMENSIONS)))


def _rank(change: Change, order: list[str]) -> int:
    rank = order.index(change.key[0])
    return min(rank, order.index("Cohort")) if change.key[0] == "ClusterQueue" else rank


def _growth(change: Change, have: Mapping[Key, Json]) -> Fraction:
    return _nominal(change.document) - _nominal(have.get(change.key, {}))


def _nominal(item: Json) -> Fraction:
    """The sum of all nominal quota of an object."""
    groups = at(item, "spec").get("resourceGroups") or ()
    amounts = (
        resource.get("nominalQuota", 0)
        for group in groups
        for flavor in group.get("flavors") or ()
        for resource in flavor.get("resources") or ()
    )
    return sum((parse_quantity(amount) for amount in amounts), Fraction(0))


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401
    if one == other:
        return True
    try:
        return parse_quantity(one) == parse_quantity(other)
    except ValueError:
        return False


def _label(value: Any, i: int) -> str:  # noqa: ANN401
    return str(value["name"]) if isinstance(value, Mapping) and "name" in value else str(i)


def _text(value: Any) -> str:  # noqa: ANN401
    return "nothing" if value is None else str(value)
