"""`kind: SchedulingPolicy` (kerf.dev/v1alpha1): a parsed YAML document to the model's policy."""

from collections.abc import Mapping
from typing import Any

from kerf.model.policy import Defaults, PlannerSettings, Pool, SchedulingPolicy
from kerf.wire.errors import WireError

API_VERSION = "kerf.dev/v1alpha1"
KIND = "SchedulingPolicy"
NODE_POLICIES = ("binpack", "spread", "fragmentation")
CARD_ORDERS = ("binpack", "spread", "numa")
CARD_FILTERS = ("mutex", "topology", "topology-aware")
"""`topology-aware` is HAMi's name for `topology`."""

Json = Mapping[str, Any]


def parse_policy(document: object) -> SchedulingPolicy:
    """Read a policy. An unknown key, a wrong type or an impossible value raises WireError with the fix."""
    top = _object(document, "policy")
    _known(top, "policy", ("apiVersion", "kind", "metadata", "spec"))
    if top.get("apiVersion") != API_VERSION or top.get("kind") != KIND:
        found = f"{top.get('apiVersion')} {top.get('kind')}"
        raise WireError("apiVersion, kind", found, f"write apiVersion: {API_VERSION} and kind: {KIND}")
    spec = _object(top.get("spec") or {}, "spec")
    _known(spec, "spec", ("nodes", "cards", "weights", "defaults", "pools", "planner"))
    zero = SchedulingPolicy()
    pools = spec.get("pools") or []
    if not isinstance(pools, list):
        raise WireError("spec.pools", pools, "write a list of pools")
    return SchedulingPolicy(
        nodes=parse_node_policy(spec.get("nodes", zero.nodes), "spec.nodes"),
        cards=parse_card_policies(spec.get("cards", list(zero.cards)), "spec.cards"),
        weights=_weights(spec["weights"]) if "weights" in spec else zero.weights,
        defaults=_defaults(_object(spec.get("defaults") or {}, "spec.defaults")),
        pools=tuple(_pool(pool, f"spec.pools[{i}]") for i, pool in enumerate(pools)),
        planner=_planner(_object(spec.get("planner") or {}, "spec.planner")),
    )


def parse_node_policy(value: object, where: str) -> str:
    """One of the node policies. Raises WireError."""
    if value not in NODE_POLICIES:
        raise WireError(where, value, f"use one of {', '.join(NODE_POLICIES)}")
    return str(value)


def parse_card_policies(value: object, where: str) -> tuple[str, ...]:
    """An ordered chain of card policies, a list or a comma text. Raises WireError."""
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else value
    known = (*CARD_ORDERS, *CARD_FILTERS)
    if not isinstance(words, list | tuple) or not words or any(word not in known for word in words):
        raise WireError(where, value, f"write a chain of {', '.join(known)}")
    if len(set(words)) != len(words):
        raise WireError(where, value, "name each policy once")
    return tuple("topology" if word == "topology-aware" else str(word) for word in words)


def _weights(value: object) -> tuple[int, int, int]:
    weights = _object(value, "spec.weights")
    _known(weights, "spec.weights", ("slot", "core", "memory"))
    found = tuple(_whole(weights, key, "spec.weights", None, (0, 1000)) for key in ("slot", "core", "memory"))
    if max(found) == 0:
        raise WireError("spec.weights", dict(weights), "give at least one a positive number")
    return found[0], found[1], found[2]


def _defaults(value: Json) -> Defaults:
    where, zero = "spec.defaults", Defaults()
    _known(value, where, ("memoryMiB", "cores", "cards", "wholeCardCores"))
    whole = value.get("wholeCardCores", zero.whole_card_cores)
    if not isinstance(whole, bool):
        raise WireError(f"{where}.wholeCardCores", whole, "write true or false")
    return Defaults(
        memory_mib=_whole(value, "memoryMiB", where, zero.memory_mib, (0, 2**31 - 1)),
        cores=_whole(value, "cores", where, zero.cores, (0, 100)),
        cards=_whole(value, "cards", where, zero.cards, (1, 64)),
        whole_card_cores=whole,
    )


def _pool(value: object, where: str) -> Pool:
    pool = _object(value, where)
    _known(pool, where, ("name", "nodeSelector", "memoryOvercommit", "coresOvercommit"))
    name = pool.get("name")
    if not isinstance(name, str) or not name:
        raise WireError(f"{where}.name", name, "name the pool")
    selector = _object(pool.get("nodeSelector") or {}, f"{where}.nodeSelector")
    return Pool(
        name=name,
        node_selector=tuple(sorted((str(key), str(text)) for key, text in selector.items())),
        memory_overcommit=_real(pool, "memoryOvercommit", where, 1.0, (0.1, 10.0)),
        cores_overcommit=_real(pool, "coresOvercommit", where, 1.0, (0.1, 10.0)),
    )


def _planner(value: Json) -> PlannerSettings:
    where, zero = "spec.planner", PlannerSettings()
    _known(value, where, ("enabled", "contendedPercent", "maxPods", "deterministicLimit", "gangTimeoutSeconds"))
    enabled = value.get("enabled", zero.enabled)
    if not isinstance(enabled, bool):
        raise WireError(f"{where}.enabled", enabled, "write true or false")
    return PlannerSettings(
        enabled=enabled,
        contended_percent=_whole(value, "contendedPercent", where, zero.contended_percent, (0, 100)),
        max_pods=_whole(value, "maxPods", where, zero.max_pods, (1, 10_000)),
        deterministic_limit=_real(value, "deterministicLimit", where, zero.deterministic_limit, (0.01, 60.0)),
        gang_timeout_s=_real(value, "gangTimeoutSeconds", where, zero.gang_timeout_s, (1.0, 86_400.0)),
    )


def _whole(value: Json, key: str, where: str, default: int | None, bounds: tuple[int, int]) -> int:
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, int) or not bounds[0] <= number <= bounds[1]:
        raise WireError(f"{where}.{key}", number, f"write a whole number from {bounds[0]} to {bounds[1]}")
    return number


def _real(value: Json, key: str, where: str, default: float, bounds: tuple[float, float]) -> float:
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not bounds[0] <= number <= bounds[1]:
        raise WireError(f"{where}.{key}", number, f"write a number from {bounds[0]} to {bounds[1]}")
    return float(number)


def _object(value: object, where: str) -> Json:
    if not isinstance(value, Mapping):
        raise WireError(where, value, "write an object")
    return value


def _known(value: Json, where: str, keys: tuple[str, ...]) -> None:
    for key in value:
        if key not in keys:
            raise WireError(f"{where}.{key}", value[key], f"unknown key; use one of {', '.join(keys)}")
