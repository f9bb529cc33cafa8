"""What claims that are not allocated ask for: requests, classes and constraints, read from raw JSON. Pure."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from kerf.values.device_ask import ClaimAsk, Constraint, DeviceClass, Selector, Wanted
from kerf.values.units import parse_quantity
from kerf.wire.devices import DRIVER
from kerf.wire.errors import WireError
from kerf.wire.fields import flag, known, list_at, object_at, one_of, part_at, text, whole
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.resources import containers_of

Classes = Mapping[str, DeviceClass]
"""The DeviceClasses that are known, by name."""
KINDS = ("slice", "card", "mig")
"""Kerf's own classes are `KIND.gpu.kerf.dev`."""
CARD_RESOURCE = f"{DRIVER}/card"
"""The extended resource that the chart gives to the class of whole cards (`dra.cardResource`)."""
IMPLICIT = "deviceclass.resource.kubernetes.io/"
"""The extended resource that Kubernetes itself gives to a class begins with this and ends with its name."""
MOST_REQUESTS, MOST_DEVICES, MOST_SELECTORS = 32, 32, 32
"""Of a claim; Kubernetes' own bounds."""
_NOT_YET = "~"
"""When a class of a file is made, which says no time: after all that the cluster has."""
_SUBREQUEST = ("name", "deviceClassName", "selectors", "allocationMode", "count", "tolerations", "capacity")
_EXACT = (*_SUBREQUEST[1:], "adminAccess")


def known_classes(items: Iterable[Json] = ()) -> dict[str, DeviceClass]:
    """Kerf's own classes as the chart makes them, and those of these objects."""
    classes = [_own(kind) for kind in KINDS] + [parse_class(item) for item in items]
    return {each.name: each for each in classes}


def parse_class(item: Json) -> DeviceClass:
    """A DeviceClass. A selector without an expression is refused where a claim needs the class."""
    selectors = tuple(text_at(each, "cel", "expression") for each in items_at(item, "spec", "selectors"))
    name, made = text_at(item, "metadata", "name"), text_at(item, "metadata", "creationTimestamp")
    return DeviceClass(name, selectors, text_at(item, "spec", "extendedResourceName"), made or _NOT_YET)


def class_of_resource(resource: str, classes: Classes) -> str:
    """The class that an extended resource is for: of several the newest, then the first by name. Empty: for none."""
    implied = resource.removeprefix(IMPLICIT)
    if implied != resource:
        return implied if implied in classes else ""
    mine = sorted(name for name, each in classes.items() if resource and each.resource == resource)
    return max(mine, key=lambda name: classes[name].made, default="")


def names_ours(claim: Json) -> bool:
    """Whether a claim names a class of Kerf's, as the API server's policies look at it.

    What selects Kerf's devices in a class of another name is not seen.
    """
    requests = items_at(claim, "spec", "devices", "requests")
    ways = [way for each in requests for way in (each, at(each, "exactly"), *items_at(each, "firstAvailable"))]
    return any(text_at(way, "deviceClassName").endswith(f".{DRIVER}") for way in ways)


def names_our_resource(pod: Json) -> bool:
    """Whether a pod asks by an extended resource for which Kubernetes claims a device of Kerf's."""
    limits = [at(container, "resources", "limits") for container, _ in containers_of(at(pod, "spec"))]
    return any(_is_ours(str(name)) for each in limits for name in each)


def _is_ours(resource: str) -> bool:
    kind = resource.removeprefix(IMPLICIT)
    return kind.endswith(f".{DRIVER}") if kind != resource else resource.startswith(f"{DRIVER}/")


def parse_ask(claim: Json, classes: Classes) -> ClaimAsk:
    """The requests of a claim. Raises WireError with the field and the fix."""
    name = text_at(claim, "metadata", "name")
    return parse_requests(claim.get("spec"), f"claim {name}: spec", classes, name)


def parse_requests(spec: object, where: str, classes: Classes, name: str = "") -> ClaimAsk:
    """The requests of a claim's spec. Raises WireError with the field and the fix."""
    devices = part_at(object_at({} if spec is None else spec, where), "devices", f"{where}.devices")
    items = list_at(devices.get("requests"), f"{where}.devices.requests")
    if len(items) > MOST_REQUESTS:
        raise WireError(f"{where}.devices.requests", len(items), f"write at most {MOST_REQUESTS} requests")
    requests: dict[str, tuple[Wanted, ...]] = {}
    for i, item in enumerate(items):
        field = f"{where}.devices.requests[{i}]"
        request = object_at(item, field)
        own = text(request, "name", field, None)
        if own in requests:
            raise WireError(f"{field}.name", own, "give each request a name of its own")
        requests[own] = _ways(own, request, field, classes)
    field = f"{where}.devices.constraints"
    constraints = (
        _constraint(each, f"{field}[{i}]") for i, each in enumerate(list_at(devices.get("constraints"), field))
    )
    return ClaimAsk(name, tuple(requests.values()), tuple(constraints))


