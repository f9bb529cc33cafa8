"""Devices as the allocator sees them, read from ResourceSlices, and what claims have taken of them. Pure values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from kerf.values.selector import DeviceFacts
from kerf.values.units import parse_quantity
from kerf.wire.devices import DRIVER
from kerf.wire.json import Json, at, items_at, text_at

Amounts = Mapping[str, Fraction]
BLOCKING = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a device has of one amount, and how an ask for it is rounded."""

    value: Fraction
    default: Fraction | None = None
    least: Fraction | None = None
    step: Fraction | None = None
    most: Fraction | None = None
    choices: tuple[Fraction, ...] = ()

    def taken_by(self, asked: Fraction | None) -> Fraction | None:
        """What an ask books; None where the device cannot give it. Without a policy that is what is asked, else all."""
        if asked is None:
            return self.value if self.default is None else self.default
        if self.choices:
            return next((choice for choice in self.choices if choice >= asked), None)
        if self.least is None:
            return asked
        if asked <= self.least:
            return self.least
        least, asked = _up(self.least), Fraction(_up(asked))
        if self.step is not None:
            step = max(_up(self.step), 1)
            asked = least + Fraction(-((least - asked) // step)) * step
        return None if self.most is not None and asked > self.most else asked


@dataclass(frozen=True)
class Device:
    """One device of a pool. One that is `shared` gives parts of its capacities to many claims."""

    pool: str
    name: str
    shared: bool
    attributes: Mapping[str, Any]
    capacities: Mapping[str, Capacity]
    counters: tuple[tuple[str, str, Fraction], ...]
    """(counter set, counter, amount)."""
    taints: tuple[Json, ...] = field(default=())

    @cached_property
    def facts(self) -> DeviceFacts:
        """What a selector reads."""
        return DeviceFacts(DRIVER, self.attributes, {k: each.value for k, each in self.capacities.items()}, self.shared)


@dataclass(frozen=True, slots=True)
class Pool:
    """What one node offers: its devices in the order of the list, and its counters by (set, counter)."""

    node: str
    devices: tuple[Device, ...] = ()
    counters: Mapping[tuple[str, str], Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Books:
    """What is taken of a pool: whole devices, amounts of shared ones, and counters."""

    whole: frozenset[str] = frozenset()
    amounts: Mapping[str, Amounts] = field(default_factory=dict)
    counters: Mapping[tuple[str, str], Fraction] = field(default_factory=dict)

    def with_one(self, device: Device, taken: Amounts) -> "Books":
        """Beside that, one more claim of a device. A shared device's counters are charged once."""
        counters = dict(self.counters)
        if device.name not in self.amounts:
            for set_, counter, amount in device.counters:
                counters[set_, counter] = counters.get((set_, counter), Fraction()) + amount
        if not device.shared:
            return Books(self.whole | {device.name}, self.amounts, counters)
        before = self.amounts.get(device.name, {})
        sums = {name: before.get(name, Fraction()) + amount for name, amount in taken.items()}
        return Books(self.whole, {**self.amounts, device.name: sums}, counters)

    def room_for(self, device: Device, taken: Amounts, pool: Pool) -> bool:
        """Whether the device has that much left, and its counters too."""
        return self.counters_for(device, pool) and self.amounts_for(device, taken)

    def counters_for(self, device: Device, pool: Pool) -> bool:
        """Whether the device is not in use as a whole, and its counters suffice. A shared one has taken them once."""
        if device.name in self.whole:
            return False
        return device.name in self.amounts or all(
            self.counters.get((set_, counter), Fraction()) + amount <= pool.counters.get((set_, counter), Fraction())
            for set_, counter, amount in device.counters
        )

    def amounts_for(self, device: Device, taken: Amounts) -> bool:
        """Whether a shared device has that much left."""
        held = self.amounts.get(device.name, {})
        return not device.shared or all(
            held.get(name, Fraction()) + amount <= device.capacities[name].value for name, amount in taken.items()
        )


def pool_of(node: str, slices: Iterable[Json]) -> Pool:
    """A node's pool from its ResourceSlices, as Kerf writes them, in their order."""
    listed = list(slices)
    counters = {
        (text_at(one, "name"), counter): _amount(at(one, "counters", counter).get("value"))
        for slice_ in listed
        for one in items_at(slice_, "spec", "sharedCounters")
        for counter in at(one, "counters")
    }
    devices = (_device(node, item) for slice_ in listed for item in items_at(slice_, "spec", "devices"))
    return Pool(node, tuple(devices), counters)


def books_of(pool: Pool, claims: Iterable[Json]) -> Books:
    """What allocated claims hold of a pool."""
    books, devices = Books(), {device.name: device for device in pool.devices}
    for claim in claims:
        for result in items_at(claim, "status", "allocation", "devices", "results"):
            device = devices.get(text_at(result, "device"))
            mine = (text_at(result, "driver"), text_at(result, "pool")) == (DRIVER, pool.node)
            if device is not None and mine and result.get("adminAccess") is not True:
                held = at(result, "consumedCapacity")
                books = books.with_one(device, {name: _amount(value) for name, value in held.items()})
    return books


def _device(pool: str, item: Json) -> Device:
    consumed = (
        (text_at(each, "counterSet"), counter, _amount(at(each, "counters", counter).get("value")))
        for each in items_at(item, "consumesCounters")
        for counter in at(each, "counters")
    )
    return Device(
        pool=pool,
        name=text_at(item, "name"),
        shared=item.get("allowMultipleAllocations") is True,
        attributes={name: next(iter(at(item, "attributes", name).values()), None) for name in at(item, "attributes")},
        capacities={name: _capacity(at(item, "capacity", name)) for name in at(item, "capacity")},
        counters=tuple(consumed),
        taints=tuple(taint for taint in items_at(item, "taints") if taint.get("effect") in BLOCKING),
    )


def _capacity(item: Json) -> Capacity:
    policy = at(item, "requestPolicy")
    span = at(policy, "validRange")
    values = policy.get("validValues")
    return Capacity(
        value=_amount(item.get("value")),
        default=_maybe(policy, "default"),
        least=_maybe(span, "min"),
        step=_maybe(span, "step"),
        most=_maybe(span, "max"),
        choices=tuple(map(_amount, values)) if isinstance(values, list) else (),
    )


def _maybe(part: Json, key: str) -> Fraction | None:
    return _amount(part[key]) if key in part else None


def _amount(value: object) -> Fraction:
    return parse_quantity(value)


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
