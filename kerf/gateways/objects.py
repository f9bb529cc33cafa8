"""Objects as all gateways share them: the label of their owner, their metadata, and their kinds' paths."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerf.values.gateways import Gateway

OWNER = "kerf.dev/gateway"
"""Label of everything that Kerf writes for a gateway: the gateway's name. What has it and is not wanted is deleted."""
MANAGED = "app.kubernetes.io/managed-by"
ABOUT = "kerf.dev/gateway-about"
"""Annotation: the model, pod or Service that an object is about."""
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that Kerf writes."""

    kind: str
    api: str
    plural: str

    @property
    def everywhere(self) -> str:
        """The path of all of them."""
        return f"{self._root}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """The path of one."""
        return f"{self._root}/namespaces/{namespace}/{self.plural}/{name}"

    @property
    def _root(self) -> str:
        return f"/apis/{self.api}" if "/" in self.api else f"/api/{self.api}"


CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
BACKEND = Kind("LLMBackend", "llm.knoway.dev/v1alpha1", "llmbackends")
ROUTE = Kind("ModelRoute", "llm.knoway.dev/v1alpha1", "modelroutes")
ENVOY_BACKEND = Kind("Backend", "gateway.envoyproxy.io/v1alpha1", "backends")
ENVOY_POLICY = Kind("BackendTrafficPolicy", "gateway.envoyproxy.io/v1alpha1", "backendtrafficpolicies")
AI_BACKEND = Kind("AIServiceBackend", "aigateway.envoyproxy.io/v1beta1", "aiservicebackends")
AI_ROUTE = Kind("AIGatewayRoute", "aigateway.envoyproxy.io/v1beta1", "aigatewayroutes")
INFERENCE_POOL = Kind("InferencePool", "inference.networking.k8s.io/v1", "inferencepools")
KINDS: Mapping[Gateway, tuple[Kind, ...]] = {
    Gateway.KNOWAY: (BACKEND, ROUTE),
    Gateway.LITELLM: (CONFIG_MAP,),
    Gateway.ENVOY: (ENVOY_BACKEND, AI_BACKEND, AI_ROUTE, ENVOY_POLICY),
    Gateway.POOL: (INFERENCE_POOL,),
}
"""What each gateway has, in the order in which it is written; it is deleted in the opposite one."""


def made(kind: Kind, gateway: Gateway, where: tuple[str, str], about: str, **body: Any) -> Object:  # noqa: ANN401 (JSON)
    """An object with its owner's label. `where` is its namespace and name."""
    namespace, name = where
    meta = {
        "name": name,
        "namespace": namespace,
        "labels": {MANAGED: "kerf", OWNER: gateway.value},
        "annotations": {ABOUT: about},
    }
    return {"apiVersion": kind.api, "kind": kind.kind, "metadata": meta, **body}


def path_of(item: Mapping[str, Any]) -> str:
    """The path of an object that `made` made."""
    kind = next(each for kinds in KINDS.values() for each in kinds if each.kind == item["kind"])
    return kind.path(item["metadata"]["namespace"], item["metadata"]["name"])
