"""One TenantQuota over several clusters: its guarantee split by live capacity, its use summed. Pure.

A tenant is split where its TenantQuota on the manager cluster has the label `fleet.kerf.dev/split: "true"`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kerf.values.card_names import canonical, meant
from kerf.values.device import Mode
from kerf.values.quota import UNBOUNDED, ByClaims, ClassQuota, Share, TenantQuota, class_of
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION
from kerf.wire.fleet import LABEL_MANAGER, SPLIT, slug
from kerf.wire.json import Json, at
from kerf.wire.quota import KIND, parse_tenant
from scheduler.fleet.view import View

_AMOUNTS = ("memory_mib", "cores", "cards", "whole")
_USED = ("memoryMiB", "cores", "cards")


@dataclass(frozen=True, slots=True)
class TenantPart:
    """What one cluster gets of a tenant."""

    cluster: str
    tenant: TenantQuota


def is_split(document: Json) -> bool:
    """Whether a TenantQuota holds over all clusters."""
    return at(document, "metadata", "labels").get(SPLIT) == "true"


def split(tenant: TenantQuota, views: Sequence[View]) -> tuple[TenantPart, ...]:
    """The tenant's parts in the clusters whose capacity counts; together they are exactly the whole."""
    usable = [view for view in views if view.record.usable]
    if not usable:
        return ()
    models = sorted({state.card.model for view in usable for node in view.states for state in node.cards})
    parts: dict[str, list[ClassQuota]] = {view.name: [] for view in usable}
    for one in tenant.classes:
        weights = [_capacity(view, one, meant(one.model, models)) for view in usable]
        guaranteed, burst = _divided(one.guaranteed, weights), _divided(one.burst, weights)
        lendable = _divided(one.lendable, weights)
        for i, view in enumerate(usable):
            part = replace(one, guaranteed=guaranteed[i], burst=burst[i], lendable=lendable[i])
            parts[view.name].append(part)
    return tuple(TenantPart(name, replace(tenant, classes=tuple(classes))) for name, classes in sorted(parts.items()))


def _capacity(view: View, one: ClassQuota, models: tuple[str, ...]) -> int:
    return sum(
        state.card.factory_memory_mib
        for node in view.states
        for state in node.cards
        if state.usable
        and state.card.model in models
        and class_of(state.card).mode is one.mode
        and one.vendor in ("", state.card.vendor)
    )


def _divided(share: Share, weights: Sequence[int]) -> list[Share]:
    """A share in proportion to the weights, in whole numbers that add up; alike where nobody has capacity."""
    if share == UNBOUNDED:
        return [share] * len(weights)
    columns = {name: _whole(getattr(share, name), weights) for name in _AMOUNTS}
    return [Share(**{name: column[i] for name, column in columns.items()}) for i in range(len(weights))]


def _whole(amount: int | None, weights: Sequence[int]) -> list[int | None]:
    if amount is None:
        return [None] * len(weights)
    known = list(weights) if sum(weights) else [1] * len(weights)
    found = [amount * weight // sum(known) for weight in known]
    rest = sorted(range(len(known)), key=lambda i: (-(amount * known[i] % sum(known)), i))
    for i in rest[: amount - sum(found)]:
        found[i] += 1
    return list(found)


def render_part(part: TenantPart, fleet: str) -> dict[str, Any]:
    """The TenantQuota to apply in the part's cluster."""
    tenant = part.tenant
    classes = []
    for one in tenant.classes:
        entry: dict[str, Any] = {"model": one.model, "mode": one.mode.value, "guaranteed": _written(one.guaranteed)}
        entry |= {"vendor": one.vendor} if one.vendor else {}
        entry |= {"burst": _written(one.burst)} if one.burst != UNBOUNDED else {}
        entry |= {"lendable": _written(one.lendable)} if one.lendable != UNBOUNDED else {}
        classes.append(entry)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": tenant.name, "labels": {LABEL_MANAGER: slug(fleet)}},
        "spec": {
            "namespaces": list(tenant.namespaces),
            "classes": classes,
            "weight": tenant.weight,
            "priority": tenant.priority,
            "whenOver": tenant.when_over.value,
            **({} if tenant.claims is ByClaims.REFUSE else {"claims": tenant.claims.value}),
        },
    }


def _written(share: Share) -> Any:  # noqa: ANN401
    if share.whole is not None:
        return f"{share.whole} card{'s' if share.whole != 1 else ''}"
    keys = {"memory": share.memory_mib, "cores": share.cores, "cards": share.cards}
    return {key: value for key, value in keys.items() if value is not None}


def summed(members: Mapping[str, Json | None], cost: float, unreachable: Sequence[str]) -> dict[str, Any]:
    """The one status of a tenant: what it uses in every cluster, by the statuses there as last seen."""
    clusters = []
    total = dict.fromkeys(_USED, 0)
    for name, item in sorted(members.items()):
        totals = at(item or {}, "status", "totals")
        used = {key: _number(at(totals, "used").get(key)) for key in _USED}
        guaranteed = {key: _number(at(totals, "guaranteed").get(key)) for key in _USED}
        for key in _USED:
            total[key] += used[key]
        clusters.append({"name": name, "used": used, "guaranteed": guaranteed, "reachable": name not in unreachable})
    return {"clusters": clusters, "used": total, "costPerHour": f"{cost:.4f}"}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def waiting_for(parts: Sequence[TenantPart], there: Mapping[str, Json | None]) -> bool:
    """Whether a part still has to shrink, so that none may grow: they never promise more than the whole."""
    return any(_shrinks(there.get(part.cluster), part.tenant) for part in parts)


def _shrinks(item: Json | None, wanted: TenantQuota) -> bool:
    """Whether a cluster guarantees more of a class than it should. What cannot be read there guarantees nothing."""
    try:
        now = parse_tenant(item).classes if item is not None else ()
    except WireError:
        return False
    goal = {_of(one): one.guaranteed for one in wanted.classes}
    return any(
        (getattr(one.guaranteed, name) or 0) > (getattr(goal.get(_of(one), UNBOUNDED), name) or 0)
        for one in now
        for name in _AMOUNTS
    )


def _of(one: ClassQuota) -> tuple[str, Mode, str]:
    """What a class is about."""
    return canonical(one.model), one.mode, one.vendor
