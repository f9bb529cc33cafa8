"""What a pod requests of a node, and what a node has, resource by resource, as kube-scheduler counts them. Pure.

CPU is in thousandths of a core, all else in whole units (bytes, pieces), rounded up. `pods` counts the pod itself. A
pod on a node is counted as it runs: while it is resized, by the larger of what is wanted and what is in effect.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from kerf.values.units import milli, parse_quantity
from kerf.wire.json import Json, at, items_at

Amounts = Mapping[str, int]
PODS = "pods"
UNREADABLE: Amounts = {PODS: 2**40}
"""Fills a node: what cannot be counted leaves no room beside it."""
_POD_LEVEL = ("cpu", "memory")
_HUGE = "hugepages-"
MOST = 2**50
"""Larger amounts are cut, also a pod's sums, so that the pods of a node stay within 64 bits: no node has a petabyte."""


def requests_of(pod: Json) -> Amounts:
    """What a pod takes of a node, its overhead and itself included."""
    try:
        return {**{name: min(amount, MOST) for name, amount in _requests(pod).items()}, PODS: 1}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return UNREADABLE


def allocatable_of(node: Json) -> Amounts:
    """What a node has for pods. Nothing is there of what cannot be read."""
    found: dict[str, int] = {}
    for name, quantity in at(node, "status", "allocatable").items():
        try:
            found[name] = _amount(name, str(quantity), down=True)
        except ValueError:
            found[name] = 0
    return found


def _requests(pod: Json) -> dict[str, int]:
    spec, status = at(pod, "spec"), at(pod, "status")
    infeasible = _resize_is_infeasible(status)
    running = {str(each.get("name")): each for each in _statuses(status)}
    total: dict[str, int] = {}
    for container in items_at(spec, "containers"):
        _add(total, _in_effect(container, running, infeasible=infeasible))
    _peak(total, _start(items_at(spec, "initContainers"), running, total, infeasible=infeasible))
    for claim in items_at(status, "nodeAllocatableResourceClaimStatuses"):
        _add(total, _amounts(at(claim, "resources")))
    total.update(_pod_level(spec, status, infeasible=infeasible))
    _add(total, _amounts(at(spec, "overhead")))
    return total


def _start(
    containers: Iterable[Json], running: Mapping[str, Json], total: dict[str, int], *, infeasible: bool
) -> dict[str, int]:
    """The largest need while the init containers run; those that keep running are added to the total."""
    beside: dict[str, int] = {}
    most: dict[str, int] = {}
    for container in containers:
        if container.get("restartPolicy") == "Always":
            amounts = _in_effect(container, running, infeasible=infeasible)
            _add(total, amounts)
            _add(beside, amounts)
            _peak(most, beside)
        else:
            moment = dict(beside)
            _add(moment, _amounts(at(container, "resources", "requests")))
            _peak(most, moment)
    return most


def _in_effect(container: Json, running: Mapping[str, Json], *, infeasible: bool) -> dict[str, int]:
    wanted = _amounts(at(container, "resources", "requests"))
    status = running.get(str(container.get("name")))
    if status is None or not isinstance(status.get("resources"), Mapping):
        return wanted
    found = {} if infeasible else dict(wanted)
    _peak(found, _amounts(at(status, "resources", "requests")))
    _peak(found, _amounts(at(status, "allocatedResources")))
    return found


def _pod_level(spec: Json, status: Json, *, infeasible: bool) -> dict[str, int]:
    wanted = {
        name: amount
        for name, amount in _amounts(at(spec, "resources", "requests")).items()
        if name in _POD_LEVEL or name.startswith(_HUGE)
    }
    if not isinstance(status.get("resources"), Mapping):
        return wanted
    found = {} if infeasible else dict(wanted)
    _peak(found, _amounts(at(status, "resources", "requests")))
    _peak(found, _amounts(at(status, "allocatedResources")))
    return {name: found.get(name, 0) for name in wanted}


def _resize_is_infeasible(status: Json) -> bool:
    pending = (each for each in items_at(status, "conditions") if each.get("type") == "PodResizePending")
    return any(each.get("reason") == "Infeasible" for each in pending)


def _statuses(status: Json) -> Iterable[Json]:
    return (*items_at(status, "containerStatuses"), *items_at(status, "initContainerStatuses"))


def _amounts(resources: Json) -> dict[str, int]:
    return {name: _amount(name, str(quantity)) for name, quantity in resources.items()}


@lru_cache(maxsize=4096)
def _amount(name: str, quantity: str, *, down: bool = False) -> int:
    if name == "cpu" and not down:
        whole = milli(quantity)
    else:
        value = parse_quantity(quantity) * (1000 if name == "cpu" else 1)
        whole = value.numerator // value.denominator if down else -(-value.numerator // value.denominator)
    return min(max(whole, 0), MOST)


def _add(total: dict[str, int], more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _peak(total: dict[str, int], other: Amounts) -> None:
    for name, amount in other.items():
        total[name] = max(total.get(name, 0), amount)
