"""`kind: TenantQuota` (kerf.dev/v1alpha1): one tenant's namespaces and its part of each class of cards."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kerf.values.card_names import canonical
from kerf.values.device import Mode
from kerf.values.quota import UNBOUNDED, ByClaims, ClassQuota, Share, TenantQuota, WhenOver
from kerf.values.units import parse_whole, to_mib
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION, check_kind, known, list_at, object_at, one_of, text, whole
from kerf.wire.json import Json, at

KIND = "TenantQuota"
PATH = f"/apis/{API_VERSION}/tenantquotas"
PRIORITIES: Mapping[str, int] = {"low": -1000, "normal": 0, "high": 1000}
"""Bands and the value of the WorkloadPriorityClass that Kueue orders by."""
MOST_NAMESPACES, MOST_CLASSES = 256, 64
_WHOLE_CARDS = re.compile(r"([0-9]{1,6}) cards?(?: of (.{1,128}))?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MOST_MIB = 2**40
_SHARE_FIX = 'write "8 cards", "8 cards of H100" or an object of memory, cores and cards'


def parse_tenant(document: object, vendor: str = "") -> TenantQuota:
    """Read one TenantQuota; `vendor` is that of classes that name none. `status` is not read.

    Raises WireError that names the field, the value and the fix.
    """
    top = object_at(document, KIND)
    known(top, "", ("apiVersion", "kind", "metadata", "spec", "status"))
    check_kind(top, KIND)
    name = _name(object_at(top.get("metadata") or {}, "metadata").get("name"), "metadata.name")
    spec = object_at(top.get("spec") or {}, "spec")
    known(spec, "spec", ("namespaces", "classes", "weight", "priority", "whenOver", "claims"))
    namespaces = [_name(item, f"spec.namespaces[{i}]") for i, item in enumerate(_some(spec, "namespaces"))]
    classes = [_class(item, f"spec.classes[{i}]", vendor) for i, item in enumerate(_some(spec, "classes"))]
    return TenantQuota(
        name=name,
        namespaces=_each_once(namespaces, "spec.namespaces", MOST_NAMESPACES),
        classes=_each_once(classes, "spec.classes", MOST_CLASSES, key=lambda c: (c.vendor, c.mode, canonical(c.model))),
        weight=whole(spec, "weight", "spec", 1, (1, 1000)),
        priority=one_of(spec, "priority", "spec", "normal", PRIORITIES),
        when_over=WhenOver(one_of(spec, "whenOver", "spec", WhenOver.KEEP, list(WhenOver))),
        claims=ByClaims(one_of(spec, "claims", "spec", ByClaims.REFUSE, list(ByClaims))),
    )


def with_defaults(document: Json, vendor: str) -> dict[str, Any]:
    """A readable document as the API server stores it: every default of the CRD is written out, `vendor` too.

    `claims` has none there: versions that do not know it refuse a document that has it.
    """
    spec = document["spec"]
    classes = [{"mode": Mode.SHARED.value, "vendor": vendor, **entry} for entry in spec["classes"]]
    defaults = {
        "weight": 1,
        "priority": "normal",
        "whenOver": WhenOver.KEEP.value,
    }
    return {**document, "spec": {**defaults, **spec, "classes": classes}}


def held_to_nothing(document: Json, before: Iterable[str] = ()) -> TenantQuota:
    """A TenantQuota that cannot be read: no card for the namespaces that it names, and for those it had `before`."""
    listed = at(document, "spec").get("namespaces")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    return TenantQuota(str(at(document, "metadata").get("name", "")), tuple(dict.fromkeys((*before, *names))), ())


def conflicts(tenants: Iterable[TenantQuota]) -> dict[str, str]:
    """By tenant, the sentence that says which of its namespaces an earlier tenant (by name) already has."""
    owner: dict[str, str] = {}
    found: dict[str, str] = {}
    for tenant in sorted(tenants, key=lambda tenant: tenant.name):
        for namespace in tenant.namespaces:
            first = owner.setdefault(namespace, tenant.name)
            if first != tenant.name:
                fix = "drop it from one of the two"
                found.setdefault(tenant.name, f"namespace {namespace} belongs to tenant {first} already: {fix}")
    return found


def _class(value: object, where: str, vendor: str) -> ClassQuota:
    part = object_at(value, where)
    known(part, where, ("model", "mode", "vendor", "guaranteed", "burst", "lendable"))
    if "guaranteed" not in part:
        raise WireError(f"{where}.guaranteed", None, _SHARE_FIX)
    guaranteed, meant = _share(part["guaranteed"], f"{where}.guaranteed")
    burst, burst_of = _share(part["burst"], f"{where}.burst") if "burst" in part else (UNBOUNDED, "")
    lendable, lent_of = _share(part["lendable"], f"{where}.lendable") if "lendable" in part else (UNBOUNDED, "")
    model = text(part, "model", where, meant or None)
    for key, other in (("guaranteed", meant), ("burst", burst_of), ("lendable", lent_of)):
        if other and canonical(other) != canonical(model):
            raise WireError(f"{where}.{key}", part[key], f"this entry is about {model}; write another for {other}")
    return ClassQuota(
        model=model,
        mode=Mode(one_of(part, "mode", where, Mode.SHARED, list(Mode))),
        vendor=text(part, "vendor", where, None) if "vendor" in part else vendor,
        guaranteed=guaranteed,
        burst=burst,
        lendable=lendable,
    )


def _share(value: object, where: str) -> tuple[Share, str]:
    """A share and the model that its text names, if it does."""
    if isinstance(value, str):
        found = _WHOLE_CARDS.fullmatch(value.strip())
        if found is None:
            raise WireError(where, value, _SHARE_FIX)
        return Share(whole=int(found[1])), (found[2] or "").strip()
    if not isinstance(value, Mapping):
        raise WireError(where, value, _SHARE_FIX)
    known(value, where, ("memory", "cores", "cards"))
    if not value:
        raise WireError(where, dict(value), _SHARE_FIX)
    return Share(
        memory_mib=_memory(value["memory"], f"{where}.memory") if "memory" in value else None,
        cores=_count(value["cores"], f"{where}.cores", "percent of SMs: 100 is one card's")
        if "cores" in value
        else None,
        cards=_count(value["cards"], f"{where}.cards", "one a card of each container") if "cards" in value else None,
    ), ""


def _memory(value: object, where: str) -> int:
    """MiB of "320Gi" (bytes with a unit) or of 327680 (a bare number is MiB, as gpumem is)."""
    fix = 'write memory with its unit ("320Gi") or a whole number of MiB'
    try:
        bare = str(value).strip().isdigit()
        mib = parse_whole(value, most=_MOST_MIB) if bare else to_mib(value)
    except ValueError as error:
        raise WireError(where, value, f"{fix} ({error})") from error
    if not 0 <= mib <= _MOST_MIB or (not bare and not mib and str(value).strip(" 0.")):
        raise WireError(where, value, fix)
    return mib


def _count(value: object, where: str, unit: str) -> int:
    try:
        return parse_whole(value)
    except ValueError as error:
        raise WireError(where, value, f"write a whole number, {unit} ({error})") from error


def _some(spec: Json, key: str) -> list[Any]:
    found = list_at(spec.get(key), f"spec.{key}")
    if not found:
        raise WireError(f"spec.{key}", found, "list at least one")
    return found


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise WireError(where, value, "write a name of a-z, 0-9 and - with at most 63 characters")
    return value


def _each_once(values: list[Any], where: str, most: int, key: Any = lambda value: value) -> tuple[Any, ...]:  # noqa: ANN401
    if len(values) > most:
        raise WireError(where, len(values), f"list at most {most}")
    if len({key(value) for value in values}) != len(values):
        raise WireError(where, [key(value) for value in values], "list each once")
    return tuple(values)
