"""What claims ask of Kerf's cards of a model, for the plan of a fleet.

What the plan cannot count is refused with its field: conditions on one card, modes that depend on the node.
"""

from collections.abc import Mapping
from typing import Any

from kerf.values.device_ask import ClaimAsk, Constraint, DeviceAsk, DeviceOption, Selector, Wanted
from kerf.values.selector import Term
from kerf.values.units import MIB
from kerf.wire.claim_requests import MOST_REQUESTS, Classes, parse_requests
from kerf.wire.devices import CORES, DRIVER, MEMORY, SLOTS
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.model_conditions import parse_condition

_ALIKE = frozenset({f"{DRIVER}/model", f"{DRIVER}/vendor", f"{DRIVER}/numa"})
"""Attributes that a plan need not match: a replica's cards are of one model, and NUMA is left to the cluster."""


def parse_claim_spec(spec: object, where: str, classes: Classes) -> tuple[DeviceAsk, ...]:
    """What a claim asks for. Raises WireError for what a plan cannot count."""
    found = parse_requests(spec, where, classes)
    if not found.requests:
        raise WireError(f"{where}.devices.requests", 0, f"write 1 to {MOST_REQUESTS} requests")
    asks = {ways[0].request.partition("/")[0]: DeviceAsk(tuple(map(_option, ways))) for ways in found.requests}
    return _constrained(asks, found, f"{where}.devices.constraints")


def _option(wanted: Wanted) -> DeviceOption:
    if wanted.all:
        raise WireError(f"{wanted.where}.allocationMode", "All", "write count: it depends on the node")
    return DeviceOption(tuple(map(_condition, wanted.selectors)), wanted.count, *_amounts(wanted))


def _amounts(wanted: Wanted) -> tuple[int | None, int | None]:
    found: dict[str, int] = {}
    for key, value in wanted.amounts:
        where = f"{wanted.where}.capacity.requests.{key}"
        if key not in {MEMORY, CORES, SLOTS}:
            raise WireError(where, str(value), f"unknown key; use one of {MEMORY}, {CORES}, {SLOTS}")
        if (key == MEMORY and not value) or (key == SLOTS and value != 1):
            raise WireError(where, str(value), "a slice has more than 0 of memory, and one slot")
        unit = MIB if key == MEMORY else 1
        found[key] = -(-value.numerator // (value.denominator * unit))
    return found.get(MEMORY), found.get(CORES)


def _condition(selector: Selector) -> Term:
    try:
        return parse_condition(selector.expression)
    except ValueError as error:
        raise WireError(selector.where, selector.expression, f"{error}; a fleet cannot plan it") from error


def _constrained(asks: dict[str, DeviceAsk], found: ClaimAsk, where: str) -> tuple[DeviceAsk, ...]:
    """The asks; those that must be of different cards are one, of as many cards."""
    for i, constraint in enumerate(found.constraints):
        field = f"{where}[{i}]"
        if constraint.attribute in _ALIKE and not constraint.distinct:
            continue
        if constraint != Constraint(f"{DRIVER}/uuid", True, constraint.requests):
            fix = f"a fleet plans distinctAttribute: {DRIVER}/uuid, and matchAttribute with model, vendor or numa"
            raise WireError(field, constraint.attribute, fix)
        names = {name.partition("/")[0] for name in constraint.requests}
        mine = {name: ask for name, ask in asks.items() if not names or name in names}
        single = {tuple(_with_count(option, 1) for option in ask.options) for ask in mine.values()}
        if len(single) > 1 or any(len(ask.options) > 1 for ask in mine.values()):
            raise WireError(field, list(mine), "a fleet plans different cards only for requests of one size")
        if mine:
            asks = {name: ask for name, ask in asks.items() if name not in mine}
            option = next(iter(single))[0]
            count = sum(ask.options[0].count for ask in mine.values())
            asks["/".join(mine)] = DeviceAsk((_with_count(option, count),))
    return tuple(asks.values())


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