def _own(kind: str) -> DeviceClass:
    selector = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].kind == '{kind}'"
    return DeviceClass(f"{kind}.{DRIVER}", (selector,), CARD_RESOURCE if kind == "card" else "")


def _ways(name: str, request: Json, where: str, classes: Classes) -> tuple[Wanted, ...]:
    if "firstAvailable" in request:
        listed = list_at(request["firstAvailable"], f"{where}.firstAvailable")
        if not listed:
            raise WireError(f"{where}.firstAvailable", [], "list at least one way to answer the request")
        found = []
        for i, each in enumerate(listed):
            field = f"{where}.firstAvailable[{i}]"
            part = object_at(each, field)
            known(part, field, _SUBREQUEST)
            found.append(_wanted(f"{name}/{text(part, 'name', field, None)}", part, field, classes))
        return tuple(found)
    if "deviceClassName" in request:  # as resource.k8s.io/v1beta1 writes it
        known(request, where, ("name", *_EXACT))
        return (_wanted(name, request, where, classes),)
    field = f"{where}.exactly"
    if not request.get("exactly"):
        raise WireError(field, request.get("exactly"), "write exactly or firstAvailable")
    part = object_at(request["exactly"], field)
    known(part, field, _EXACT)
    return (_wanted(name, part, field, classes),)


def _wanted(name: str, part: Json, where: str, classes: Classes) -> Wanted:
    kind = text(part, "deviceClassName", where, None)
    if kind not in classes:
        fix = f"use one of {', '.join(sorted(classes))}, or give its DeviceClass, too"
        raise WireError(f"{where}.deviceClassName", kind, fix)
    if flag(part, "adminAccess", where, False):
        raise WireError(f"{where}.adminAccess", True, f"drop it: {DRIVER} gives no device to administrators")
    mode = one_of(part, "allocationMode", where, "ExactCount", ("ExactCount", "All"))
    amounts = part_at(part_at(part, "capacity", f"{where}.capacity"), "requests", f"{where}.capacity.requests")
    return Wanted(
        request=name,
        kind=kind,
        count=1 if mode == "All" else whole(part, "count", where, 1, (1, MOST_DEVICES)),
        all=mode == "All",
        amounts=_amounts(amounts, f"{where}.capacity.requests"),
        selectors=(*_of_class(classes[kind]), *_selectors(part.get("selectors"), f"request {name}", where)),
        tolerations=items_at(part, "tolerations"),
        where=where,
    )


def _amounts(asked: Json, where: str) -> tuple[tuple[str, Fraction], ...]:
    found = []
    for name, value in asked.items():
        try:
            amount = parse_quantity(value)
            if amount < 0:
                raise ValueError("it is less than nothing")
        except ValueError as error:
            raise WireError(f"{where}.{name}", value, f"write a quantity like 8Gi or 30 ({error})") from error
        found.append((name, amount))
    return tuple(found)


def _of_class(found: DeviceClass) -> tuple[Selector, ...]:
    for i, expression in enumerate(found.selectors):
        if not expression:
            where = f"DeviceClass {found.name}: spec.selectors[{i}]"
            raise WireError(where, expression, "write cel with an expression")
    where = f"DeviceClass {found.name}: spec.selectors"
    return tuple(
        Selector(f"class {found.name}", each, f"{where}[{i}].cel.expression") for i, each in enumerate(found.selectors)
    )


def _selectors(value: object, whose: str, where: str) -> tuple[Selector, ...]:
    listed = list_at(value, f"{where}.selectors")
    if len(listed) > MOST_SELECTORS:
        raise WireError(f"{where}.selectors", len(listed), f"write at most {MOST_SELECTORS} selectors")
    found = []
    for i, item in enumerate(listed):
        field = f"{where}.selectors[{i}]"
        expression = text_at(object_at(item, field), "cel", "expression")
        if not expression:
            raise WireError(field, dict(item), "write cel with an expression")
        found.append(Selector(whose, expression, f"{field}.cel.expression"))
    return tuple(found)


def _constraint(item: object, where: str) -> Constraint:
    part = object_at(item, where)
    match, distinct = text_at(part, "matchAttribute"), text_at(part, "distinctAttribute")
    if bool(match) == bool(distinct):
        raise WireError(where, dict(part), "write matchAttribute or distinctAttribute")
    names = list_at(part.get("requests"), f"{where}.requests")
    return Constraint(match or distinct, bool(distinct), tuple(map(str, names)))
