"""What quota is about, read once: cards and pods, TenantQuotas, and with engine kueue Kueue's own objects."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kerf.config.load import read_policy
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.values.policy import QuotaEngine, SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire import kueue
from kerf.wire.quota import KIND, PATH
from kerf.wire.resourcequota import PATH as RESOURCE_QUOTAS
from kerfctl.cluster import connect_to, list_or_none, load_quotas, read_cluster
from kerfctl.documents import read_documents
from kerfctl.failure import FailureError
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.state.store import Store, load

Json = dict[str, Any]
NO_CRD = (
    "the TenantQuota CRD is not installed: install the chart, or kubectl apply -f charts/kerf/crds/tenantquotas.yaml"
)
NO_KUEUE = f"the policy says engine: kueue and {kueue.VERSION} is not served: install Kueue 0.19.2 or newer"
OFF = "the policy says engine: off: nobody is held to what this shows"


@dataclass(frozen=True, slots=True)
class World:
    """The state of a cluster, or of files that stand for one. `tenants` and `managed` are None where not served."""

    policy: SchedulingPolicy
    nodes: list[Json]
    pods: list[Json]
    hard: list[Json]
    tenants: list[Json] | None
    managed: list[Json] | None
    """Kueue's objects that Kerf manages; empty where the policy does not say engine: kueue."""
    workloads: list[Json]
    kube: Kube | None = None

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
        """What is not as one would expect it."""
        found = [NO_CRD] if self.tenants is None else []
        found += [NO_KUEUE] if self.managed is None else []
        return tuple(found + ([OFF] if self.policy.quota.engine is QuotaEngine.OFF else []))

    def store(self, tenants: Iterable[Mapping[str, Any]]) -> tuple[Store, QuotaKeeper]:
        """The scheduler's store, held to these TenantQuotas; an engine that is off is shown as if it were on."""
        quota = self.policy.quota
        if quota.engine is QuotaEngine.OFF:
            quota = replace(quota, engine=QuotaEngine.KERF)
        store = Store(replace(self.policy, quota=quota), VENDORS, check_node=True)
        load(store, self.nodes, self.pods)
        return store, load_quotas(store, (dict(item) for item in tenants), self.hard)


def read_world(args: argparse.Namespace) -> World:
    """Read the cluster, or the files of `--file`. Raises FailureError."""
    policy = read_policy(args.policy)
    return _from_files(args.file, policy) if args.file else _from_cluster(connect_to(args), policy)


def _from_files(files: list[str], policy: SchedulingPolicy) -> World:
    documents = read_documents(files)
    if not documents.nodes:
        raise FailureError(f"{', '.join(files)}: no node; give nodes with a kerf.dev/inventory annotation")
    managed = [item for kind in kueue.PLURALS for item in documents.of(kind) if _is_managed(item)]
    return World(
        policy=policy,
        nodes=list(documents.nodes),
        pods=list(documents.pods),
        hard=documents.of("ResourceQuota"),
        tenants=documents.of(KIND),
        managed=managed if policy.quota.engine is QuotaEngine.KUEUE else [],
        workloads=documents.of("Workload"),
    )


def _from_cluster(kube: Kube, policy: SchedulingPolicy) -> World:
    nodes, pods = read_cluster(kube)
    managed: list[Json] | None = []
    workloads: list[Json] = []
    try:
        tenants, hard = list_or_none(kube, PATH, KIND), kube.list(RESOURCE_QUOTAS)[0]
        if policy.quota.engine is QuotaEngine.KUEUE:
            managed = _managed(kube)
            workloads = list_or_none(kube, f"{kueue.ROOT}/workloads", "Workload") or []
    except KubeError as error:
        raise FailureError(f"the cluster's quota cannot be read: {error}") from error
    return World(policy, nodes, pods, hard, tenants, managed, workloads, kube)


def _managed(kube: Kube) -> list[Json] | None:
    found: list[Json] = []
    for kind in kueue.PLURALS:
        items = list_or_none(kube, kueue.path_of(kind), kind, labelSelector=kueue.MANAGED_SELECTOR)
        if items is None:
            return None
        found += items
    return found


def _is_managed(item: Json) -> bool:
    labels = item["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in kueue.MANAGED.items())
