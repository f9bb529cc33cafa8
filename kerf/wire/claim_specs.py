"""The specs of ResourceClaims that nobody has allocated, as raw JSON, to what they ask of Kerf's cards.

What the plan of a fleet cannot count is refused with its field: another driver's devices, conditions on one card, modes
that depend on the node.
"""

from collections.abc import Mapping
from typing import Any

from kerf.values.device_ask import DeviceAsk, DeviceOption
from kerf.values.selector import Term
from kerf.values.units import parse_quantity, to_mib
from kerf.wire.cel import parse_cel
from kerf.wire.devices import CORES, DRIVER, MEMORY, SLOTS
from kerf.wire.errors import WireError
from kerf.wire.fields import known, list_at, object_at, text, whole
from kerf.wire.json import Json, at, items_at, text_at

Classes = Mapping[str, tuple[Term, ...]]
"""The selectors of each DeviceClass that is known."""
KINDS = ("slice", "card", "mig")
CARD_CLASS = f"card.{DRIVER}"
CARD_RESOURCE = f"{DRIVER}/card"
"""The extended resource that the chart gives to the class of whole cards."""
IMPLICIT = "deviceclass.resource.kubernetes.io/"
"""The extended resource that Kubernetes itself gives to a class begins with this and ends with its name."""
MOST_REQUESTS, MOST_DEVICES = 32, 32
_ALIKE = frozenset({f"{DRIVER}/model", f"{DRIVER}/vendor", f"{DRIVER}/numa"})
"""Attributes that a plan need not match: a replica's cards are of one model, and NUMA is left to the cluster."""
_SUBREQUEST = ("name", "deviceClassName", "selectors", "allocationMode", "count", "tolerations", "capacity")


def own_classes() -> dict[str, tuple[Term, ...]]:
    """The classes that the chart makes."""
    of_kind = {kind: f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].kind == '{kind}'" for kind in KINDS}
    return {f"{kind}.{DRIVER}": (parse_cel(expression),) for kind, expression in of_kind.items()}


def parse_class(item: Json) -> tuple[str, tuple[Term, ...], str]:
    """A DeviceClass: its name, its selectors, and its extended resource, if any. Raises WireError."""
    spec = at(item, "spec")
    return (
        text_at(item, "metadata", "name"),
        _selectors(spec.get("selectors"), "spec.selectors"),
        text_at(spec, "extendedResourceName"),
    )


def parse_claim_spec(spec: object, where: str, classes: Classes) -> tuple[DeviceAsk, ...]:
    """What a claim asks for. Raises WireError for what a plan cannot count."""
    devices = object_at(object_at(spec, where).get("devices") or {}, f"{where}.devices")
    requests = list_at(devices.get("requests"), f"{where}.devices.requests")
    if not requests or len(requests) > MOST_REQUESTS:
        raise WireError(f"{where}.devices.requests", len(requests), f"write 1 to {MOST_REQUESTS} requests")
    asks: dict[str, DeviceAsk] = {}
    for i, item in enumerate(requests):
        field = f"{where}.devices.requests[{i}]"
        request = object_at(item, field)
        name = text(request, "name", field, None)
        if name in asks:
            raise WireError(f"{field}.name", name, "give each request a name of its own")
        asks[name] = _request(request, field, classes)
    return _constrained(asks, items_at(devices, "constraints"), f"{where}.devices.constraints")


def _request(request: Json, where: str, classes: Classes) -> DeviceAsk:
    if "firstAvailable" in request:
        listed = list_at(request["firstAvailable"], f"{where}.firstAvailable")
        pairs = [(f"{where}.firstAvailable[{i}]", each) for i, each in enumerate(listed)]
    elif "exactly" in request:
        pairs = [(f"{where}.exactly", request["exactly"])]
    else:  # as resource.k8s.io/v1beta1 writes it
        pairs = [(where, request)]
    if not pairs:
        raise WireError(f"{where}.firstAvailable", [], "list at least one way to answer the request")
    return DeviceAsk(tuple(_option(object_at(each, field), field, classes) for field, each in pairs))


