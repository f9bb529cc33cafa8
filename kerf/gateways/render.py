"""All objects of the gateways that settings name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kerf.gateways.envoy import MOST_TARGETS, render_envoy
from kerf.gateways.knoway import render_knoway
from kerf.gateways.litellm import FILE, MOST_BYTES, render_litellm
from kerf.gateways.objects import Object
from kerf.gateways.plan import plan, pod_ports
from kerf.gateways.pools import render_pools
from kerf.gateways.replicas import Fleet, named_port, replicas, service_ports
from kerf.values.gateways import Gateway, GatewaySettings, Per, Plan
from kerf.values.usage import TokenPrice
from kerf.wire.json import Json


@dataclass(frozen=True, slots=True)
class Rendered:
    """Objects in the order in which they are written, the plan that they follow, and what is missing, in sentences."""

    objects: tuple[Object, ...]
    plan: Plan
    left_out: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()
    """Models without a measured price: LiteLLM counts their tokens as free."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a round has seen of a cluster."""

    pods: Sequence[Json]
    services: Sequence[Json]
    fleet: Fleet
    prices: Sequence[TokenPrice] = ()


def render(seen: Seen, settings: GatewaySettings, *, labelled: bool) -> Rendered:
    """The objects. `labelled`: pods get the labels of InferencePools before these are written."""
    found = replicas(seen.pods, seen.fleet)
    by_replica = plan(found, replace(settings, per=Per.REPLICA))
    chosen = by_replica
    if settings.per is Per.SERVICE:
        chosen = plan(found, settings, service_ports(seen.services), pod_ports(seen.pods, named_port))
    objects: list[Object] = []
    left_out = list(chosen.left_out)
    for gateway in settings.to:
        if gateway is Gateway.KNOWAY:
            objects += render_knoway(chosen, settings)
        elif gateway is Gateway.LITELLM:
            objects += render_litellm(chosen, settings, seen.prices)
            left_out += _too_large(objects[-1])
        elif gateway is Gateway.ENVOY:
            objects += render_envoy(chosen, settings)
            left_out += _too_many(chosen)
        else:
            pools, missing = render_pools(by_replica, settings, None if labelled else seen.pods)
            objects += pools
            left_out += missing
    routed = chosen.routed | (by_replica.routed if Gateway.POOL in settings.to else frozenset())
    priced = {price.model for price in seen.prices}
    served = {target.priced for route in chosen.routes for target in route.targets}
    unpriced = tuple(sorted(served - priced)) if Gateway.LITELLM in settings.to else ()
    return Rendered(tuple(objects), replace(chosen, routed=routed), tuple(dict.fromkeys(left_out)), unpriced)


def _too_large(config: Object) -> list[str]:
    size = len(config["data"][FILE])  # JSON is ASCII
    if size <= MOST_BYTES:
        return []
    return [f"LiteLLM's configuration has {size:,} bytes, of {MOST_BYTES:,} that a ConfigMap holds: use per: service"]


def _too_many(found: Plan) -> list[str]:
    return [
        f"{route.model}: Envoy's rule holds {MOST_TARGETS} of its {len(route.targets)} targets; use per: service"
        for route in found.routes
        if len(route.targets) > MOST_TARGETS
    ]
