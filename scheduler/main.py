"""The composition root: read settings, build the objects, wire them, run. No logic."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from kerf.config.load import PolicyFile, load_settings, setting
from kerf.config.prices import PriceFile
from kerf.config.vendors import HELP, with_described
from kerf.http.tls import PeerTls, peer_context, server_context
from kerf.kube import paths
from kerf.kube.client import Kube, connect, connect_to
from kerf.kube.errors import KubeError
from kerf.kube.events import Events
from kerf.kube.leadership import ALONE, CALL_S, GuardedKube, Leadership, Tenure, unique_identity
from kerf.kube.lease import Election, Times
from kerf.kube.watch import Follower, PermittedFollower, StreamFollower
from kerf.obs.log import start_logging
from kerf.obs.metrics import Metrics
from kerf.pricing.prices import PriceList
from kerf.vendors.registry import VENDORS
from kerf.wire.claims import CLAIMS
from kerf.wire.errors import WireError
from kerf.wire.fleet_places import FLEET_PLACES
from kerf.wire.quota import PATH as TENANT_QUOTAS
from kerf.wire.resourcequota import PATH as RESOURCE_QUOTAS
from scheduler.choosing.chooser import Chooser
from scheduler.extender.app import Extender
from scheduler.extender.bind import Binder
from scheduler.extender.claims import ClaimCount
from scheduler.extender.gauges import Gauges
from scheduler.extender.peers import Peers
from scheduler.extender.verbs import Verbs
from scheduler.gateways.drains import Drains
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.leader import CatchUp, LeaderLoops, Loop, start_loop
from scheduler.learning.metrics import LearningPage
from scheduler.metering.noderecords import NodeRecords, plugin_addresses
from scheduler.metering.totals import MeterMetrics
from scheduler.metrics import GatewayMetrics, QuotaMetrics, RecoveryMetrics, SchedulerMetrics
from scheduler.placing.allocations import AllocationExpiry, Settlement
from scheduler.placing.expire import Expiry
from scheduler.placing.fleet_places import FleetPlaces
from scheduler.placing.leader_worker_sets import LEADER_WORKER_SETS, LeaderWorkerSets
from scheduler.placing.pod_groups import POD_GROUPS, PodGroups
from scheduler.state.claims import ClaimingPods
from scheduler.state.feed import Feed
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.scheduler")
BIND_CALL_S = 2.0
"""One read of a bind may take this long; kube-scheduler waits ten seconds for the whole."""
LAST_S = 6.0
SWITCH_SECONDS = 0.0005
"""A watch thread may keep the interpreter for this long while a request waits (Python's default is 5 ms)."""
COLLECT_AFTER = (50_000, 50, 100)
"""The collector looks rarely."""
READING_SECONDS, READING_COLLECTS_AFTER = 0.01, (1_000_000, 50, 100)
"""The same until the cluster is read: nothing is answered yet, and all that is read stays."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the scheduler extender runs."""

    kubeconfig: str | None = setting(None, "kubeconfig file; without it, the pod's service account")
    bind: str = setting("127.0.0.1:9090", "HOST:PORT to serve on")
    tls_cert: str | None = setting(None, "certificate file; with --tls-key serves HTTPS; read again when it changes")
    tls_key: str | None = setting(None, "private key file")
    client_ca: str | None = setting(
        None, "CA of the certificates with which clients may ask and bind, and of the replicas' own; others get 403"
    )
    config: str | None = setting(None, "SchedulingPolicy file; read again when it changes")
    lease_namespace: str | None = setting(None, "namespace of the Lease by which replicas elect a leader; none: alone")
    lease_name: str = setting("kerf-scheduler", "name of that Lease")
    identity: str | None = setting(None, "this replica's name in the Lease (default: the host's name)")
    advertise: str | None = setting(None, "HOST:PORT at which other replicas reach this one (default: --bind)")
    peer_ca: str | None = setting(None, "CA of the replicas' certificates, with --tls-cert (default: the system's)")
    multikueue: bool = setting(False, "be MultiKueue's dispatcher kerf.dev/fit (on the manager cluster)")
    multikueue_namespace: str = setting("kueue-system", "namespace of the workers' kubeconfig Secrets")
    multikueue_pins: bool = setting(
        False, "the workers' Kueue has the gate ConcurrentAdmission on, so flavors are kept"
    )
    fleet_namespace: str | None = setting(
        None, "manage the fleet's clusters; their kubeconfig Secrets are in this namespace (on the manager cluster)"
    )
    dra: bool = setting(False, "count what pods hold by ResourceClaims of gpu.kerf.dev")
    prices: str | None = setting(None, "PriceList file; read again when it changes (default: the shipped list)")
    remedies_namespace: str = setting(
        "kerf-system", "namespace of the Jobs that repair cards, where the policy has any"
    )
    models: str = setting("", "namespace of the cluster's own models and of what is learned; empty: nothing is learned")
    vendors: tuple[str, ...] = setting((), HELP)
    hami_metrics: bool = setting(False, "also publish metrics under HAMi's names")
    page: str | None = setting(None, "HOST:PORT of the live page (docs/page.md); none: no page")
    page_tls_cert: str | None = setting(None, "certificate file of the page; with --page-tls-key serves HTTPS")
    page_tls_key: str | None = setting(None, "private key file of the page")
    log_level: str = setting("info", "debug, info, warning or error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    settings = load_settings(Settings, argv, program="python -m scheduler", about="Kerf's scheduler extender")
    start_logging(settings.log_level)
    sys.setswitchinterval(READING_SECONDS)
    gc.set_threshold(*READING_COLLECTS_AFTER)
    try:
        return asyncio_run(_serve(settings))
    except (WireError, KubeError, OSError) as error:
        _LOG.error("%s", error)
        return 1


def asyncio_run(serve: Coroutine[None, None, int]) -> int:
    """Run on uvloop, which halves the floor of a call."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve)


async def _serve(settings: Settings) -> int:
    stop, done = _stopped_by_signals(), threading.Event()
    tls = server_context(settings.tls_cert, settings.tls_key, settings.client_ca)
    kube = connect(settings.kubeconfig)
    metrics = SchedulerMetrics.build(registry := Metrics())
    policy_file = PolicyFile(settings.config)
    store = Store(policy_file.policy, with_described(VENDORS, settings.vendors))
    seat = (leadership := _leadership(settings)) or ALONE
    nodes, pods, *claims = watched = _nodes_and_pods(kube, store, claims=settings.dra)
    settled = [Settlement(store, kube, each, seat.elected) for each in claims]  # a term opens after it
    metering = _Metering(settings, store, kube, keeper := QuotaKeeper(store), registry)
    followers = [nodes, pods, *_other_followers(kube, store, keeper), *claims]
    binder = Binder(store, connect(settings.kubeconfig, timeout_s=BIND_CALL_S), metrics, seat)
    chooser = Chooser(store, metering.prices)
    extender = Extender(
        Verbs(store.desk, metrics, chooser.answer, *(ClaimCount(store, metrics).answer for _ in claims)),
        binder,
        metrics,
        ready=_ready(keeper, watched, [] if leadership else settled),
        scrape=metering.scrape_with(Gauges(store, metrics, registry, hami=settings.hami_metrics)),
        peers=_peers(settings, leadership, metrics),
    )
    acting = GuardedKube(kube, seat)
    events = Events(acting, "kerf-scheduler")
    measures, both = (metrics, QuotaMetrics.build(registry), RecoveryMetrics.build(registry)), (nodes, pods)

    def loops() -> Sequence[Loop]:
        from scheduler.leading import Parts, loops_of

        parts = Parts(store, acting, seat, binder, events, *measures, keeper, chooser.memory, metering.may_leave, both)
        return (
            *loops_of(parts, settings.remedies_namespace),
            *_over_clusters(settings, acting, store, seat, policy_file),
            *metering.loops(acting),
        )

    caught_up = CatchUp(store, kube, nodes, pods).run_once if leadership else _when_read(nodes, pods)
    _follow(followers, extender.give_way)
    seen = (lambda _: keeper.ready, *(each.run_once for each in settled), caught_up)
    leading = LeaderLoops(seat, lambda end: all(each(end) for each in seen), loops, store, metrics)
    running = [start_loop(each, done) for each in (*_expiry(store, kube), keeper, metering, leading)]
    if leadership:
        leadership.start()
    policy_file.start(store.feed.set_policy, _LOG.error)
    pages = _pages(settings, store, kube, leadership, metering)
    try:
        await extender.serve(settings.bind, tls, stop)
    finally:
        done.set()
        _end(policy_file.stop, *(each.stop for each in followers), *pages)
        running[-1].join(LAST_S)
        if leadership:
            leadership.release()
    return 0


def _pages(
    settings: Settings, store: Store, kube: Kube, leadership: Leadership | None, metering: "_Metering"
) -> list[Callable[[], None]]:
    """The live page, where there is one, once it listens: how it stops. Raises OSError."""
    if not settings.page:
        return []
    from scheduler.page.what_if import Terms
    from scheduler.page.wiring import Asked, Place, RunningPage

    place = Place(
        settings.page,
        server_context(settings.page_tls_cert, settings.page_tls_key),
        peer_context(settings.peer_ca) if settings.page_tls_cert else None,
        settings.lease_namespace,
        fleet=bool(settings.fleet_namespace),
    )
    leader = leadership.leader if leadership else lambda: None
    terms = Terms(settings.config, settings.vendors, settings.prices)
    asked = Asked(leadership or ALONE, leader, metering.prices, metering.tenants, terms)
    page = RunningPage(place, store, kube, asked)
    page.start()
    return [page.stop]


def _follow(followers: Sequence[Follower], give_way: Callable[[], None]) -> None:
    """Start them; once nodes and pods, the first two, are read, the process settles."""
    for follower in followers:
        follower.give_way = give_way
        follower.start()
    threading.Thread(target=_settle, args=(followers[:2],), name="settle", daemon=True).start()


def _ready(keeper: QuotaKeeper, watched: Sequence[Follower], settled: Sequence[Settlement]) -> Callable[[], bool]:
    """Whether all is read once. Who leads alone answers no question before it has settled what it let through."""
    return lambda: keeper.ready and all(each.synced.is_set() for each in watched) and all(each.over for each in settled)


def _expiry(store: Store, kube: Kube) -> tuple[Loop, ...]:
    """What asks the API server about what never became visible."""
    return Expiry(store, kube), AllocationExpiry(store, kube)


def _end(*stops: Callable[[], None]) -> None:
    for stop in stops:
        stop()


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _other_followers(kube: Kube, store: Store, keeper: QuotaKeeper) -> list[Follower]:
    """What a replica follows beside nodes and pods; it may answer before these are read."""
    groups, sets = [(path, PodGroups(store)) for path in POD_GROUPS], LeaderWorkerSets(store)
    places = FleetPlaces(store)
    return [
        *(Follower(kube, path, each.replace, each.change, optional=True) for path, each in groups),
        Follower(kube, LEADER_WORKER_SETS, sets.replace, sets.change, optional=True),
        PermittedFollower(kube, FLEET_PLACES, places.replace, places.change, optional=True),
        Follower(kube, TENANT_QUOTAS, keeper.replace_tenants, keeper.change_tenant, optional=True),
        Follower(kube, RESOURCE_QUOTAS, keeper.replace_hard, keeper.change_hard),
    ]


def _nodes_and_pods(kube: Kube, store: Store, *, claims: bool) -> list[Follower]:
    """What the feed is made of: nodes, pods and, where pods may hold cards by them, claims."""
    seen: ClaimingPods | Feed = store.feed
    third: list[Follower] = []
    if claims:
        seen = joined = ClaimingPods(store, VENDORS[0].name)
        third = [Follower(kube, CLAIMS, joined.replace_claims, joined.apply_claim, optional=True)]
    nodes = StreamFollower(kube, paths.NODES, seen.replace_nodes, seen.apply_node)
    return [nodes, StreamFollower(kube, paths.PODS, seen.replace_pods, seen.apply_pod), *third]


class _Metering:
    """What meters, prices, and gives prices to gateways. Its loops are new in each term; the price list is followed."""

    def __init__(self, settings: Settings, store: Store, kube: Kube, keeper: QuotaKeeper, registry: Metrics) -> None:
        self._store = store
        self._prices = PriceFile(settings.prices)
        self._metrics = MeterMetrics.build(registry)
        self._models = settings.models
        self._nodes = NodeRecords(lambda: plugin_addresses(kube, settings.lease_namespace))
        self.tenants = keeper.tenants_by_namespace
        self._learning = LearningPage()
        registry.registry.register(self._learning)
        self._gateways = GatewayMetrics.build(registry)
        self._drains = Drains(lambda: store.desk.policy.gateways)
        self.may_leave = self._drains.may_leave

    def prices(self) -> PriceList:
        """The price list as it is now."""
        return self._prices.prices

    def scrape_with(self, gauges: Gauges) -> Callable[[], bytes]:
        """The metrics page: the gauges, and what the last round of metering rendered."""
        return lambda: gauges.scrape() + self._metrics.page.text

    def run(self, stop: threading.Event) -> None:
        """Follow the price list until stopped."""
        self._prices.run(stop, _LOG.error)

    def loops(self, acting: Kube) -> list[Loop]:
        """What the leader does, writing through `acting`."""
        from scheduler.gateways.controller import GatewayController, Prices
        from scheduler.metering.engines import EngineWatch
        from scheduler.metering.meter import Meter, Sources
        from scheduler.metering.reported import ReportWatch

        meter = Meter(self._store, acting, Sources(self.prices, self.tenants, self._nodes), self._metrics)
        engines = EngineWatch(self._store, acting, meter)
        meter.more.append(engines.families)
        prices = Prices(self.prices, lambda: meter.token_prices)
        gateways = GatewayController(self._store, acting, prices, self._drains, self._gateways)
        reported = ReportWatch(acting, lambda: self._store.desk.policy.metering, meter.measured_tokens)
        meter.more.append(reported.families)
        found: list[Loop] = [meter, engines, gateways, reported]
        if self._models:
            from kerf.catalogue import shipped
            from scheduler.learning import learner

            sources = learner.Sources(self._nodes, engines.fullest, shipped(), self._models)
            found.append(learner.Learner(self._store, acting, sources, self._learning))
        return found


def _over_clusters(settings: Settings, kube: Kube, store: Store, seat: Tenure, policy: PolicyFile) -> list[Loop]:
    """What runs on the manager cluster alone: MultiKueue's dispatcher, and the manager of a fleet."""
    found: list[Loop] = _dispatchers(settings, kube, store)
    if settings.fleet_namespace:
        from scheduler.fleet.wiring import build_manager

        prices = PriceFile(settings.prices)
        found.append(build_manager(kube, seat, policy, prices, store.desk.vendors, settings.fleet_namespace))
    return found


def _dispatchers(settings: Settings, kube: Kube, store: Store) -> list[Loop]:
    """MultiKueue's dispatcher, where this is the manager cluster."""
    if not settings.multikueue:
        return []
    from scheduler.clusters.dispatch import Dispatcher
    from scheduler.clusters.workers import Books

    def books(_: str) -> Books:
        return Books(known := Store(store.desk.policy, store.desk.vendors), QuotaKeeper(known))

    return [
        Dispatcher(
            kube,
            books,
            connect_to,
            namespace=settings.multikueue_namespace,
            honours_pin=settings.multikueue_pins,
        )
    ]


def _leadership(settings: Settings) -> Leadership | None:
    """None without a Lease: a single replica leads always."""
    if not settings.lease_namespace:
        return None
    times = Times()
    identity = unique_identity(settings.identity or socket.gethostname())
    election = Election(identity, settings.advertise or settings.bind, times)
    kube = connect(settings.kubeconfig, connections=2, timeout_s=CALL_S)
    return Leadership(kube, (settings.lease_namespace, settings.lease_name), election, times)


def _peers(settings: Settings, leadership: Leadership | None, metrics: SchedulerMetrics) -> Peers | None:
    if leadership is None:
        return None
    return Peers(leadership, settings.advertise or settings.bind, metrics, _peer_tls(settings))


def _peer_tls(settings: Settings) -> Callable[[], ssl.SSLContext] | None:
    """How a replica reaches another one: with its own certificate where clients need one."""
    if settings.client_ca and settings.tls_cert and settings.tls_key:
        return PeerTls(settings.client_ca, settings.tls_cert, settings.tls_key)
    context = peer_context(settings.peer_ca) if settings.tls_cert else None
    return None if context is None else lambda: context


def _when_read(*followers: Follower) -> Callable[[threading.Event], bool]:
    """Who leads alone has nothing to catch up with, but nothing to say either before the cluster is read."""
    return lambda _: all(follower.synced.is_set() for follower in followers)


def _settle(followers: Sequence[Follower]) -> None:
    """Once the cluster is read, tell the collector that it stays: a walk over 40,000 pods stops answers for 100 ms."""
    for follower in followers:
        follower.synced.wait()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    sys.setswitchinterval(SWITCH_SECONDS)
