"""The live cluster as a store: what explain, inventory and snapshot read."""

import argparse
from typing import Any

from kerf.cli.failure import FailureError
from kerf.cli.report import CardLine
from kerf.kube import paths
from kerf.kube.client import Kube, connect
from kerf.kube.errors import KubeError
from kerf.vendors.registry import VENDORS
from scheduler.cache.store import Store, load


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


def live_store(kube: Kube, policy_file: str | None) -> Store:
    """The cluster as the scheduler sees it."""
    from kerf.config.load import read_policy

    store = Store(read_policy(policy_file), VENDORS, check_node=True)
    load(store, *read_cluster(kube))
    return store


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
