"""What the checks look at, and what they say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import ResourceNames, Vendor, words_of
from kerf.wire.json import Json, at, items_at


class Level(StrEnum):
    """How bad a finding is."""

    WRONG = "wrong"
    """Pods are refused, wait, or are not held to what they were granted. The exit status is 1."""
    WARNING = "warning"
    """Something that will go wrong, or that could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    what: str
    fix: str
    level: Level = Level.WRONG


@dataclass(frozen=True, slots=True)
class Dump:
    """A cluster at one moment. Lists hold raw objects; what could not be read is empty and named in `unread`."""

    vendors: tuple[Vendor, ...]
    now: float = 0.0
    """Unix seconds."""
    version: str = ""
    """`gitVersion` of the API server."""
    scheduler: str = "kerf-scheduler"
    namespace: str = ""
    """Where Kerf is installed; empty where that is not known."""
    nodes: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    webhooks: tuple[Json, ...] = ()
    """MutatingWebhookConfigurations."""
    validating: tuple[Json, ...] = ()
    """ValidatingWebhookConfigurations."""
    services: tuple[Json, ...] = ()
    """Those that Kerf's webhooks name."""
    endpoints: tuple[Json, ...] = ()
    """The EndpointSlices of these Services."""
    device_classes: tuple[Json, ...] = ()
    resource_slices: tuple[Json, ...] = ()
    secret: Json | None = None
    """The webhook's Secret: `tls.crt` alone, decoded to text; its keys are never read into a dump."""
    leases: tuple[Json, ...] = ()
    events: tuple[Json, ...] = ()
    """Events about pods."""
    definitions: tuple[Json, ...] = ()
    """CustomResourceDefinitions."""
    shipped: tuple[Json, ...] = ()
    """Kerf's own definitions as this version has them."""
    admission: str | None = None
    """What became of a pod with cards that was sent and not kept: the schedulerName it got, or `error: …`."""
    denied: tuple[str, ...] = ()
    """What the caller may not do."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """What could not be read, and the API server's words."""
    policy: SchedulingPolicy = field(default_factory=SchedulingPolicy)

    @property
    def names(self) -> tuple[ResourceNames, ...]:
        """The vendors' words."""
        return words_of(self.vendors)

    @property
    def crds(self) -> frozenset[str]:
        """The names of the CustomResourceDefinitions."""
        return frozenset(name_of(each) for each in self.definitions)

    def kerf_webhooks(self) -> list[Json]:
        """Kerf's MutatingWebhookConfigurations."""
        return kerfs_own(self.webhooks)

    def kerf_validating(self) -> list[Json]:
        """Kerf's ValidatingWebhookConfigurations."""
        return kerfs_own(self.validating)


def kerfs_own(webhooks: Iterable[Json]) -> list[Json]:
    """Kerf's among webhook configurations."""
    return [each for each in webhooks if any(str(h.get("name")).endswith(".kerf.dev") for h in hooks_of(each))]


def hooks_of(configuration: Json) -> list[Json]:
    """The webhooks of one configuration."""
    return list(items_at(configuration, "webhooks"))


def name_of(item: Json) -> str:
    """`namespace/name`, or the name of what has no namespace."""
    meta = at(item, "metadata")
    return "/".join(filter(None, (meta.get("namespace"), str(meta.get("name", "")))))


def notes_of(item: Json) -> Json:
    """The annotations."""
    return at(item, "metadata", "annotations")


def since(moment: object) -> float:
    """A Kubernetes time as Unix seconds; 0 where it cannot be read."""
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return 0.0