def _option(item: Json, where: str, classes: Classes) -> DeviceOption:
    if item.get("adminAccess"):
        raise WireError(f"{where}.adminAccess", True, "drop it: it would bypass every slice of the card")
    known(item, where, (*_SUBREQUEST, "adminAccess"))
    name = text(item, "deviceClassName", where, None)
    if name not in classes:
        fix = f"a fleet plans Kerf's cards alone: use one of {', '.join(sorted(classes))}"
        raise WireError(f"{where}.deviceClassName", name, fix)
    if item.get("allocationMode", "ExactCount") != "ExactCount":
        raise WireError(f"{where}.allocationMode", item["allocationMode"], "write count: it depends on the node")
    selectors = classes[name] + _selectors(item.get("selectors"), f"{where}.selectors")
    count = whole(item, "count", where, 1, (1, MOST_DEVICES))
    amounts = object_at(at(item, "capacity").get("requests") or {}, f"{where}.capacity.requests")
    known(amounts, f"{where}.capacity.requests", (MEMORY, CORES, SLOTS))
    return DeviceOption(selectors, count, *_amounts(amounts, f"{where}.capacity.requests"))


def _amounts(amounts: Json, where: str) -> tuple[int | None, int | None]:
    found: dict[str, int] = {}
    for key in amounts:
        try:
            value = parse_quantity(amounts[key])
            found[key] = to_mib(amounts[key]) if key == MEMORY else -(-value.numerator // value.denominator)
        except ValueError as error:
            raise WireError(f"{where}.{key}", amounts[key], f"write a Kubernetes quantity ({error})") from error
        if value < 0 or (key == MEMORY and not value) or (key == SLOTS and value != 1):
            raise WireError(f"{where}.{key}", amounts[key], "a slice has more than 0 of memory, and one slot")
    return found.get(MEMORY), found.get(CORES)


def _selectors(value: object, where: str) -> tuple[Term, ...]:
    found = []
    for i, item in enumerate(list_at(value, where)):
        expression = text_at(item, "cel", "expression") if isinstance(item, Mapping) else ""
        try:
            found.append(parse_cel(expression))
        except ValueError as error:
            raise WireError(f"{where}[{i}].cel.expression", expression, f"{error}; a fleet cannot plan it") from error
    return tuple(found)


def _constrained(asks: dict[str, DeviceAsk], constraints: tuple[Json, ...], where: str) -> tuple[DeviceAsk, ...]:
    """The asks; those that must be of different cards are one, of as many cards."""
    for i, constraint in enumerate(constraints):
        field = f"{where}[{i}]"
        names = [str(name).partition("/")[0] for name in constraint.get("requests") or asks]
        if constraint.get("matchAttribute") in _ALIKE:
            continue
        if constraint.get("distinctAttribute") != f"{DRIVER}/uuid":
            fix = f"a fleet plans distinctAttribute: {DRIVER}/uuid, and matchAttribute with model, vendor or numa"
            raise WireError(field, dict(constraint), fix)
        mine = {name: asks[name] for name in names if name in asks}
        single = {tuple(_of_one(option) for option in ask.options) for ask in mine.values()}
        if len(single) > 1 or any(len(ask.options) > 1 for ask in mine.values()):
            raise WireError(field, list(mine), "a fleet plans different cards only for requests of one size")
        if mine:
            asks = {name: ask for name, ask in asks.items() if name not in mine}
            option = next(iter(single))[0]
            count = sum(ask.options[0].count for ask in mine.values())
            asks["/".join(mine)] = DeviceAsk((_with_count(option, count),))
    return tuple(asks.values())


def _of_one(option: DeviceOption) -> DeviceOption:
    return _with_count(option, 1)


def _with_count(option: DeviceOption, count: int) -> DeviceOption:
    return DeviceOption(option.selectors, count, option.memory_mib, option.cores)


def on_model(spec: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A claim's spec that takes cards of one model alone."""
    quoted = model[:64].replace("\\", "\\\\").replace("'", "\\'")
    mark = {"cel": {"expression": f"device.attributes['{DRIVER}'].model == '{quoted}'"}}

    def marked(part: Mapping[str, Any]) -> dict[str, Any]:
        return {**part, "selectors": [*(part.get("selectors") or ()), mark]}

    def request(item: Mapping[str, Any]) -> dict[str, Any]:
        if item.get("firstAvailable"):
            return {**item, "firstAvailable": [marked(each) for each in item["firstAvailable"]]}
        return {**item, "exactly": marked(item["exactly"])} if "exactly" in item else marked(item)

    devices = at(spec, "devices")
    return {**spec, "devices": {**devices, "requests": [request(each) for each in devices["requests"]]}}
