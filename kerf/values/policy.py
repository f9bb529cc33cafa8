"""A SchedulingPolicy as values: which policies apply, what defaults mean, how far a pool may be over-committed."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from kerf.values.accepts import AcceptsSettings
from kerf.values.allocator import Allocator
from kerf.values.fleet import FleetSettings
from kerf.values.gateways import GatewaySettings
from kerf.values.learned import LearningSettings
from kerf.values.node import Node
from kerf.values.recovery import AfterDeadline, RecoveryMode, RecoverySettings


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a container gets that asks for less than everything."""

    memory_mib: int = 0
    """MiB for a container that names neither memory nor a percentage; 0 means the whole card."""
    cores: int = 0
    """Percent of SMs for a container that names none."""
    cards: int = 1
    """Cards for a container that names memory or cores only."""
    whole_card_cores: bool = True
    """A container that gets all of a card's memory and names no cores gets all of its cores."""


class PoolMode(StrEnum):
    """How a pool's cards are to be shared; what a card really is in is `kerf.values.device.Mode`."""

    PRELOAD = "preload"
    MPS = "mps"
    MIG = "mig"
    AUTO = "auto"  # mps where the node can, else preload


class MpsDaemon(StrEnum):
    """Which cards one MPS daemon serves."""

    CARD = "card"  # a daemon for each card; containers that share cards hold one
    NODE = "node"  # one for all cards of the node


class DriverLimits(StrEnum):
    """Whether the driver itself is to keep the memory of pods (r615 and newer)."""

    NEVER = "never"
    AUTO = "auto"  # where the node can, else as without, with the reason
    REQUIRE = "require"  # a card whose driver does not do it gives no slices


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes that share over-commitment factors. A node belongs to the first pool whose selector matches its labels."""

    name: str
    node_selector: tuple[tuple[str, str], ...] = ()
    memory_overcommit: float = 1.0
    """Grantable memory as a multiple of the hardware's. Above 1 only where tenants leave most of theirs idle:
    a runtime that fills its slice at start (vLLM, SGLang) will meet an out-of-memory error of the card itself."""
    cores_overcommit: float = 1.0
    """Grantable cores as a multiple of 100 %; safe above 1, tenants then share time by weight."""
    recovery: RecoveryMode | None = None
    """What is done about faults on these nodes; None is what the block `recovery` says."""
    mode: PoolMode = PoolMode.PRELOAD
    """How the cards are shared. A card changes its mode only while no pod holds a slice of it."""
    mps_daemon: MpsDaemon = MpsDaemon.CARD
    """Which cards one MPS daemon serves."""
    driver_limits: DriverLimits = DriverLimits.NEVER
    """Whether the driver keeps memory beside what the mode does."""
    allocator: Allocator = Allocator.EXTENDER
    """Who hands out the cards of these nodes."""

    def holds(self, node: Node) -> bool:
        """Whether the selector matches."""
        labels = dict(node.labels)
        return all(labels.get(key) == value for key, value in self.node_selector)


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """When CP-SAT plans the pending set, and for how long what it reserves is held."""

    enabled: bool = True
    max_pods: int = 500
    """Pods one plan considers, highest priority and oldest first."""
    deterministic_limit: float = 0.5
    """CP-SAT's deterministic time units; one is about 1-3 s of one core."""
    gang_timeout_s: float = 120.0
    """How long capacity is held for a gang whose pods do not all arrive."""


class QuotaEngine(StrEnum):
    """Who holds tenants to their TenantQuota."""

    OFF = "off"
    KERF = "kerf"  # webhook and scheduler alone
    KUEUE = "kueue"  # Kueue, from objects that Kerf writes


