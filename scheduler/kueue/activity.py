"""Current activity per tenant: held by pods, asked by waiting pods, reserved by Kueue."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from kerf.values.quota import NOTHING, Amount
from kerf.values.vendor import ResourceNames
from kerf.wire import kueue
from kerf.wire.json import Json
from scheduler.quota.accounts import TenantActivity
from scheduler.state.desk import Desk
from scheduler.state.pending import Waiting


def activity_by_tenant(desk: Desk, workloads: Iterable[Json] | None) -> dict[str, TenantActivity]:
    """By tenant. `workloads` are Kueue's, None where Kueue does not keep the quota."""
    by_namespace: dict[str, list[Json]] = defaultdict(list)
    for workload in workloads or ():
        by_namespace[workload["metadata"].get("namespace", "")].append(workload)
    shares, used, names = desk.limits().shares, desk.used(), desk.names
    waiting: dict[str, list[Waiting]] = defaultdict(list)
    for one in desk.waiting():
        if not one.problem:
            waiting[one.ask.namespace].append(one)
    found = {}
    for tenant in (share.tenant for share in shares.tenants):
        pods = [one for namespace in tenant.namespaces for one in waiting[namespace]]
        if workloads is None:
            asks = tuple(w.ask for w in pods)
            passed = tuple(w.ask for w in pods if not w.gates)
            found[tenant.name] = TenantActivity(used.get(tenant.name, {}), asks, passed, None, desk.refusals(asks))
        else:
            theirs = [workload for namespace in tenant.namespaces for workload in by_namespace[namespace]]
            found[tenant.name] = _with_kueue(used.get(tenant.name, {}), pods, theirs, names)
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
