"""`spec.gateways`: what it may say, and one clear error for what it may not."""

from typing import Any

import pytest

from kerf.values.gateways import Gateway, GatewaySettings, Per
from kerf.wire.errors import WireError
from kerf.wire.gateways import parse_gateways

PICKER = "name the endpoint picker beside the pods as SERVICE:PORT; without one nothing serves an InferencePool"


def test_an_empty_block_writes_nothing():
    assert parse_gateways({}, "spec.gateways") == GatewaySettings()


def test_every_word_is_read():
    words: dict[str, Any] = {
        "to": list(Gateway), "namespace": "serving", "namespaces": ["a", "b"], "pods": {"tier": "gold"},
        "per": "service", "retries": 3, "allowedFails": 4, "cooldownSeconds": 5, "timeoutSeconds": 6,
        "tokensPerMinute": 7, "requestsPerMinute": 8, "limitHeader": "x-key", "gateway": "edge/models",
        "picker": "epp:9002",
        "telemetry": True,
        "litellm": {"litellm_settings": {"cache": True}}, "drainSeconds": 9, "settleSeconds": 1,
    }  # fmt: skip

    assert parse_gateways(words, "g") == GatewaySettings(
        tuple(Gateway), "serving", ("a", "b"), (("tier", "gold"),), Per.SERVICE, 3, 4, 5, 6, 7, 8, "x-key",
        "edge/models", "epp:9002", True, '{"litellm_settings": {"cache": true}}', 9.0, 1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"to": ["kong"]}, "g.to[0]: 'kong': use one of knoway, litellm, envoy-ai-gateway, inferencepool"),
        ({"to": ["litellm", "litellm"]}, "g.to[1]: 'litellm': name each gateway once"),
        ({"to": ["litellm"]}, "g.namespace: '': name the namespace to write the objects to"),
        (
            {"to": ["inferencepool"]},
            f"g.picker: '': {PICKER}",
        ),
        ({"to": ["inferencepool"], "picker": "epp"}, "g.picker: 'epp': write SERVICE:PORT of the endpoint picker"),
        ({"picker": "epp:99999"}, "g.picker: 'epp:99999': write a port from 1 to 65535"),
        (
            {"to": ["envoy-ai-gateway"], "namespace": "n"},
            "g.gateway: '': name the Gateway that routes belong to: NAME or NAMESPACE/NAME",
        ),
        ({"namespace": "Serving"}, "g.namespace: 'Serving': write the name of a namespace"),
        ({"namespaces": ["a", "*"]}, "g.namespaces[1]: '*': write the name of a namespace"),
        ({"pods": {"tier": 1}}, "g.pods.tier: '1': write the value of a label as a text, such as \"true\""),
        (
            {"litellm": {"router_settings": []}},
            "g.litellm.router_settings: '[]': write a section of LiteLLM's configuration, an object",
        ),
        ({"litellm": {"model_list": {}}}, "g.litellm.model_list: '{}': write a list of further deployments"),
        ({"cooldownSeconds": 0}, "g.cooldownSeconds: '0': write a whole number from 1 to 3600"),
        ({"per": "pod"}, "g.per: 'pod': use one of replica, service"),
    ],
)  # fmt: skip
def test_what_it_may_not_say_is_named_with_the_fix(words: dict[str, Any], error: str):
    with pytest.raises(WireError) as caught:
        parse_gateways(words, "g")

    assert str(caught.value) == error
