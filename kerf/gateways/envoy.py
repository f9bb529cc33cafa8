"""Envoy AI Gateway: a Backend and an AIServiceBackend for each target, an AIGatewayRoute for each model.

A route of its own for each model, because one holds at most 15 rules. A BackendTrafficPolicy for each switches on what
Envoy Gateway has: retries, passive health checks (which break the circuit to a failing replica), limits by tokens.
"""

from ipaddress import ip_address

from kerf.gateways.objects import AI_BACKEND, AI_ROUTE, ENVOY_BACKEND, ENVOY_POLICY, Object, made
from kerf.values.gateways import Gateway, GatewaySettings, Plan, Route, Target

MODEL_HEADER = "x-ai-eg-model"
METADATA = "io.envoy.ai_gateway"
TOTAL = "kerf_total_token"
MOST_TARGETS = 128
"""Backends of one rule."""
_GATEWAYS = "gateway.networking.k8s.io"


def render_envoy(plan: Plan, settings: GatewaySettings) -> tuple[Object, ...]:
    """Backends first."""
    routes = [route for route in plan.routes if route.targets]
    targets = [target for route in routes for target in route.targets[:MOST_TARGETS]]
    found = [_backend(target, settings) for target in targets]
    found += [_service(target, settings) for target in targets]
    found += [_route(route, settings) for route in routes]
    return (*found, *(_policy(route, settings) for route in routes))


def _backend(target: Target, settings: GatewaySettings) -> Object:
    if target.selector:
        endpoint: Object = {"ip": {"address": _in_full(target.host.strip("[]")), "port": target.port}}
    else:
        endpoint = {"fqdn": {"hostname": f"{target.host}.cluster.local", "port": target.port}}
    where = (settings.namespace, target.name)
    return made(ENVOY_BACKEND, Gateway.ENVOY, where, target.about, spec={"endpoints": [endpoint]})


def _in_full(address: str) -> str:
    """An address of IPv6 with all its groups: Envoy Gateway's schema takes at most two of them behind `::`."""
    try:
        return ip_address(address).exploded
    except ValueError:
        return address


def _service(target: Target, settings: GatewaySettings) -> Object:
    reference = {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": target.name}
    spec = {"schema": {"name": "OpenAI"}, "backendRef": reference}
    return made(AI_BACKEND, Gateway.ENVOY, (settings.namespace, target.name), target.about, spec=spec)


def _route(route: Route, settings: GatewaySettings) -> Object:
    namespace, _, name = settings.gateway.rpartition("/")
    parent: Object = {"group": _GATEWAYS, "kind": "Gateway", "name": name}
    if namespace:
        parent["namespace"] = namespace
    backends = [
        {"name": target.name, "weight": target.weight, "modelNameOverride": target.served}
        for target in route.targets[:MOST_TARGETS]
    ]
    match = {"headers": [{"type": "Exact", "name": MODEL_HEADER, "value": route.model}]}
    rule = {"matches": [match], "backendRefs": backends, "timeouts": {"request": f"{settings.timeout_s}s"}}
    spec: Object = {"parentRefs": [parent], "rules": [rule]}
    if settings.tokens_per_minute:
        spec["llmRequestCosts"] = [{"metadataKey": TOTAL, "type": "TotalToken"}]
    return made(AI_ROUTE, Gateway.ENVOY, (settings.namespace, route.name), route.model, spec=spec)


def _policy(route: Route, settings: GatewaySettings) -> Object:
    """For the HTTPRoute that the gateway's controller makes of the route, under the same name."""
    spec: Object = {
        "targetRefs": [{"group": _GATEWAYS, "kind": "HTTPRoute", "name": route.name}],
        "healthCheck": {
            "passive": {
                "consecutive5XxErrors": settings.allowed_fails + 1,
                "baseEjectionTime": f"{settings.cooldown_s}s",
                "maxEjectionPercent": 100,
            }
        },
    }
    if settings.retries:
        spec["retry"] = {
            "numRetries": settings.retries,
            "retryOn": {"triggers": ["connect-failure", "retriable-status-codes"], "httpStatusCodes": [429, 503]},
        }
    rules = [
        _limit(settings, amount, key)
        for amount, key in ((settings.tokens_per_minute, TOTAL), (settings.requests_per_minute, ""))
        if amount
    ]
    if rules:
        spec["rateLimit"] = {"type": "Global", "global": {"rules": rules}}
    return made(ENVOY_POLICY, Gateway.ENVOY, (settings.namespace, route.name), route.model, spec=spec)


def _limit(settings: GatewaySettings, amount: int, metadata: str) -> Object:
    """A limit for each user. Tokens are charged once they are known, after the response."""
    rule: Object = {
        "clientSelectors": [{"headers": [{"name": settings.limit_header, "type": "Distinct"}]}],
        "limit": {"requests": amount, "unit": "Minute"},
    }
    if metadata:
        rule["cost"] = {
            "request": {"from": "Number", "number": 0},
            "response": {"from": "Metadata", "metadata": {"namespace": METADATA, "key": metadata}},
        }
    return rule