@dataclass(frozen=True, slots=True)
class ReclaimSettings:
    """How a tenant gets back what others borrow of its guarantee, where Kerf keeps the quota."""

    enabled: bool = True
    deadline_s: float = 300.0
    """How long evictions are tried for a refused pod."""
    after_deadline: AfterDeadline = AfterDeadline.DELETE
    """Whatever the borrower's PodDisruptionBudget says: a budget is the borrower's own word."""


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """How tenant quota is kept. Without TenantQuota objects nothing is limited."""

    engine: QuotaEngine = QuotaEngine.KERF
    reserve_percent: int = 0
    """Part of every card's memory that no quota hands out."""
    shrink_after_s: float = 15.0
    """Capacity that is lost counts until it has been gone for so long; capacity that comes counts at once."""
    cohort: str = "kerf"
    """Kueue's Cohort of all tenants; it holds what no tenant is guaranteed."""
    queue: str = "kerf"
    """Name of the LocalQueue in every namespace of a tenant."""
    fit_check: bool = True
    """Kueue admits nothing that no card can hold (AdmissionCheck `kerf-gpu-fit`)."""
    reclaim: ReclaimSettings = field(default_factory=ReclaimSettings)


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How the price of a million tokens is made from what a model's replicas cost and the tokens that they served."""

    input_weight: Decimal = Decimal("0.25")
    cached_weight: Decimal = Decimal("0.05")
    output_weight: Decimal = Decimal(1)
    """What a prompt token, one from the prefix cache and a generated token weigh; only their ratio matters."""
    margin_percent: Decimal = Decimal(0)
    floor: Decimal = Decimal(0)
    ceiling: Decimal = Decimal(1000)
    """Bounds of the price of a million generated tokens."""
    half_life_minutes: float = 60.0
    """How long until half of a price is made of newer measurements; 0 takes each measurement as it is."""
    with_idle: bool = False
    """Whether a model also pays its part of the idle cards of its kind."""


@dataclass(frozen=True, slots=True)
class ScaleSettings:
    """When a model needs more replicas, or fewer."""

    waiting_per_replica: int = 5
    """Requests that may wait for each replica."""
    kv_percent: int = 85
    """Use of the KV cache above which one more replica is recommended."""
    most_replicas: int = 64
    cooldown_s: float = 600.0
    """How long a recommendation must be lower before it is lowered; longer than a model needs to load."""


@dataclass(frozen=True, slots=True)
class MeteringSettings:
    """Metering by the scheduler's leader."""

    enabled: bool = False
    cluster: str = ""
    """This cluster's name in records and metrics."""
    supply: str = "owned"
    """How the cards of nodes without the label kerf.dev/supply were come by."""
    retention_days: int = 35
    write_s: float = 60.0
    """Longest time between a use and its record."""
    scrape_s: float = 15.0
    """Between two readings of an engine's counters; 0 reads none."""
    open_cost: bool = False
    """Whether OpenCost's series are shown, with slices as fractions of a GPU."""
    gateway_reports: bool = False
    """Whether the reports of gateways are compared with the engines' counters."""
    tokens: TokenSettings = field(default_factory=TokenSettings)
    scale: ScaleSettings = field(default_factory=ScaleSettings)


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What the webhook lets in beyond what is safe everywhere."""

    privileged: bool = False
    """Privileged containers may ask for cards. They see every card of their node, whatever they were granted."""
    other_resources: tuple[str, ...] = ()
    """Resources of the vendors' domains that other plugins serve; a final "*" stands for any ending."""


class Offer(StrEnum):
    """What kube-scheduler gets to choose from, where many nodes fit a pod that prefers nothing."""

    BEST = "best"
    """The best node alone."""
    ALL = "all"
    """Every node that fits, with scores."""


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """The scheduler's policy. The zero value is the shipped default."""

    nodes: str = "fragmentation"
    """Node policy for pods that name none."""
    cards: tuple[str, ...] = ("binpack",)
    """Ordered chain of card policies for pods that name none."""
    weights: tuple[int, int, int] = (1, 1, 3)
    """Weights of slots, cores and memory in `binpack` and `spread`."""
    defaults: Defaults = field(default_factory=Defaults)
    pools: tuple[Pool, ...] = ()
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    quota: QuotaSettings = field(default_factory=QuotaSettings)
    metering: MeteringSettings = field(default_factory=MeteringSettings)
    gateways: GatewaySettings = field(default_factory=GatewaySettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    accepts: AcceptsSettings = field(default_factory=AcceptsSettings)
    learning: LearningSettings = field(default_factory=LearningSettings)
    offer: Offer = Offer.BEST
    express: bool = False
    """The leader binds, in batches, the waiting pods of which it understands every constraint."""

    def pool_of(self, node: Node) -> Pool | None:
        """The pool that the node belongs to."""
        return next((pool for pool in self.pools if pool.holds(node)), None)

    def recovery_on(self, node: Node) -> RecoveryMode:
        """What is done about faults on the node."""
        pool = self.pool_of(node)
        return pool.recovery if pool and pool.recovery else self.recovery.mode

    def allocator_on(self, node: Node) -> Allocator:
        """Who is to hand out the node's cards."""
        pool = self.pool_of(node)
        return pool.allocator if pool else Allocator.EXTENDER

    def factors(self, node: Node) -> tuple[float, float]:
        """Over-commitment of the node's memory and cores."""
        pool = self.pool_of(node)
        return (pool.memory_overcommit, pool.cores_overcommit) if pool else (1.0, 1.0)
