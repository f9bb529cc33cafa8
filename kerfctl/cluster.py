"""The live cluster, or files, as a store: what explain, inventory, snapshot and quota read."""

import argparse
from collections.abc import Iterable
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube, connect
from kerf.kube.errors import KubeError, NotFound
from kerf.vendors.registry import VENDORS
from kerf.wire.quota import KIND as TENANT_QUOTA
from kerf.wire.quota import PATH as TENANT_QUOTAS
from kerf.wire.resourcequota import PATH as RESOURCE_QUOTAS
from kerfctl.failure import FailureError
from kerfctl.report import CardLine
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.state.store import Store, load

BUDGETS = "/apis/policy/v1/poddisruptionbudgets"
Json = dict[str, Any]


def connect_to(args: argparse.Namespace) -> Kube:
    """A client for the arguments' cluster. Raises FailureError."""
    from pathlib import Path

    try:
        return connect(args.kubeconfig or str(Path("~/.kube/config").expanduser()), timeout_s=30.0)
    except KubeError as error:
        raise FailureError(str(error)) from error


def read_cluster(kube: Kube) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every node and pod. Raises FailureError."""
    try:
        return kube.list(paths.NODES)[0], kube.list(paths.PODS)[0]
    except KubeError as error:
        raise FailureError(f"the cluster cannot be read: {error}") from error


def read_quotas(kube: Kube) -> tuple[list[Json], list[Json]]:
    """Every TenantQuota and ResourceQuota. Without the CRD there are no TenantQuotas. Raises FailureError."""
    try:
        return list_or_none(kube, TENANT_QUOTAS, TENANT_QUOTA) or [], kube.list(RESOURCE_QUOTAS)[0]
    except KubeError as error:
        raise FailureError(f"quotas cannot be read: {error}") from error


def read_budgets(kube: Kube) -> list[Json]:
    """Every PodDisruptionBudget; none where the kind is not served. Raises FailureError."""
    try:
        return list_or_none(kube, BUDGETS, "PodDisruptionBudget") or []
    except KubeError as error:
        raise FailureError(f"PodDisruptionBudgets cannot be read: {error}") from error


def list_or_none(kube: Kube, path: str, kind: str, **query: str) -> list[Json] | None:
    """All objects of a kind, each with its kind, which lists leave out; None where the kind is not served."""
    try:
        return [{"kind": kind, **item} for item in kube.list(path, query or None)[0]]
    except NotFound:
        return None


def live_store(kube: Kube, policy_file: str | None) -> Store:
    """The cluster as the scheduler sees it, its quotas included."""
    return live_quota(kube, policy_file)[0]


def live_quota(kube: Kube, policy_file: str | None) -> tuple[Store, QuotaKeeper, list[Json]]:
    """The cluster as the scheduler sees it, what it makes of the quotas, and the TenantQuotas themselves."""
    quotas = read_quotas(kube)
    return *store_of(policy_file, read_cluster(kube), quotas), quotas[0]


def store_of(
    policy_file: str | None,
    world: tuple[Iterable[Json], Iterable[Json]],
    quotas: tuple[Iterable[Json], Iterable[Json]],
) -> tuple[Store, QuotaKeeper]:
    """A store that holds these nodes and pods to these TenantQuotas and ResourceQuotas."""
    from kerf.config.load import read_policy

    store = Store(read_policy(policy_file), VENDORS, check_node=True)
    load(store, *world)
    return store, load_quotas(store, *quotas)


def load_quotas(store: Store, tenants: Iterable[Json], hard: Iterable[Json]) -> QuotaKeeper:
    """Hold a store to these TenantQuotas and ResourceQuotas. What cannot be read is in the keeper's `unreadable`."""
    keeper = QuotaKeeper(store)
    keeper.replace_tenants(list(tenants))
    keeper.replace_hard(list(hard))
    keeper.refresh()
    return keeper


def card_lines(store: Store) -> list[CardLine]:
    """Every card with its tenants, by node and index."""
    lines = []
    for name in store.node_names():
        holders: dict[str, list[str]] = {}
        for tenant in store.ledger.on_node(name):
            for held in tenant.uses:
                holders.setdefault(held, []).append(tenant.key.removeprefix("default/"))
        cordoned = set(getattr(store.node(name), "cordoned", ()))
        for state in store.fleet.state(name).cards:
            card, used = state.card, state.used
            mark = "" if card.healthy else "unhealthy"
            lines.append(
                CardLine(
                    node=name,
                    index=card.index,
                    card=card.id,
                    model=card.model,
                    memory_mib=card.memory_mib,
                    used_mib=used.memory_mib,
                    cores=card.cores,
                    used_cores=used.cores,
                    slices=used.slots,
                    state="cordoned" if card.id in cordoned else mark,
                    pods=tuple(sorted(holders.get(card.id, ()))),
                )
            )
    return lines
