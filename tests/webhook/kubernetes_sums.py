"""How Kubernetes, and so Kueue, sums a pod: written after component-helpers' `PodRequests`, not after Kerf."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from kerf.values.units import parse_quantity

Sums = dict[str, Fraction]


def pod_requests(spec: Mapping[str, Any], domain: str) -> dict[str, int]:
    """By resource of a domain, what the pod counts for; zeros are left out."""
    apps = _plus(_requests(container) for container in spec.get("containers") or ())
    sidecars: Sums = {}
    initial: Sums = {}
    for container in spec.get("initContainers") or ():
        wants = _requests(container)
        if container.get("restartPolicy") == "Always":
            apps, sidecars = _plus((apps, wants)), _plus((sidecars, wants))
            wants = sidecars
        else:
            wants = _plus((wants, sidecars))
        initial = _most(initial, wants)
    found = _most(apps, initial)
    return {name: int(value) for name, value in sorted(found.items()) if value and name.startswith(f"{domain}/")}


def _requests(container: Mapping[str, Any]) -> Sums:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {name: parse_quantity(value) for name, value in requests.items()}


def _plus(parts: Iterable[Sums]) -> Sums:
    total: Sums = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, Fraction(0)) + value
    return total


def _most(one: Sums, other: Sums) -> Sums:
    return {name: max(one.get(name, Fraction(0)), other.get(name, Fraction(0))) for name in {*one, *other}}
