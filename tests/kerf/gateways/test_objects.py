"""The objects of each gateway, whole."""

import json
import re
from ipaddress import ip_address
from typing import Any

import pytest

from kerf.gateways.litellm import FILE
from kerf.testing.builders import a_node_value
from kerf.values.gateways import Gateway, Per
from tests.kerf.gateways.serving import a_replica, rendered, settings_for

LABELS = {"app.kubernetes.io/managed-by": "kerf"}
IN_ENVOYS_CRD = re.compile(
    r"((25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\.){3}(25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
    r"|(([0-9a-fA-F]{1,4}:){1,7}[0-9a-fA-F]{1,4}|::|(([0-9a-fA-F]{1,4}:){0,5})?(:[0-9a-fA-F]{1,4}){1,2})"
)
"""An address in a Backend of Envoy Gateway v1.9.1."""


def specs(*gateways: Gateway, pods: list[dict[str, Any]] | None = None, **changes: Any) -> list[tuple[str, Any]]:
    """Kind and spec of every object for two replicas, one of 500 and one of 250."""
    two = [a_replica("one"), a_replica("two", 1, memory_mib=20_390)]
    found = rendered(settings_for(*gateways, **changes), *(pods or two))
    return [(item["kind"], item["spec"]) for item in found.objects]


def test_knoway_gets_a_backend_a_replica_and_a_route_a_model():
    backends = ["kerf-qwen3-8b-team-a-one-79bcde23", "kerf-qwen3-8b-team-a-two-"]
    found = specs(Gateway.KNOWAY, requests_per_minute=60)
    names = [spec["modelName"] for kind, spec in found if kind == "LLMBackend"]

    assert found == [
        ("LLMBackend", {
            "modelName": names[0],
            "provider": "vLLM",
            "upstream": {
                "baseUrl": "http://10.0.0.1:8000/v1",
                "overrideParams": {"openai": {"model": "qwen3-8b"}},
                "timeout": 600,
            },
        }),
        ("LLMBackend", {
            "modelName": names[1],
            "provider": "vLLM",
            "upstream": {
                "baseUrl": "http://10.0.0.2:8000/v1",
                "overrideParams": {"openai": {"model": "qwen3-8b"}},
                "timeout": 600,
            },
        }),
        ("ModelRoute", {
            "modelName": "qwen3-8b",
            "route": {
                "loadBalancePolicy": "WeightedRoundRobin",
                "targets": [
                    {"destination": {"namespace": "serving", "backend": names[0], "weight": 500}},
                    {"destination": {"namespace": "serving", "backend": names[1], "weight": 250}},
                ],
            },
            "fallback": {"maxRetries": 2},
            "filters": [{
                "name": "kerf",
                "type": "RateLimit",
                "rateLimit": {"rules": [{"basedOn": "UserID", "limit": 60, "duration": 60}]},
            }],
        }),
    ]  # fmt: skip
    assert [name[: len("kerf-qwen3-8b-team-a-one-")] for name in names] == [text[:25] for text in backends]


def test_litellm_gets_both_prices_and_a_weight_on_every_deployment():
    found = rendered(settings_for(Gateway.LITELLM), a_replica("one"), a_replica("two", 1, memory_mib=20_390))
    (item,) = found.objects
    config = json.loads(item["data"][FILE])
    prices = {
        "input_cost_per_token": "0.00000025",
        "cache_read_input_token_cost": "0.00000005",
        "output_cost_per_token": "0.0000012",
    }

    assert [(d["model_name"], d["litellm_params"]) for d in config["model_list"]] == [
        ("qwen3-8b", {"model": "hosted_vllm/qwen3-8b", "api_base": f"http://10.0.0.{i}:8000/v1", "weight": weight,
                      "timeout": 600, **prices})
        for i, weight in ((1, 500), (2, 250))
    ]  # fmt: skip
    assert config["router_settings"] == {
        "routing_strategy": "simple-shuffle", "num_retries": 2, "allowed_fails": 3, "cooldown_time": 30, "timeout": 600,
    }  # fmt: skip
    assert found.unpriced == ()


def test_an_alias_costs_what_the_engine_counts_under_its_first_name():
    pod = a_replica("one", args=["--served-model-name", "qwen3-8b", "chat"])

    config = json.loads(rendered(settings_for(Gateway.LITELLM), pod).objects[0]["data"][FILE])

    assert [d["litellm_params"]["output_cost_per_token"] for d in config["model_list"]] == ["0.0000012"] * 2


