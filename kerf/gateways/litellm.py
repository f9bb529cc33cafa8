"""LiteLLM: its configuration as a ConfigMap, with the measured price of each model.

As its router does: the first of weight, rpm and tpm that any deployment of a group has is the weight of all, and a
deployment without it gets nothing, so every deployment has a weight and none has rpm or tpm. All weights zero is even
traffic, so a drained replica is left out. With only one of the two prices the other side is free, so both are written.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kerf.gateways.objects import CONFIG_MAP, Object, made
from kerf.values.gateways import Gateway, GatewaySettings, Plan, Route, Target
from kerf.values.usage import TokenPrice
from kerf.wire.usage import plain

NAME = "kerf-litellm"
FILE = "config.yaml"
MOST_BYTES = 1 << 20
"""Of a ConfigMap; the API server refuses a larger one."""


def litellm_config(plan: Plan, settings: GatewaySettings, prices: Sequence[TokenPrice]) -> Object:
    """LiteLLM's configuration."""
    by_model = {price.model: price for price in prices}
    models = [
        _deployment(route, target, settings, by_model.get(target.priced))
        for route in plan.routes
        for target in route.targets
    ]
    router: Object = {
        "routing_strategy": "simple-shuffle",
        "num_retries": settings.retries,
        "allowed_fails": settings.allowed_fails,
        "cooldown_time": settings.cooldown_s,
        "timeout": settings.timeout_s,
    }
    found: Object = {"model_list": models, "router_settings": router}
    if settings.telemetry:
        found["litellm_settings"] = {"callbacks": ["otel"]}
    return _merged(found, json.loads(settings.litellm)) if settings.litellm else found


def render_litellm(plan: Plan, settings: GatewaySettings, prices: Sequence[TokenPrice]) -> tuple[Object, ...]:
    """The ConfigMap. JSON is YAML, and the same configuration is always the same text."""
    config = litellm_config(plan, settings, prices)
    text = json.dumps(config, indent=2) + "\n"
    if len(text) > MOST_BYTES // 2:
        text = json.dumps(config, separators=(",", ":")) + "\n"
    where = (settings.namespace, NAME)
    return (made(CONFIG_MAP, Gateway.LITELLM, where, "LiteLLM's configuration", data={FILE: text}),)


def price_params(price: TokenPrice) -> dict[str, str]:
    """A model's prices for one token, as LiteLLM's parameters."""
    return {
        "input_cost_per_token": _per_token(price.input),
        "cache_read_input_token_cost": _per_token(price.cached),
        "output_cost_per_token": _per_token(price.output),
    }


def _deployment(route: Route, target: Target, settings: GatewaySettings, price: TokenPrice | None) -> Object:
    params: Object = {
        "model": f"hosted_vllm/{target.served}",
        "api_base": f"http://{target.host}:{target.port}/v1",
        "weight": target.weight,
        "timeout": settings.timeout_s,
    }
    params |= price_params(price or TokenPrice(target.priced, Decimal(0), Decimal(0), Decimal(0)))
    return {"model_name": route.model, "litellm_params": params, "model_info": {"id": target.name}}


def _per_token(price: Decimal) -> str:
    return plain(price / 10**6)


def _merged(ours: Mapping[str, Any], more: Mapping[str, Any]) -> Object:
    """Sections side by side; of one that both have, the keys and the deployments side by side. What is Kerf's stays."""
    found = dict(ours)
    for section, value in more.items():
        before = found.get(section)
        if isinstance(before, list) and isinstance(value, list):
            found[section] = [*before, *value]
        elif isinstance(before, dict) and isinstance(value, dict):
            found[section] = _merged(before, value)
        elif before is None:
            found[section] = value
    return found
