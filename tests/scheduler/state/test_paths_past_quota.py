"""Fields of pods that reach the scheduler, tried as a way to cards that no quota counts: it counts behind everyone."""

from typing import Any

import pytest

from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerf.values.policy import QuotaEngine, QuotaSettings, SchedulingPolicy
from kerf.values.quota import Amount
from scheduler.state.answers import Decided
from scheduler.state.store import Store
from tests.scheduler.quota.tenants import SLUG
from tests.scheduler.state.test_quotas import a_store, a_tenant

WHOLE = [a_container(mem=81_559, cores=100)]


def held(store: Store) -> Amount:
    return store.desk.used()["team"][SLUG]


def full(engine: QuotaEngine) -> Store:
    """A tenant that may hold one of four cards and holds it."""
    store, _ = a_store(a_tenant(), nodes=[a_node()], policy=SchedulingPolicy(quota=QuotaSettings(engine)))
    runs = a_pod("runs", namespace="team", containers=WHOLE, node="node-1", grant=a_grant("GPU-node-1-0", 81_559, 100))
    store.feed.apply_pod("ADDED", runs)
    return store


def owned(**owner: Any) -> dict[str, Any]:
    pod = a_pod("asks", namespace="team", containers=WHOLE)
    pod["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "name": "o", "uid": "u", "controller": True, **owner}]
    return pod


def asks(**changes: Any) -> dict[str, Any]:
    return a_pod("asks", namespace="team", **{"containers": WHOLE, **changes})


PATHS = {
    "as it is": asks(),
    "a small slice": asks(containers=[a_container(mem=1, cores=0)]),
    "cores alone": asks(containers=[a_container(gpu=0, mem=None, cores=1)]),
    "an init container": asks(containers=[{"name": "main"}], init=WHOLE),
    "a gate that was removed": asks(labels={"kueue.x-k8s.io/queue-name": "kerf"}),
    "Kueue's mark of a parent": asks(annotations={"kueue.x-k8s.io/pod-suspending-parent": "deployment"}),
    "an admission of its own": asks(annotations={"kerf.dev/admission": "uid"}),
    "an owner": owned(kind="Job"),
    "totals of its own": asks(annotations={"quota.kerf.dev/nvidia-mib": "0"}),
    "a priority": asks(spec={"priority": 2_000_000_000, "priorityClassName": "system-node-critical"}),
    "opted out": asks(labels={"kerf.dev/webhook": "ignore"}),
    "a node of its choice": asks(spec={"nodeSelector": {"kubernetes.io/hostname": "node-1"}}),
    "an overhead": asks(spec={"overhead": {"nvidia.com/gpumem": "-81559"}}),
    "an ephemeral container": asks(spec={"ephemeralContainers": [{"name": "debug"}]}),
    "a choice of cards": asks(annotations={"nvidia.com/use-gpuuuid": "GPU-node-1-3"}),
    "several kinds of cards": asks(annotations={"kerf.dev/chosen": "H100", "kerf.dev/accepts": "H100 | A100"}),
}


@pytest.mark.parametrize("engine", [QuotaEngine.KERF, QuotaEngine.KUEUE])
@pytest.mark.parametrize("pod", PATHS.values(), ids=list(PATHS))
def test_no_field_leads_past_a_quota_that_is_used_up(pod: dict[str, Any], engine: QuotaEngine) -> None:
    store = full(engine)
    store.feed.apply_pod("ADDED", pod)
    ask, stages = store.desk.read(pod)

    where = store.desk.where(ask, ["node-1"])

    assert isinstance(where, Decided)
    assert (where.fits, where.over_quota) == ([], True)
    assert not hasattr(store.desk.assume(ask, "node-1", stages), "containers")
    assert held(store) == Amount(81_559, 100, 1)


def test_a_member_of_a_gang_waits_for_the_gang_and_gets_nothing_by_it() -> None:
    store = full(QuotaEngine.KERF)
    for name in ("a", "b"):
        pod = a_pod(
            name,
            namespace="team",
            containers=WHOLE,
            labels={"kerf.dev/gang": "g"},
            annotations={"kerf.dev/gang-size": "2"},
        )
        store.feed.apply_pod("ADDED", pod)

    assert all(candidate.over_quota for candidate in store.planning.candidates())


LIVE = {
    "a resize": {"containers": [a_container(mem=1, cores=0)]},
    "no containers": {"containers": []},
    "other labels": {"labels": {"kerf.dev/gang": "g"}},
    "another owner": {"owner": True},
}


@pytest.mark.parametrize("change", LIVE.values(), ids=list(LIVE))
def test_a_live_pod_counts_for_its_grant_whatever_is_written_into_it(change: dict[str, Any]) -> None:
    store = full(QuotaEngine.KERF)
    changes = {"containers": WHOLE, **change}
    owner = changes.pop("owner", False)
    changed = a_pod("runs", namespace="team", node="node-1", grant=a_grant("GPU-node-1-0", 1, 0), **changes)
    if owner:
        changed["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "o", "uid": "u", "controller": True}]
    store.feed.apply_pod("MODIFIED", changed)

    assert held(store) == Amount(81_559, 100, 1)


@pytest.mark.parametrize("phase", ["Running", "Pending", "Unknown"])
def test_a_pod_that_is_being_deleted_counts_until_it_has_ended(phase: str) -> None:
    store = full(QuotaEngine.KERF)
    leaving = a_pod(
        "runs",
        namespace="team",
        containers=WHOLE,
        node="node-1",
        grant=a_grant("GPU-node-1-0", 81_559, 100),
        phase=phase,
    )
    leaving["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/mine"]}
    store.feed.apply_pod("MODIFIED", leaving)

    assert held(store) == Amount(81_559, 100, 1)