def test_a_model_without_a_measured_price_is_named():
    pod = a_replica("one", args=["--model", "new"])

    found = rendered(settings_for(Gateway.LITELLM), pod)

    params = json.loads(found.objects[0]["data"][FILE])["model_list"][0]["litellm_params"]
    assert (found.unpriced, params["input_cost_per_token"], params["output_cost_per_token"]) == (("new",), "0", "0")


def test_what_people_add_to_litellm_is_beside_what_kerf_writes():
    more = {
        "litellm_settings": {"cache": True, "cache_params": {"type": "redis-semantic"}},
        "router_settings": {"num_retries": 9, "fallbacks": []},
        "model_list": [{"model_name": "other"}],
    }

    found = rendered(settings_for(Gateway.LITELLM, telemetry=True, litellm=json.dumps(more)), a_replica("one"))

    config = json.loads(found.objects[0]["data"][FILE])
    assert config["litellm_settings"] == {
        "callbacks": ["otel"], "cache": True, "cache_params": {"type": "redis-semantic"},
    }  # fmt: skip
    assert (config["router_settings"]["num_retries"], config["router_settings"]["fallbacks"]) == (2, [])
    assert [each["model_name"] for each in config["model_list"]] == ["qwen3-8b", "other"]


def test_envoy_gets_backends_a_route_and_what_it_can_switch_on():
    found = specs(
        Gateway.ENVOY, gateway="edge/models", pods=[a_replica("one", address="fd00::1")], tokens_per_minute=900
    )
    name = found[1][1]["backendRef"]["name"]
    route = found[3][1]["targetRefs"][0]["name"]

    assert found == [
        ("Backend", {"endpoints": [{"ip": {"address": "fd00:0000:0000:0000:0000:0000:0000:0001", "port": 8000}}]}),
        ("AIServiceBackend", {
            "schema": {"name": "OpenAI"},
            "backendRef": {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name},
        }),
        ("AIGatewayRoute", {
            "parentRefs": [
                {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "models", "namespace": "edge"}
            ],
            "rules": [{
                "matches": [{"headers": [{"type": "Exact", "name": "x-ai-eg-model", "value": "qwen3-8b"}]}],
                "backendRefs": [{"name": name, "weight": 500, "modelNameOverride": "qwen3-8b"}],
                "timeouts": {"request": "600s"},
            }],
            "llmRequestCosts": [{"metadataKey": "kerf_total_token", "type": "TotalToken"}],
        }),
        ("BackendTrafficPolicy", {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route}],
            "healthCheck": {
                "passive": {"consecutive5XxErrors": 4, "baseEjectionTime": "30s", "maxEjectionPercent": 100}
            },
            "retry": {
                "numRetries": 2,
                "retryOn": {
                    "triggers": ["connect-failure", "retriable-status-codes"], "httpStatusCodes": [429, 503],
                },
            },
            "rateLimit": {"type": "Global", "global": {"rules": [{
                "clientSelectors": [{"headers": [{"name": "x-user-id", "type": "Distinct"}]}],
                "limit": {"requests": 900, "unit": "Minute"},
                "cost": {
                    "request": {"from": "Number", "number": 0},
                    "response": {
                        "from": "Metadata",
                        "metadata": {"namespace": "io.envoy.ai_gateway", "key": "kerf_total_token"},
                    },
                },
            }]}},
        }),
    ]  # fmt: skip


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1", "2600:1f13::c1a5:0:0:2", "::1"])
def test_envoys_schema_takes_every_address_of_a_pod(address: str):
    found = rendered(settings_for(Gateway.ENVOY), a_replica("one", address=address))

    written = found.objects[0]["spec"]["endpoints"][0]["ip"]["address"]
    assert IN_ENVOYS_CRD.fullmatch(written)
    assert ip_address(written) == ip_address(address)


def test_envoy_reaches_a_service_by_its_name():
    spec = {"selector": {"app": "chat"}, "ports": [{"port": 80, "targetPort": 8000}]}
    service = {"metadata": {"name": "chat", "namespace": "team-a"}, "spec": spec}

    found = rendered(settings_for(Gateway.ENVOY, per=Per.SERVICE), a_replica("one"), services=[service])

    assert found.objects[0]["spec"]["endpoints"] == [
        {"fqdn": {"hostname": "chat.team-a.svc.cluster.local", "port": 80}}
    ]


