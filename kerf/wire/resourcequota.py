"""Kubernetes ResourceQuota objects with HAMi's keys: `limits.nvidia.com/gpumem`, `limits.nvidia.com/gpucores`."""

from collections.abc import Iterable
from dataclasses import dataclass

from kerf.values.quota import Bound
from kerf.values.units import parse_whole
from kerf.values.vendor import ResourceNames
from kerf.wire.json import Json, at

PATH = "/api/v1/resourcequotas"
_PREFIXES = ("limits.", "requests.")


@dataclass(frozen=True, slots=True)
class HardQuota:
    """What one namespace may hold by vendor: the minimum over all its ResourceQuota objects."""

    name: str
    """The objects that limit it, for people."""
    bounds: tuple[tuple[str, Bound], ...]


def parse_hard(items: Iterable[Json], vendors: tuple[ResourceNames, ...]) -> dict[str, HardQuota]:
    """By namespace, what its ResourceQuota objects say of cards. An amount that cannot be read limits nothing.

    Memory is MiB and cores percent, each times the number of cards, summed over pods as HAMi sums them.
    """
    found: dict[str, HardQuota] = {}
    for item in items:
        meta, hard = at(item, "metadata"), at(item, "spec", "hard")
        bounds = [(names.vendor, bound) for names in vendors if (bound := _bound(hard, names)) != Bound()]
        if not bounds:
            continue
        namespace, name = str(meta.get("namespace", "")), str(meta.get("name", ""))
        known = found.get(namespace)
        found[namespace] = _tighter(known, HardQuota(name, tuple(bounds))) if known else HardQuota(name, tuple(bounds))
    return found


def _bound(hard: Json, names: ResourceNames) -> Bound:
    return Bound(_least(hard, names.memory), _least(hard, names.cores), None)


def _least(hard: Json, resource: str) -> int | None:
    amounts = []
    for key in (f"{prefix}{resource}" for prefix in _PREFIXES):
        try:
            amounts.append(parse_whole(hard[key], most=2**53))
        except (KeyError, ValueError):
            continue
    return min(amounts, default=None)


def _tighter(one: HardQuota, other: HardQuota) -> HardQuota:
    vendors = dict(one.bounds)
    for vendor, bound in other.bounds:
        known = vendors.get(vendor, Bound())
        vendors[vendor] = Bound(
            _lower(known.memory_mib, bound.memory_mib),
            _lower(known.cores, bound.cores),
            _lower(known.cards, bound.cards),
        )
    return HardQuota(f"{one.name}, {other.name}", tuple(sorted(vendors.items())))


def _lower(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
