"""knoway: an LLMBackend for each target, a ModelRoute for each model.

As its source has it: names of backends' models and of routes are unique in the whole cluster; weights are all set or
none; times are whole seconds. A target of weight 0 would break its choice (it divides by the weight, and takes the
only target whatever its weight), so a drained replica has none. It limits requests, not tokens.
"""

from kerf.gateways.objects import BACKEND, ROUTE, Object, made
from kerf.values.gateways import Gateway, GatewaySettings, Plan, Route, Target

_MINUTE = 60


def render_knoway(plan: Plan, settings: GatewaySettings) -> tuple[Object, ...]:
    """Backends first."""
    routes = [route for route in plan.routes if route.targets]
    backends = [_backend(target, settings) for route in routes for target in route.targets]
    return (*backends, *(_route(route, settings) for route in routes))


def _backend(target: Target, settings: GatewaySettings) -> Object:
    upstream = {
        "baseUrl": f"http://{target.host}:{target.port}/v1",
        "overrideParams": {"openai": {"model": target.served}},
        "timeout": settings.timeout_s,
    }
    spec = {"modelName": target.name, "provider": "vLLM", "upstream": upstream}
    return made(BACKEND, Gateway.KNOWAY, (settings.namespace, target.name), target.about, spec=spec)


def _route(route: Route, settings: GatewaySettings) -> Object:
    targets = [
        {"destination": {"namespace": settings.namespace, "backend": target.name, "weight": target.weight}}
        for target in route.targets
    ]
    spec: Object = {
        "modelName": route.model,
        "route": {"loadBalancePolicy": "WeightedRoundRobin", "targets": targets},
    }
    if settings.retries:
        spec["fallback"] = {"maxRetries": settings.retries}
    if settings.requests_per_minute:
        rule = {"basedOn": "UserID", "limit": settings.requests_per_minute, "duration": _MINUTE}
        spec["filters"] = [{"name": "kerf", "type": "RateLimit", "rateLimit": {"rules": [rule]}}]
    return made(ROUTE, Gateway.KNOWAY, (settings.namespace, route.name), route.model, spec=spec)
