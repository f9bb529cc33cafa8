"""Several clusters under one plan: clusters that were joined, and workloads that may run in any of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kerf.values.accepts import Accept
from kerf.values.device_ask import ClaimTemplate, DeviceAsk
from kerf.values.supply import Supply


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How the manager of a fleet treats clusters that fail, and when it moves what runs."""

    lost_after_s: float = 30.0
    """A cluster that has not answered for so long is lost: its replicas are placed elsewhere."""
    stale_after_s: float = 15.0
    """What was last seen of a cluster counts for new work for so long."""
    back_off_s: float = 30.0
    """A cluster that returned takes no new work for so long, and twice as long after each further loss."""
    most_back_off_s: float = 1800.0
    half_life_s: float = 86_400.0
    """A loss counts half as much against a cluster after so long."""
    trusted: float = 0.5
    """Below this reliability a cluster is not trusted: only what fits nowhere else goes there."""
    move_saving_percent: float = 10.0
    """What runs moves only where the whole plan becomes cheaper by this much; 100 is never."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A cluster that was joined. `secret` names the Secret with its kubeconfig.

    A cordoned cluster takes no new work; a draining one gives up what it has, too.
    """

    name: str
    supply: Supply = Supply.OWNED
    region: str = ""
    secret: str = ""
    cordoned: bool = False
    draining: bool = False


class HandOver(StrEnum):
    """The object by which a cluster gets its part of a workload."""

    DEPLOYMENT = "Deployment"
    LEADER_WORKER_SET = "LeaderWorkerSet"


@dataclass(frozen=True, slots=True)
class FleetWorkload:
    """Replicas that may go to several clusters; the pods of one replica (`group_size`) stay in one.

    `survive` replicas have to be elsewhere than in any one cluster. Moves take at most `max_moves` replicas at a time
    and never leave fewer than `min_available` ready ones.
    """

    namespace: str
    name: str
    uid: str
    replicas: int
    template: Mapping[str, Any] = field(default_factory=dict)
    group_size: int = 1
    hand_over: HandOver = HandOver.DEPLOYMENT
    queue: str = ""
    """The LocalQueue on the manager cluster through which MultiKueue hands it over; empty: directly."""
    accepts: tuple[Accept, ...] = ()
    clusters: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    prefer_regions: tuple[str, ...] = ()
    elsewhere_percent: int = 20
    """What a replica outside the preferred regions costs more in the plan."""
    supply: Supply | None = None
    most_per_cluster: int | None = None
    survive: int = 0
    min_available: int = 0
    max_moves: int = 1
    priority: int = 0
    generation: int = 0
    claims: tuple[ClaimTemplate, ...] = ()
    """The claims that each pod gets for itself, where its template asks by ResourceClaims."""
    devices: tuple[DeviceAsk, ...] = ()
    """What these claims ask for, of each pod."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Assigned:
    """Replicas of a workload that a cluster has, on cards of one model, under one epoch of that cluster.

    `leaving` of them go as soon as others are ready in their place.
    """

    cluster: str
    model: str
    epoch: int
    replicas: int
    leaving: int = 0


@dataclass(frozen=True, slots=True, order=True)
class PlannedPlace:
    """Cards of one node of which each of `pods` pods of a workload gets slices."""

    node: str
    cards: tuple[str, ...]
    """Sorted ids."""
    pods: int


@dataclass(frozen=True, slots=True)
class PartPlaces:
    """The places that a plan has in a cluster for one part of a workload."""

    part: str
    places: tuple[PlannedPlace, ...]
    after_preferences: bool = False
    """Its pods prefer nodes by themselves: the places decide among those that they prefer alike."""


class Phase(StrEnum):
    """What the manager makes of a cluster."""

    JOINING = "Joining"  # it has not answered yet
    LIVE = "Live"
    SILENT = "Silent"  # it does not answer; what it has still counts
    LOST = "Lost"  # it has not answered for too long; what it has is placed elsewhere, under a new epoch
    RETURNED = "Returned"  # it answers again; what is of an older epoch is being removed, and it has no capacity
    RESTING = "Resting"  # nothing of an older epoch is left; it takes no new work before its back-off ends


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """What the manager remembers of a cluster; times are seconds since 1970. All of it is in the Cluster's status."""

    epoch: int = 1
    phase: Phase = Phase.JOINING
    contact: float = 0.0
    """When it last answered."""
    until: float = 0.0
    """When its back-off ends."""
    losses: tuple[float, ...] = ()
    """When it was lost, the newest last."""

    @property
    def usable(self) -> bool:
        """Whether what it has of the present epoch counts."""
        return self.phase in (Phase.LIVE, Phase.SILENT, Phase.RESTING)
