"""A cluster, or files that stand for one, read once.

simulate, explain, inventory, snapshot, repack and quota all see the same: the policy with its defaults, nodes, pods,
and the quotas of tenants and namespaces, as the scheduler's own state.
"""

import argparse
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Flag, auto
from functools import cache, partial

from kerf.catalogue import shipped
from kerf.config.load import read_policy
from kerf.config.prices import read_prices
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.values.claim import Claim
from kerf.values.policy import QuotaEngine, SchedulingPolicy
from kerf.values.vendor import ResourceNames, Vendor, words_of
from kerf.views.lines import CardLine, Tenant, card_lines
from kerf.wire import kueue
from kerf.wire.claims import CLAIMS, names_claims, parse_claim, with_claims
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.objects import parse_holding, parse_node
from kerf.wire.quota import KIND as TENANT_QUOTA
from kerf.wire.quota import PATH as TENANT_QUOTAS
from kerf.wire.resourcequota import PATH as RESOURCE_QUOTAS
from kerfctl import cluster
from kerfctl.admission import Admitted, admit, is_stored
from kerfctl.documents import Documents, read_documents
from kerfctl.doubles import refuse_shared_cards
from kerfctl.errors import CliError
from kerfctl.kinds import OfflineKinds
from kerfctl.offers import Offers
from kerfctl.report import warn
from scheduler.kueue.activity import activity_by_tenant
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.quota.accounts import tenant_accounts
from scheduler.state.store import Store, load
from webhook.core.settings import Settings, by_namespace

SCHEDULER = "kerf-scheduler"
DEVICE_CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
BUDGETS = "/apis/policy/v1/poddisruptionbudgets"
NO_CRD = (
    "the TenantQuota CRD is not installed: install the chart, or kubectl apply -f charts/kerf/crds/tenantquotas.yaml"
)
NO_KUEUE = f"the policy says engine: kueue and {kueue.VERSION} is not served: install Kueue 0.19.2 or newer"
_WARNERS = (logging.getLogger("kerf.store"), logging.getLogger("kerf.quota"))
OFF = "the policy says engine: off: these limits are not enforced"


class Also(Flag):
    """What a verb needs beside nodes, pods and quotas, and may therefore need a right to list."""

    NOTHING = 0
    BUDGETS = auto()
    KUEUE = auto()


@dataclass(frozen=True, slots=True)
class World:
    """The state of a cluster, or of files that stand for one."""

    vendors: tuple[Vendor, ...]
    policy: SchedulingPolicy
    nodes: Sequence[Json]
    pods: Sequence[Json]
    tenants: Sequence[Json] | None = ()
    """TenantQuotas; None where the kind is not served."""
    hard: Sequence[Json] = ()
    """ResourceQuotas."""
    budgets: Sequence[Json] = ()
    """PodDisruptionBudgets, where the verb asked for them."""
    managed: Sequence[Json] | None = ()
    """Kueue's objects that Kerf manages; None where Kueue is not served, empty unless the policy says engine: kueue."""
    workloads: Sequence[Json] = ()
    """Kueue's Workloads; empty unless the policy says engine: kueue."""
    claims: Sequence[Json] = ()
    """ResourceClaims, where pods use any."""
    templates: Sequence[Json] = ()
    """ResourceClaimTemplates of files."""
    device_classes: Sequence[Json] = ()
    """DeviceClasses, where pods use claims."""
    kube: Kube | None = None
    """The cluster; None for files."""
    scheduler: str = SCHEDULER
    """schedulerName of Kerf's pods."""
    refused: tuple[Admitted, ...] = ()
    """Pods of files that the webhook refuses; they are not among `pods`."""
    warnings: tuple[str, ...] = ()
    """What the webhook says of pods that it lets in."""
    idle: tuple[tuple[str, str, str], ...] = ()
    """Workloads of files that make no pods now: namespace, name and the reason."""
    left_out: tuple[str, ...] = ()
    """Objects of files that are not read although they make pods or change them, a line each."""
    said: set[str] = field(default_factory=set, compare=False)
    """What the scheduler's state has warned of, so that a world that is seen again does not warn again."""

    @property
    def names(self) -> tuple[ResourceNames, ...]:
        """The vendors' words."""
        return words_of(self.vendors)

    @property
    def kueue(self) -> bool:
        """Whether Kueue keeps the quota."""
        return self.policy.quota.engine is QuotaEngine.KUEUE

    @property
    def enforced(self) -> bool:
        """Whether Kerf itself refuses what exceeds a limit."""
        return self.policy.quota.engine is QuotaEngine.KERF

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of quotas has to know about this world."""
        found = [NO_CRD] if self.tenants is None else []
        found += [NO_KUEUE] if self.managed is None else []
        return tuple(found + ([OFF] if self.policy.quota.engine is QuotaEngine.OFF else []))

    def offers(self) -> Offers:
        """The extended resources that nodes offer, less what bound pods hold."""
        return Offers(self.nodes, self.pods, self.names)

    def held_to(self, tenants: Iterable[Json]) -> "World":
        """The same world with other TenantQuotas; an engine that is off is shown as if it were on."""
        quota = self.policy.quota
        if quota.engine is QuotaEngine.OFF:
            quota = replace(quota, engine=QuotaEngine.KERF)
        return replace(self, tenants=tuple(tenants), policy=replace(self.policy, quota=quota))

    def seen(self) -> "Seen":
        """The world as the scheduler sees it."""
        store = Store(self.policy, self.vendors, check_node=True)
        keeper = QuotaKeeper(store)
        with _each_once(self.said):
            load(store, self.nodes, self.pods, map(_claim, self.claims))
            keeper.replace_tenants([dict(item) for item in self.tenants or ()])
            keeper.replace_hard([dict(item) for item in self.hard])
            keeper.refresh()
        return Seen(store, dict(keeper.unreadable))


@contextmanager
def _each_once(said: set[str]) -> Iterator[None]:
    """Let a warning of the scheduler's state pass if it is none of `said`, and add it to them."""

    def is_new(record: logging.LogRecord) -> bool:
        known = len(said)
        said.add(record.getMessage())
        return len(said) > known

    for logger in _WARNERS:
        logger.addFilter(is_new)
    try:
        yield
    finally:
        for logger in _WARNERS:
            logger.removeFilter(is_new)


