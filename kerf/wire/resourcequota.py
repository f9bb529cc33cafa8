"""Kubernetes ResourceQuota objects with HAMi's keys: `limits.nvidia.com/gpu`, `…/gpumem` and `…/gpucores`.

What cannot be read allows nothing, and a sentence says so.
"""

import re
from collections.abc import Iterable, Mapping

from kerf.values.hard_quota import HardLimit, HardQuota
from kerf.values.quota import Bound
from kerf.values.traits import Scope
from kerf.values.units import MIB, parse_quantity, show
from kerf.values.vendor import ResourceNames
from kerf.wire.json import Json, at, items_at

PATH = "/api/v1/resourcequotas"
_PREFIXES = ("limits.", "requests.")
_BINARY = re.compile(r"[KMGTPE]i$")
_MEANT_AS_BYTES = 2**31
"""MiB of two PiB, more than a namespace ever holds: such a number was written as bytes ("20G")."""
_MOST = 2**53


def parse_hard(items: Iterable[Json], vendors: tuple[ResourceNames, ...]) -> dict[str, HardQuota]:
    """By namespace, what its ResourceQuota objects say of cards.

    Memory is MiB and cores percent, each times the number of cards, summed over pods as HAMi sums them.
    """
    found: dict[str, list[HardLimit]] = {}
    for item in items:
        limit = _limit(item, vendors)
        if limit.bounds or limit.problems:
            found.setdefault(str(at(item, "metadata").get("namespace", "")), []).append(limit)
    return {
        namespace: HardQuota(tuple(sorted(limits, key=lambda limit: limit.name))) for namespace, limits in found.items()
    }


def _limit(item: Json, vendors: tuple[ResourceNames, ...]) -> HardLimit:
    spec = at(item, "spec")
    bounds, problems = [], []
    for names in vendors:
        bound, sentences = _bound(at(spec, "hard"), names)
        problems += sentences
        if bound != Bound():
            bounds.append((names.vendor, bound))
    name = str(at(item, "metadata").get("name", ""))
    return HardLimit(name, tuple(sorted(bounds)), tuple(sorted(_scopes(spec))), tuple(problems))


def _scopes(spec: Json) -> Iterable[Scope]:
    listed = spec.get("scopes")
    for name in listed if isinstance(listed, list) else ():
        yield Scope(str(name))
    for rule in items_at(spec, "scopeSelector", "matchExpressions"):
        values = rule.get("values")
        words = tuple(sorted(str(value) for value in values)) if isinstance(values, list) else ()
        yield Scope(str(rule.get("scopeName", "")), str(rule.get("operator", "")), words)


def _bound(hard: Json, names: ResourceNames) -> tuple[Bound, list[str]]:
    """What an object says of one vendor's cards, and what of it is not as it is written."""
    problems: list[str] = []

    def least(resource: str, *, memory: bool = False) -> int | None:
        keys = [key for key in (f"{prefix}{resource}" for prefix in _PREFIXES) if key in hard]
        return min((_amount(hard, key, problems, memory=memory) for key in keys), default=None)

    memory, cores, cards = least(names.memory, memory=True), least(names.cores), least(names.count)
    for key in (f"{prefix}{names.memory_percent}" for prefix in _PREFIXES):
        if key in hard:
            memory = 0
            fix = f"write limits.{names.memory} in MiB"
            problems.append(f"spec.hard[{key}] is a part of cards of no known size, so it allows nothing: {fix}")
    return Bound(memory, cores, cards), problems


def _amount(hard: Mapping[str, object], key: str, problems: list[str], *, memory: bool) -> int:
    written = hard[key]
    unit = "MiB" if memory else "whole numbers"
    try:
        value = parse_quantity(written)
    except ValueError as error:
        problems.append(f"spec.hard[{key}] cannot be read ({error}), so it allows nothing: write {unit}")
        return 0
    if value < 0:
        problems.append(f"spec.hard[{key}] is below zero, so it allows nothing: write {unit}")
        return 0
    if memory and (_BINARY.search(str(written).strip()) or value >= _MEANT_AS_BYTES):
        value /= MIB
    counted = min(int(value), _MOST)
    if counted != value:
        problems.append(f"spec.hard[{key}] of {str(written)[:32]} is counted as {show(counted)}: write {unit}")
    return counted
