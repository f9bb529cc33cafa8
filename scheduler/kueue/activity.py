"""What is to be seen of every tenant now: held by the ledger, asked by pods that wait, reserved by Kueue."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from kerf.values.ask import PodAsk
from kerf.values.quota import NOTHING, Amount
from kerf.values.vendor import ResourceNames
from kerf.values.verdict import Misfit
from kerf.wire import kueue
from scheduler.quota.accounts import TenantActivity
from scheduler.state.pending import Waiting
from scheduler.state.store import Store

Json = Mapping[str, Any]


def activity_by_tenant(store: Store, workloads: Iterable[Json] | None) -> dict[str, TenantActivity]:
    """By tenant. `workloads` are Kueue's, None where Kueue does not keep the quota."""
    by_namespace: dict[str, list[Json]] = defaultdict(list)
    for workload in workloads or ():
        by_namespace[workload["metadata"].get("namespace", "")].append(workload)
    with store.lock:
        waiting = [w for w in store.pending.pods.values() if not w.problem]
        used = {share.tenant.name: store.quotas.used(share) for share in store.quotas.shares.tenants}
        tenants = [share.tenant for share in store.quotas.shares.tenants]
    names = store.names
    found = {}
    for tenant in tenants:
        pods = [w for w in waiting if w.ask.namespace in tenant.namespaces]
        if workloads is None:
            asks = tuple(w.ask for w in pods)
            passed = tuple(w.ask for w in pods if not w.gates)
            found[tenant.name] = TenantActivity(used[tenant.name], asks, passed, None, _refusals(store, asks))
        else:
            theirs = [workload for namespace in tenant.namespaces for workload in by_namespace[namespace]]
            found[tenant.name] = _with_kueue(used[tenant.name], pods, theirs, names)
    return found


def _with_kueue(
    used: Mapping[str, Amount], pods: list[Waiting], workloads: list[Json], names: tuple[ResourceNames, ...]
) -> TenantActivity:
    reserved: dict[str, Amount] = {}
    reasons = []
    for workload in workloads:
        for slug, amount in kueue.parse_reserved(workload, names).items():
            reserved[slug] = reserved.get(slug, NOTHING) + amount
        if reason := kueue.waiting_reason(workload):
            meta = workload["metadata"]
            reasons.append(f"{meta.get('namespace')}/{meta['name']}: {reason}")
    asks, passed = tuple(w.ask for w in pods), tuple(w.ask for w in pods if not w.gates)
    return TenantActivity(used, asks, passed, reserved, tuple(reasons))


def _refusals(store: Store, asks: tuple[PodAsk, ...]) -> tuple[str, ...]:
    """What quota says of waiting pods; those that wait for cards are explained on the pod itself."""
    with store.lock:
        answers = [(ask.key, store.quotas.narrow(ask)) for ask in asks]
    return tuple(f"{key}: {answer.detail}" for key, answer in answers if isinstance(answer, Misfit))