@dataclass(frozen=True, slots=True)
class Seen:
    """The scheduler's state of a world, and by name what is wrong with the TenantQuotas that it cannot read."""

    store: Store
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def cards(self) -> tuple[CardLine, ...]:
        """Every card with the pods that hold it, by node and index."""
        return tuple(line for name in self.store.desk.node_names() for line in self._cards_of(name))

    def _cards_of(self, name: str) -> tuple[CardLine, ...]:
        node = self.store.desk.node(name)
        cards = [state.card for state in self.store.desk.state(name).cards]
        tenants = [
            Tenant(booking.key, booking.uses, booking.holding.grant.slices if booking.holding else ())
            for booking in self.store.ledger.on_node(name)
        ]
        return card_lines(name, cards, node.cordoned if node else (), tenants)


def read_world(args: argparse.Namespace, also: Also = Also.NOTHING) -> World:
    """Read the files of `--file`, else the cluster; warn of what is left out. Raises CliError."""
    files: list[str] | None = getattr(args, "file", None)
    scheduler = getattr(args, "scheduler_name", SCHEDULER)
    if files:
        world = world_of_files(files, args.policy, args.vendors, scheduler)
        warn(*(f"kerf: {line}" for line in world.left_out))
        return world
    world = world_of_cluster(cluster.connect_to(args), args.policy, args.vendors, also)
    return replace(world, scheduler=scheduler)


def world_of_files(
    files: Sequence[str],
    policy_file: str | None,
    vendors: tuple[Vendor, ...],
    scheduler: str = SCHEDULER,
    prices: str | None = None,
) -> World:
    """Read files and folders; `-` is standard input. Pods that are not stored yet pass the webhook. Raises CliError."""
    documents = read_documents(files)
    if not documents.nodes:
        raise CliError(f"{', '.join(files)}: no node; give nodes with a kerf.dev/inventory annotation")
    refuse_shared_cards(documents.nodes, vendors)
    policy = read_policy(policy_file)
    pods = _claiming(documents.pods, documents.of("ResourceClaim"), documents.nodes, vendors)
    kueue_keeps = policy.quota.engine is QuotaEngine.KUEUE
    world = World(
        vendors=vendors,
        policy=policy,
        nodes=documents.nodes,
        pods=tuple(pod for pod in pods if is_stored(pod)),
        tenants=documents.of(TENANT_QUOTA),
        hard=documents.of("ResourceQuota"),
        budgets=documents.of("PodDisruptionBudget"),
        claims=documents.of("ResourceClaim"),
        templates=documents.of("ResourceClaimTemplate"),
        device_classes=documents.of("DeviceClass"),
        managed=_managed_in(documents) if kueue_keeps else (),
        workloads=documents.of("Workload") if kueue_keeps else (),
        scheduler=scheduler,
        idle=documents.idle,
        left_out=(*documents.left_out, *_elsewhere(pods, documents.nodes, vendors)),
    )
    return _with_new_pods(world, pods, prices)


