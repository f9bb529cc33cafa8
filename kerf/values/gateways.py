"""What gateways in front of the models are given: replicas, their weights, and what the policy switches on."""

from dataclasses import dataclass
from enum import StrEnum


class Gateway(StrEnum):
    """A gateway that Kerf writes for."""

    KNOWAY = "knoway"
    LITELLM = "litellm"
    ENVOY = "envoy-ai-gateway"
    POOL = "inferencepool"


class Per(StrEnum):
    """What a gateway sends requests to."""

    REPLICA = "replica"  # each pod by its address, so that each has a weight of its own
    SERVICE = "service"  # Services, whose weight is that of their healthy replicas


class Drain(StrEnum):
    """Why a replica should get no new requests."""

    NONE = ""
    CORDONED = "cordoned"  # it serves as long as no other replica of its model does
    LOST = "lost"  # what it runs is lost, or it leaves: it gets nothing


@dataclass(frozen=True, slots=True)
class Replica:
    """A pod whose engine serves models. `share` is what it holds of cards, in thousandths of an H100."""

    namespace: str
    name: str
    uid: str
    workload: str
    address: str
    port: int
    models: tuple[str, ...]
    share: int
    ready: bool = True
    drain: Drain = Drain.NONE
    labels: tuple[tuple[str, str], ...] = ()
    source: str = ""
    """The repository or path that its engine loads; empty where nothing says it."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service, and whose pods it selects. `target` is a pod's port: a number, or a name.

    A headless Service has no port of its own: its name leads to the pods' addresses, at the port that is called.
    """

    namespace: str
    name: str
    port: int
    target: str
    selector: tuple[tuple[str, str], ...]
    headless: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where a gateway sends requests for a model, under one name that no other target has."""

    name: str
    namespace: str
    about: str
    host: str
    port: int
    served: str
    """The model's name in the engine."""
    priced: str
    """The name by which the engine counts its tokens."""
    weight: int
    uids: tuple[str, ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    """Labels that its pods have in common, where the target is a pod."""


@dataclass(frozen=True, slots=True)
class Route:
    """A model as clients name it, and its targets."""

    model: str
    name: str
    targets: tuple[Target, ...]
    served_by: frozenset[str] = frozenset()
    """Uids of all pods that serve it, those without requests too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all gateways are given. `routed` are uids of pods that get requests, `served` of all that were looked at."""

    routes: tuple[Route, ...] = ()
    routed: frozenset[str] = frozenset()
    served: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    """A line for each name under which replicas serve different models. They get requests all the same."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The policy's block `gateways`. Without a name in `to`, nothing is written."""

    to: tuple[Gateway, ...] = ()
    namespace: str = ""
    """Where the objects are written; an InferencePool is always in its pods' namespace."""
    namespaces: tuple[str, ...] = ()
    """Whose pods are served, and share the names of their models. Empty: all, and a model is `NAMESPACE/MODEL`."""
    pods: tuple[tuple[str, str], ...] = ()
    """Labels that a pod must have."""
    per: Per = Per.REPLICA
    retries: int = 2
    allowed_fails: int = 3
    cooldown_s: int = 30
    """After more than `allowed_fails` failures a replica gets nothing for so long."""
    timeout_s: int = 600
    tokens_per_minute: int = 0
    requests_per_minute: int = 0
    """Limits for each user, where the gateway has such a limit; 0: none."""
    limit_header: str = "x-user-id"
    """The header that names the user, for Envoy."""
    gateway: str = ""
    """Envoy's Gateway: NAME, or NAMESPACE/NAME."""
    picker: str = ""
    """The endpoint picker of InferencePools: the SERVICE:PORT beside the pods."""
    telemetry: bool = False
    litellm: str = ""
    """Further sections of LiteLLM's configuration, as JSON."""
    drain_s: float = 15.0
    """The longest time for which an eviction waits until gateways send nothing to the pod."""
    settle_s: float = 2.0
    """How long gateways are given to take in a change."""