def test_a_large_configuration_of_litellm_has_no_blanks_and_one_that_no_config_map_holds_is_named():
    def made(names: int) -> tuple[int, tuple[str, ...]]:
        args = ["--model", "m", "--served-model-name", *(f"{i:04}-{'n' * 240}" for i in range(names))]
        found = rendered(settings_for(Gateway.LITELLM), a_replica("one", args=args))
        text = found.objects[0]["data"]["config.yaml"]
        assert len(json.loads(text)["model_list"]) == names
        return len(text), found.left_out

    (few, _), (many, none), (most, named) = made(400), made(800), made(1600)

    assert (many < 2 * few, none) == (True, ())
    assert named == (
        f"LiteLLM's configuration has {most:,} bytes, of 1,048,576 that a ConfigMap holds: use per: service",
    )


def test_more_targets_than_a_rule_of_envoy_holds_are_named():
    pods = [a_replica(f"p{i}", 0, address=f"10.0.1.{i}") for i in range(130)]

    found = rendered(settings_for(Gateway.ENVOY), *pods)

    route = next(item for item in found.objects if item["kind"] == "AIGatewayRoute")
    assert len(route["spec"]["rules"][0]["backendRefs"]) == 128
    assert found.left_out == ("qwen3-8b: Envoy's rule holds 128 of its 130 targets; use per: service",)


def test_a_pool_selects_what_its_replicas_have_in_common():
    labels = {"app": "chat", "pod-template-hash": "1"}

    found = rendered(settings_for(Gateway.POOL), a_replica("one", labels=labels), a_replica("two", 1))

    (pool,) = found.objects
    assert (pool["metadata"]["namespace"], pool["spec"]) == ("team-a", {
        "selector": {"matchLabels": {"app": "chat"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    })  # fmt: skip


def test_a_pool_is_left_out_where_labels_would_select_another_model():
    other = a_replica("other", 1, args=["--model", "other"])

    found = rendered(settings_for(Gateway.POOL), a_replica("one"), other)

    why = "no InferencePool in team-a: its replicas have no labels in common that other pods lack"
    assert (found.objects, found.left_out) == ((), (f"other: {why}", f"qwen3-8b: {why}"))


def test_a_pool_is_left_out_where_labels_would_select_a_pod_that_serves_nothing_and_not_for_other_namespaces():
    web = a_replica("web", 1, image="nginx", args=[])
    elsewhere = a_replica("theirs", namespace="team-b", args=["--model", "other"])

    def pools(*pods: dict[str, Any]) -> list[str]:
        found = rendered(settings_for(Gateway.POOL, namespaces=()), a_replica("mine"), *pods)
        return [pool["metadata"]["namespace"] for pool in found.objects]

    assert pools(elsewhere) == ["team-a", "team-b"]
    assert pools(elsewhere, web) == ["team-b"]
    assert pools({**web, "status": {"phase": "Succeeded"}}, a_replica("starts", 2, ready=False)) == ["team-a"]


def test_with_labels_of_its_own_a_pool_has_exactly_its_replicas():
    other = a_replica("other", 1, args=["--model", "other"])

    found = rendered(settings_for(Gateway.POOL), a_replica("one"), other, labelled=True)

    selectors = [item["spec"]["selector"]["matchLabels"] for item in found.objects]
    assert [list(each.values()) for each in selectors] == [["true"], ["true"]]
    assert selectors[0] != selectors[1]
    assert all(key.startswith("pool.kerf.dev/") for each in selectors for key in each)


def test_replicas_at_different_ports_are_no_pool():
    other = a_replica("other", 1, args=["--model", "m", "--served-model-name", "qwen3-8b", "--port", "9"])

    found = rendered(settings_for(Gateway.POOL), a_replica("one"), other, labelled=True)

    assert found.left_out == ("qwen3-8b: no InferencePool in team-a: its replicas answer at different ports (9, 8000)",)


def test_every_object_has_its_owners_label():
    found = rendered(settings_for(*Gateway), a_replica("one"), nodes=[a_node_value()])

    owners = [item["metadata"]["labels"] for item in found.objects]
    assert owners == [
        {**LABELS, "kerf.dev/gateway": name}
        for name in ["knoway"] * 2 + ["litellm"] + ["envoy-ai-gateway"] * 4 + ["inferencepool"]
    ]