def _elsewhere(pods: Iterable[Json], nodes: Iterable[Json], vendors: tuple[Vendor, ...]) -> Iterator[str]:
    """A line for each pod that holds cards of a node that is not there: no card shows what it holds."""
    there = {str(at(node, "metadata").get("name")) for node in nodes}
    for pod in pods:
        node = str(at(pod, "spec").get("nodeName") or "")
        if node and node not in there and _holds_cards(pod, vendors):
            fix = "add the node, correct spec.nodeName, or leave the pod out"
            yield f"pod {key_of(pod)} holds cards of node {node}, which is not among the files: {fix}"


def _holds_cards(pod: Json, vendors: tuple[Vendor, ...]) -> bool:
    try:
        return parse_holding(pod, vendors) is not None
    except WireError:
        return False


def _with_new_pods(world: World, pods: Sequence[Json], prices: str | None) -> World:
    """The world with the pods that the webhook lets in, in order, beside what is stored already."""
    desk = world.seen().store.desk
    limits = desk.limits()
    accounts = tenant_accounts(limits.shares, limits.capacity, activity_by_tenant(desk, None), enforced=world.enforced)
    policy = world.policy
    settings = Settings(
        world.vendors,
        defaults=policy.defaults,
        scheduler_name=world.scheduler,
        quota=policy.quota,
        catalogue=shipped(),
        admission=policy.admission,
        accepts=policy.accepts,
        tenants=by_namespace(accounts),
    )
    kinds = OfflineKinds(lambda: world.seen().store, cache(partial(read_prices, prices)), pods)
    found = admit(pods, settings, kinds)
    return replace(
        world,
        pods=tuple(each.pod for each in found if not each.refusal),
        refused=tuple(each for each in found if each.refusal),
        warnings=tuple(f"{key_of(each.pod)}: {text}" for each in found for text in each.warnings),
    )


def key_of(pod: Json) -> str:
    """`namespace/name`."""
    meta = at(pod, "metadata")
    return f"{meta.get('namespace') or 'default'}/{meta.get('name') or meta.get('generateName') or ''}"


def world_of_cluster(
    kube: Kube, policy_file: str | None, vendors: tuple[Vendor, ...], also: Also = Also.NOTHING
) -> World:
    """Read a cluster. Raises CliError."""
    policy = read_policy(policy_file)
    with_kueue = Also.KUEUE in also and policy.quota.engine is QuotaEngine.KUEUE
    managed = _managed(kube) if with_kueue else ()
    nodes, pods = cluster.list_all(kube, paths.NODES, "Node"), cluster.list_all(kube, paths.PODS, "Pod")
    claiming = any(names_claims(pod) for pod in pods)
    claims = cluster.list_or_none(kube, CLAIMS, "ResourceClaim") if claiming else ()
    classes = cluster.list_or_none(kube, DEVICE_CLASSES, "DeviceClass") if claims else ()
    return World(
        vendors=vendors,
        policy=policy,
        nodes=nodes,
        pods=_claiming(pods, claims or (), nodes, vendors),
        tenants=cluster.list_or_none(kube, TENANT_QUOTAS, TENANT_QUOTA),
        hard=cluster.list_all(kube, RESOURCE_QUOTAS, "ResourceQuota"),
        budgets=(cluster.list_or_none(kube, BUDGETS, "PodDisruptionBudget") or ()) if Also.BUDGETS in also else (),
        managed=managed,
        workloads=(cluster.list_or_none(kube, f"{kueue.ROOT}/workloads", "Workload") or ()) if with_kueue else (),
        claims=claims or (),
        device_classes=classes or (),
        kube=kube,
    )


def _claiming(
    pods: Sequence[Json], claims: Sequence[Json], nodes: Sequence[Json], vendors: tuple[Vendor, ...]
) -> tuple[Json, ...]:
    """The pods, those that hold cards by claims with the grants that their claims give them."""
    if not claims:
        return tuple(pods)
    read = {claim.key: claim for claim in map(_claim, claims)}
    cards = {card.id: card for node in nodes for card in parse_node(node, vendors).cards}
    return tuple(with_claims(pod, read, cards, vendors[0].name) for pod in pods)


def _claim(item: Json) -> Claim:
    try:
        return parse_claim(item)
    except WireError as error:
        raise CliError(f"claim {key_of(item)}: {error}") from error


def _managed(kube: Kube) -> tuple[Json, ...] | None:
    found: list[Json] = []
    for kind in kueue.PLURALS:
        items = cluster.list_or_none(kube, kueue.path_of(kind), kind, labelSelector=kueue.MANAGED_SELECTOR)
        if items is None:
            return None
        found += items
    return tuple(found)


def _managed_in(documents: Documents) -> tuple[Json, ...]:
    return tuple(item for kind in kueue.PLURALS for item in documents.of(kind) if _is_managed(item))


def _is_managed(item: Json) -> bool:
    labels = at(item, "metadata", "labels")
    return all(labels.get(key) == value for key, value in kueue.MANAGED.items())
