"""What a claim asks for: requests, classes and constraints, read from raw JSON. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from kerf.values.units import parse_quantity
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at

KINDS = ("slice", "card", "mig")
"""Kerf's own classes are `KIND.gpu.kerf.dev`."""
MOST_DEVICES = 32
"""That a claim may get."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One way to answer a request: so many devices, each with these amounts, that all selectors accept."""

    request: str
    """The name in the result: `request`, or `request/sub` of a list."""
    kind: str
    """The class."""
    count: int = 1
    all: bool = False
    amounts: tuple[tuple[str, Fraction], ...] = ()
    selectors: tuple[tuple[str, str], ...] = ()
    """(whose it is, CEL)."""
    tolerations: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """Devices of these requests, all where none is named, have one value of an attribute, or each its own."""

    attribute: str
    distinct: bool = False
    requests: tuple[str, ...] = ()

    def covers(self, request: str) -> bool:
        """Whether it is about this request; `request/sub` is also named by `request`."""
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests


@dataclass(frozen=True, slots=True)
class ClaimAsk:
    """A claim that is not allocated. Each request has the ways to answer it, the most wanted first."""

    name: str
    requests: tuple[tuple[Wanted, ...], ...]
    constraints: tuple[Constraint, ...] = ()


def classes_of(items: Iterable[Json], extended: str) -> dict[str, Json]:
    """Device classes by name: those of the files, and Kerf's own as the chart makes them."""
    made = {f"{kind}.gpu.kerf.dev": _class(kind, extended if kind == "card" else "") for kind in KINDS}
    return made | {text_at(item, "metadata", "name"): item for item in items}


def class_of_resource(resource: str, classes: Mapping[str, Json]) -> str:
    """The class that an extended resource stands for; empty where it stands for none."""
    implied = resource.removeprefix("deviceclass.resource.kubernetes.io/")
    if implied != resource:
        return implied if implied in classes else ""
    return next(
        (name for name, each in classes.items() if text_at(each, "spec", "extendedResourceName") == resource), ""
    )


def is_ours(request: Json) -> bool:
    """Whether a request names one of Kerf's classes, as the API server's policies look at it."""
    named = [at(request, "exactly"), *items_at(request, "firstAvailable")]
    return any(text_at(each, "deviceClassName").endswith(".gpu.kerf.dev") for each in named)


def parse_ask(claim: Json, classes: Mapping[str, Json]) -> ClaimAsk:
    """The requests of a claim. Raises WireError with the field and the fix."""
    devices, name = at(claim, "spec", "devices"), text_at(claim, "metadata", "name")
    where = f"claim {name}: spec.devices"
    requests = tuple(
        _ways(request, f"{where}.requests[{i}]", classes) for i, request in enumerate(items_at(devices, "requests"))
    )
    constraints = tuple(_constraint(each, f"{where}.constraints[{i}]")
                        for i, each in enumerate(items_at(devices, "constraints")))  # fmt: skip
    return ClaimAsk(name, requests, constraints)


def _class(kind: str, extended: str) -> Json:
    selector = f"device.driver == 'gpu.kerf.dev' && device.attributes['gpu.kerf.dev'].kind == '{kind}'"
    named = {"extendedResourceName": extended} if extended else {}
    return {
        "metadata": {"name": f"{kind}.gpu.kerf.dev"},
        "spec": {"selectors": [{"cel": {"expression": selector}}]} | named,
    }


def _ways(request: Json, where: str, classes: Mapping[str, Json]) -> tuple[Wanted, ...]:
    name, listed = text_at(request, "name"), items_at(request, "firstAvailable")
    if not name:
        raise WireError(f"{where}.name", request.get("name"), "give each request a name")
    if listed:
        return tuple(
            _wanted(f"{name}/{text_at(each, 'name')}", each, f"{where}.firstAvailable[{i}]", classes)
            for i, each in enumerate(listed)
        )
    if not at(request, "exactly"):
        raise WireError(f"{where}.exactly", request.get("exactly"), "write exactly or firstAvailable")
    return (_wanted(name, at(request, "exactly"), f"{where}.exactly", classes),)


def _wanted(name: str, part: Json, where: str, classes: Mapping[str, Json]) -> Wanted:
    kind = text_at(part, "deviceClassName")
    if kind not in classes:
        fix = "use slice.gpu.kerf.dev, card.gpu.kerf.dev or mig.gpu.kerf.dev, or give its DeviceClass"
        raise WireError(f"{where}.deviceClassName", part.get("deviceClassName"), fix)
    if part.get("adminAccess") is True:
        raise WireError(f"{where}.adminAccess", True, "drop it: gpu.kerf.dev gives no device to administrators")
    mode = part.get("allocationMode") or "ExactCount"
    if mode not in {"ExactCount", "All"}:
        raise WireError(f"{where}.allocationMode", mode, "use ExactCount or All")
    return Wanted(
        request=name,
        kind=kind,
        count=_count(part, where),
        all=mode == "All",
        amounts=_amounts(at(part, "capacity", "requests"), f"{where}.capacity.requests"),
        selectors=(
            *_selectors(f"class {kind}", at(classes[kind], "spec"), f"DeviceClass {kind}"),
            *_selectors(f"request {name}", part, where),
        ),
        tolerations=items_at(part, "tolerations"),
    )


def _count(part: Json, where: str) -> int:
    count = part.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_DEVICES:
        raise WireError(f"{where}.count", count, f"write a number from 1 to {MOST_DEVICES}")
    return count


def _amounts(asked: Json, where: str) -> tuple[tuple[str, Fraction], ...]:
    found = []
    for name, value in asked.items():
        try:
            amount = parse_quantity(value)
        except ValueError as error:
            raise WireError(f"{where}.{name}", value, "write a quantity like 8Gi or 30") from error
        found.append((name, amount))
    return tuple(found)


def _selectors(whose: str, part: Json, where: str) -> tuple[tuple[str, str], ...]:
    found = []
    for i, selector in enumerate(items_at(part, "selectors")):
        expression = text_at(selector, "cel", "expression")
        if not expression:
            raise WireError(f"{where}.selectors[{i}]", dict(selector), "write cel with an expression")
        found.append((whose, expression))
    return tuple(found)


def _constraint(part: Json, where: str) -> Constraint:
    match, distinct = text_at(part, "matchAttribute"), text_at(part, "distinctAttribute")
    if bool(match) == bool(distinct):
        raise WireError(where, dict(part), "write matchAttribute or distinctAttribute")
    names = part.get("requests")
    requests = tuple(str(name) for name in names) if isinstance(names, list) else ()
    return Constraint(match or distinct, bool(distinct), requests)
