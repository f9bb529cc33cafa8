"""What the scopes of a ResourceQuota see in a pod's spec."""

from typing import Any

import pytest

from kerf.values.traits import Traits
from kerf.wire.traits import traits_of

APP = {"name": "a", "resources": {"requests": {"cpu": "1"}}}
IDLE = {"name": "a", "resources": {"limits": {"nvidia.com/gpu": 1}}}
TERM = {"labelSelector": {}, "topologyKey": "zone"}


def affinity(kind: str, **term: Any) -> dict[str, Any]:
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [{**TERM, **term}]}}}


@pytest.mark.parametrize(
    ("spec", "traits"),
    [
        ({"containers": [APP]}, Traits()),
        ({"containers": [IDLE]}, Traits(best_effort=True)),
        ({"containers": [IDLE], "initContainers": [APP]}, Traits()),
        ({"containers": [{"name": "a", "resources": {"limits": {"memory": "1Gi"}}}]}, Traits()),
        ({"containers": [{"name": "a", "resources": {"limits": {"memory": "0"}}}]}, Traits(best_effort=True)),
        ({"containers": [IDLE], "resources": {"requests": {"memory": "1Gi"}}}, Traits()),
        ({"containers": [APP], "activeDeadlineSeconds": 0}, Traits(terminating=True)),
        ({"containers": [APP], "priorityClassName": "vip"}, Traits(priority_class="vip")),
        ({"containers": [APP], "priorityClassName": 7}, Traits()),
        ({"containers": [APP], **affinity("podAffinity")}, Traits()),
        ({"containers": [APP], **affinity("podAffinity", namespaces=["b"])}, Traits(cross_namespace=True)),
        ({"containers": [APP], **affinity("podAntiAffinity", namespaceSelector={})}, Traits(cross_namespace=True)),
        (
            {
                "containers": [APP],
                "affinity": {
                    "podAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 1, "podAffinityTerm": {**TERM, "namespaces": ["b"]}}
                        ]
                    }
                },
            },
            Traits(cross_namespace=True),
        ),
        ({"containers": "none", "affinity": []}, Traits(best_effort=True)),
    ],
)
def test_traits_are_read_as_kubernetes_reads_them(spec: dict[str, Any], traits: Traits) -> None:
    assert traits_of(spec) == traits
