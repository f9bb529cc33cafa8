"""The express lane beside the real kube-scheduler, on kwok nodes."""

import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.express import policy
from sandbox import ApiError, ControlPlane, await_until
from scheduler.core.pod_fields import FIELDS
from tests.cluster.gpu_pods import (
    PODS,
    a_fake_node,
    a_fleet,
    a_gpu_pod,
    await_bound,
    create,
    node_of,
    overcommitted,
    pods,
    remove_pods,
)

pytestmark = pytest.mark.cluster
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events?limit=5000"


class Lane:
    """A fleet with the lane on."""

    def __init__(self, cp: ControlPlane, port: int) -> None:
        self.cp = cp
        self.port = port

    def count(self, outcome: str) -> int:
        """Pods of the lane with an outcome."""
        found = re.search(rf'^kerf_express_pods_total{{outcome="{outcome}"}} (\S+)', self.metrics(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def burst(self, *wanted: dict[str, Any]) -> list[str]:
        """Create pods while kube-scheduler is stopped, so that all of them wait. Returns their names."""
        self.cp.kill("kube-scheduler", signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(12) as pool:
                list(pool.map(lambda pod: self.cp.api.post(PODS, pod), wanted))
        finally:
            self.cp.kill("kube-scheduler", signal.SIGCONT)
        return [pod["metadata"]["name"] for pod in wanted]


@pytest.fixture(scope="module")
def fleet(control_plane: ControlPlane) -> Iterator[Lane]:
    """Three large nodes and a small one: four cards, but two cores and few pods."""
    small = replace(a_fake_node("small", 4, size="small"))
    small = replace(small, allocatable={**small.allocatable, "cpu": "2", "pods": "10"})
    nodes = [small, *[a_fake_node(f"gpu-{i}", 4, size="large") for i in range(3)]]
    with a_fleet(control_plane, nodes, "--config", str(policy(control_plane.run_dir, express=True))) as port:
        lane = Lane(control_plane, port)
        await_until(lambda: "kerf_express_open 1.0" in lane.metrics(), "the lane to open")
        yield lane


@pytest.fixture
def lane(fleet: Lane) -> Iterator[Lane]:
    yield fleet
    remove_pods(fleet.cp)


def bindings(cp: ControlPlane, names: list[str]) -> Counter[str]:
    """How often each pod was bound, from the audit log."""
    writes = cp.writes_by()
    return Counter(w.name for w in writes if w.resource == "pods/binding" and w.code == 201 and w.name in set(names))


LATE = "is in the cache, so can't be assumed"
"""What kube-scheduler says of a pod that it saw bound while it scheduled it. The kubelet, which no kwok node has, puts
the pod's condition right (test_sandbox)."""


def given_up(cp: ControlPlane, names: list[str]) -> int:
    """Bindings that an overloaded API server gave up: the lane cannot know what became of them before it answers."""
    writes = cp.writes_by()
    return sum(w.resource == "pods/binding" and w.code >= 500 and w.name in set(names) for w in writes)


def unlike_scheduled(cp: ControlPlane) -> list[str]:
    """Bound pods of which users read that they are not, and what they read."""
    return [
        f"{pod['metadata']['name']}: {each}"
        for pod in pods(cp)
        if pod["spec"].get("nodeName")
        for each in pod["status"].get("conditions", ())
        if each["type"] == "PodScheduled" and each["status"] != "True" and LATE not in each.get("message", "")
    ]


def test_the_lane_knows_every_field_of_this_kubernetes(control_plane: ControlPlane) -> None:
    schemas = control_plane.api.get("/openapi/v3/api/v1")["components"]["schemas"]
    known = {name.rpartition(".")[2]: set(each.get("properties", ())) for name, each in schemas.items()}

    assert {kind: new for kind, rules in FIELDS.items() if (new := known.get(kind, set()) - set(rules))} == {}


def test_a_burst_is_bound_by_both_lanes_once_each_in_one_write_and_looks_as_users_know_it(lane: Lane) -> None:
    cp, before = lane.cp, lane.count("bound")
    spread = {"maxSkew": 100, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    theirs = {"topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": {"app": "web"}}}]}
    wanted = [a_gpu_pod(f"burst-{i}", mem=6000, cores=8, **(theirs if i % 10 == 0 else {})) for i in range(100)]

    names = lane.burst(*wanted)
    await_bound(cp, *names)

    assert lane.count("bound") - before > 40
    # A write is in the log once it was answered, which may be later than others see what it did.
    await_until(lambda: len(bindings(cp, names)) + given_up(cp, names) >= len(names), "each Binding in the audit log")
    assert set(bindings(cp, names).values()) == {1}
    assert overcommitted(cp) == []
    assert len(unlike := unlike_scheduled(cp)) <= given_up(cp, names), unlike
    await_until(lambda: set(names) <= scheduled_events(cp), "a Scheduled event of each pod")


def scheduled_events(cp: ControlPlane) -> set[str]:
    events = cp.api.get(EVENTS)["items"]
    return {event["regarding"]["name"] for event in events if event["reason"] == "Scheduled"}


def test_cpu_and_pods_of_a_node_are_counted_with_pods_that_never_pass_through_kerf(lane: Lane) -> None:
    """Room for four pods of 300m beside one without a card that holds 700m; five are asked."""
    cp = lane.cp
    plain = a_gpu_pod("plain", nodeSelector={"size": "small"})
    plain["spec"]["containers"] = [{"name": "a", "image": "app", "resources": {"requests": {"cpu": "700m"}}}]
    cp.api.post(PODS, plain)
    await_bound(cp, "plain")

    names = lane.burst(*[asking(f"cpu-{i}", "300m", nodeSelector={"size": "small"}) for i in range(5)])

    await_until(lambda: sum(bool(node_of(cp, name)) for name in names) >= 4, "four pods to be bound")
    await_until(lambda: any("Insufficient cpu" in text for text in refusals(cp)), "the fifth to read why")
    assert sum(bool(node_of(cp, name)) for name in names) == 4


def asking(name: str, cpu: str, **spec: Any) -> dict[str, Any]:
    pod = a_gpu_pod(name, mem=2000, cores=2, **spec)
    resources = pod["spec"]["containers"][0]["resources"]
    resources["requests"] = {**resources["limits"], "cpu": cpu}
    return pod


def refusals(cp: ControlPlane) -> list[str]:
    said = [each for pod in pods(cp) for each in pod["status"].get("conditions", ())]
    return [each.get("message", "") for each in said if each["type"] == "PodScheduled" and each["status"] == "False"]


def test_pods_that_kube_scheduler_never_takes_hold_up_no_other_pod(lane: Lane) -> None:
    """Two are older: one is being deleted, the claim of the other does not exist, and nothing says that they wait."""
    cp = lane.cp
    ending = a_gpu_pod("ending", schedulingGates=[{"name": "example.com/wait"}])
    ending["metadata"]["finalizers"] = ["example.com/stuck"]
    create(cp, ending, a_gpu_pod("claims", resourceClaims=[{"name": "a", "resourceClaimName": "missing"}]))
    cp.api.remove(f"{PODS}/ending", 0)
    cp.api.patch(f"{PODS}/ending", {"spec": {"schedulingGates": None}})
    try:
        await_next_seconds()
        before = lane.count("bound")
        names = lane.burst(*[a_gpu_pod(f"younger-{i}", mem=2000, cores=2) for i in range(60)])
        await_bound(cp, *names)

        assert lane.count("bound") - before > 20
        assert [node_of(cp, name) for name in ("ending", "claims")] == ["", ""]
    finally:
        cp.api.patch(f"{PODS}/ending", {"metadata": {"finalizers": None}})


def await_next_seconds() -> None:
    """Until a pod that is made now is younger, by whole seconds, than those that are there."""
    start = time.monotonic()
    await_until(lambda: time.monotonic() > start + 2, "two seconds to pass")


@pytest.fixture
def no_bindings(fleet: Lane) -> Iterator[str]:
    """An admission policy that refuses the Binding of each pod whose name begins with `refused`; what it says."""
    api, group, why = fleet.cp.api, "/apis/admissionregistration.k8s.io/v1", "not on my cluster"
    meta = {"apiVersion": group.removeprefix("/apis/"), "metadata": {"name": "no-bindings"}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/binding"]}
    checks = {"expression": "!object.metadata.name.startsWith('refused')", "message": why}
    spec = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "validations": [checks]}
    bound = {"policyName": "no-bindings", "validationActions": ["Deny"]}
    api.post(f"{group}/validatingadmissionpolicies", {**meta, "kind": "ValidatingAdmissionPolicy", "spec": spec})
    api.post(
        f"{group}/validatingadmissionpolicybindings",
        {**meta, "kind": "ValidatingAdmissionPolicyBinding", "spec": bound},
    )
    try:
        await_until(lambda: why in why_not_bound(fleet.cp, "refused-at-all"), "the policy to be in force")
        yield why
    finally:
        api.delete(f"{group}/validatingadmissionpolicybindings/no-bindings")
        api.delete(f"{group}/validatingadmissionpolicies/no-bindings")


def why_not_bound(cp: ControlPlane, name: str) -> str:
    target = {"apiVersion": "v1", "kind": "Node", "name": "gpu-0"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    try:
        cp.api.post(f"{PODS}/{name}/binding", binding)
    except ApiError as error:
        return str(error)
    return ""


def test_where_an_admission_policy_refuses_bindings_the_lane_tries_each_pod_once_and_users_read_why(
    lane: Lane, no_bindings: str
) -> None:
    cp, before, refused = lane.cp, lane.count("bound"), lane.count("refused")
    theirs = [a_gpu_pod(f"refused-{i}", mem=2000, cores=2) for i in range(5)]

    lane.burst(*theirs, *[a_gpu_pod(f"other-{i}", mem=2000, cores=2) for i in range(60)])

    await_bound(cp, *[f"other-{i}" for i in range(60)])
    await_until(lambda: sum(no_bindings in text for text in refusals(cp)) == 5, "each owner to read why")
    assert lane.count("bound") - before > 20
    assert lane.count("refused") - refused <= 5
    assert overcommitted(cp) == []


def test_a_node_that_a_preempting_pod_waits_for_is_left_alone(lane: Lane) -> None:
    cp = lane.cp
    gate = {"schedulingGates": [{"name": "example.com/wait"}]}
    cp.api.post(PODS, a_gpu_pod("preempting", **gate))
    cp.api.patch(f"{PODS}/preempting/status", {"status": {"nominatedNodeName": "gpu-0"}})
    await_until(lambda: cp.api.get(f"{PODS}/preempting")["status"].get("nominatedNodeName") == "gpu-0", "its node")
    before = lane.count("bound")

    names = lane.burst(*[a_gpu_pod(f"other-{i}", mem=2000, cores=2) for i in range(60)])
    await_bound(cp, *names)

    mine = lane.count("bound") - before
    assert mine > 20
    assert sum(node_of(cp, name) == "gpu-0" for name in names) <= 60 - mine


def test_a_gang_is_bound_whole(lane: Lane) -> None:
    labels, notes = {"kerf.dev/gang": "red"}, {"kerf.dev/gang-size": "6"}
    whole = [a_gpu_pod(f"red-{i}", mem=81_559, cores=100, labels=labels, annotations=notes) for i in range(6)]

    names = lane.burst(*whole, *[a_gpu_pod(f"small-{i}", mem=2000, cores=2) for i in range(20)])

    await_bound(lane.cp, *names)
    assert overcommitted(lane.cp) == []


def test_a_pod_that_the_kubelet_refuses_is_counted_and_the_next_one_is_bound(lane: Lane) -> None:
    cp, before = lane.cp, lane.count("refused by kubelet")
    names = lane.burst(*[a_gpu_pod(f"first-{i}", mem=2000, cores=2) for i in range(30)])
    await_bound(cp, *names)

    for name in names:  # some of them are kube-scheduler's
        cp.api.patch(f"{PODS}/{name}/status", {"status": {"phase": "Failed", "reason": "OutOfcpu"}})

    await_until(lambda: lane.count("refused by kubelet") > before, "the refusals to be counted")
    await_bound(cp, *lane.burst(*[a_gpu_pod(f"again-{i}", mem=2000, cores=2) for i in range(30)]))


def test_what_was_rejected_does_not_work_on_this_api_server(lane: Lane) -> None:
    """A gated pod cannot be bound, and the scheduler's name of a pod cannot be changed (docs/adr/0016)."""
    cp = lane.cp
    cp.api.post(PODS, a_gpu_pod("gated", schedulingGates=[{"name": "kerf.dev/express"}]))

    assert "non-empty .spec.schedulingGates" in why_not_bound(cp, "gated")
    with pytest.raises(ApiError, match="422"):
        cp.api.patch(f"{PODS}/gated", {"spec": {"schedulerName": "default-scheduler"}})
