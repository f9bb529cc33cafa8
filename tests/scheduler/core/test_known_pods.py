"""Which pods the express lane may take: a case for every field of the PodSpec of the newest Kubernetes (1.37)."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from kerf.testing.builders import a_container, a_pod
from scheduler.core.known_pods import why_not
from scheduler.core.pod_fields import FIELDS, VOLUMES

TERM = {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]}
REQUIRED, PREFERRED = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))
TAKEN: dict[str, Any] = {
    "activeDeadlineSeconds": 60,
    "affinity": {
        "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [TERM]}, PREFERRED: [{"weight": 1, "preference": TERM}]}
    },
    "automountServiceAccountToken": False,
    "containers": [a_container()],
    "dnsConfig": {"nameservers": ["10.0.0.10"]},
    "dnsPolicy": "None",
    "enableServiceLinks": True,
    "ephemeralContainers": [{"name": "debug"}],
    "evictionResponders": [{"name": "saver.example.com"}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
    "hostIPC": True,
    "hostNetwork": True,
    "hostPID": True,
    "hostUsers": False,
    "hostname": "a",
    "hostnameOverride": "a.example.com",
    "imagePullSecrets": [{"name": "a"}],
    "initContainers": [a_container("fetch", restartPolicy="Always")],
    "nodeName": "",
    "nodeSelector": {"gpu": "h100"},
    "os": {"name": "linux"},
    "overhead": {"cpu": "100m"},
    "preemptionPolicy": "Never",
    "priority": 1000,
    "priorityClassName": "high",
    "readinessGates": [{"conditionType": "a"}],
    "resourceClaims": [],
    "resources": {"requests": {"cpu": "2"}},
    "restartPolicy": "Never",
    "runtimeClassName": "nvidia",
    "schedulerName": "kerf-scheduler",
    "schedulingGates": [],
    "schedulingGroup": None,
    "securityContext": {"runAsUser": 1000},
    "serviceAccount": "a",
    "serviceAccountName": "a",
    "setHostnameAsFQDN": False,
    "shareProcessNamespace": True,
    "subdomain": "a",
    "terminationGracePeriodSeconds": 5,
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}],
    "topologySpreadConstraints": [],
    "volumes": [{"name": kind, kind: {}} for kind in sorted(VOLUMES)],
    "workloadRef": None,
}
"""A value of every field with which the lane takes the pod."""
UNKNOWN, PODS_DECIDE = "it is not known to Kerf", "it depends on other pods"
OLD_NODES = "nodes that are older than the API server may not know it"
BINDS = "such a volume may bind a pod to nodes"
LEFT: list[tuple[str, Any, str]] = [
    ("affinity", {"podAffinity": {REQUIRED: [{}]}}, f"spec.affinity.podAffinity: {PODS_DECIDE}"),
    ("affinity", {"podAntiAffinity": {PREFERRED: [{}]}}, f"spec.affinity.podAntiAffinity: {PODS_DECIDE}"),
    ("affinity", {"cardAffinity": {}}, f"spec.affinity.cardAffinity: {UNKNOWN}"),
    ("affinity", "near", "spec.affinity: it is no object"),
    ("affinity", {"nodeAffinity": {"alwaysRequired": {}}}, f"spec.affinity.nodeAffinity.alwaysRequired: {UNKNOWN}"),
    (
        "affinity",
        {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchFields": [{"operator": "Near"}]}]}}},
        f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchFields[0].operator: 'Near' {UNKNOWN[3:]}",
    ),
    (
        "containers",
        [a_container(ports=[{"hostPort": 80}])],
        "spec.containers[0].ports[0].hostPort: a port of the node may be taken",
    ),
    (
        "containers",
        [a_container(volumeDevices=[{}])],
        "spec.containers[0].volumeDevices: a block device may bind a pod to nodes",
    ),
    (
        "containers",
        [a_container(restartPolicyRules=[{}])],
        "spec.containers[0].restartPolicyRules: a rule may need a feature that not every node has",
    ),
    ("containers", [a_container(cardPolicy="x")], f"spec.containers[0].cardPolicy: {UNKNOWN}"),
    ("containers", [{"resources": {"claims": [{}]}}], "spec.containers[0].resources.claims: devices are claimed"),
    ("containers", ["main"], "spec.containers[0]: it is no object"),
    ("initContainers", [a_container("a"), a_container("b", x=1)], f"spec.initContainers[1].x: {UNKNOWN}"),
    ("initContainers", "none", "spec.initContainers: it is no list"),
    ("nodeName", "node-1", "spec.nodeName: the pod has a node"),
    (
        "containers",
        [a_container(livenessProbe={"httpGet": {"port": 80, "protocol": "HTTP/2"}})],
        f"spec.containers[0].livenessProbe.httpGet.protocol: {OLD_NODES}",
    ),
    ("securityContext", {"runAsCard": 1}, f"spec.securityContext.runAsCard: {UNKNOWN}"),
    ("containers", [a_container(ports=[{"x": 1}])], f"spec.containers[0].ports[0].x: {UNKNOWN}"),
    ("dnsConfig", {"options": [{"x": 1}]}, f"spec.dnsConfig.options[0].x: {UNKNOWN}"),
    ("volumes", [{"name": "a", "emptyDir": {"onCard": True}}], f"spec.volumes[0].emptyDir.onCard: {UNKNOWN}"),
    ("volumes", [{"emptyDir": {"mode": 511}}], f"spec.volumes[0].emptyDir.mode: {OLD_NODES}"),
    (
        "volumes",
        [{"projected": {"sources": [{"cardCertificate": {}}]}}],
        f"spec.volumes[0].projected.sources[0].cardCertificate: {UNKNOWN}",
    ),
    ("resourceClaims", [{"name": "a"}], "spec.resourceClaims: devices are claimed"),
    ("resources", {"claims": [{"name": "a"}]}, "spec.resources.claims: devices are claimed"),
    ("schedulingGates", [{"name": "kueue.x-k8s.io/admission"}], "spec.schedulingGates: a gate holds the pod back"),
    ("schedulingGroup", {"podGroupName": "a"}, "spec.schedulingGroup: kube-scheduler places the group"),
    ("tolerations", [{"key": "a", "operator": "Gt"}], "spec.tolerations[0].operator: 'Gt' is not known to Kerf"),
    ("tolerations", [{"key": "a", "whenLonely": True}], f"spec.tolerations[0].whenLonely: {UNKNOWN}"),
    ("topologySpreadConstraints", [{"maxSkew": 1}], f"spec.topologySpreadConstraints: {PODS_DECIDE}"),
    ("volumes", [{"emptyDir": {}}, {"persistentVolumeClaim": {}}], f"spec.volumes[1].persistentVolumeClaim: {BINDS}"),
    ("volumes", [{"name": "a", "ephemeral": {}}], f"spec.volumes[0].ephemeral: {BINDS}"),
    ("volumes", [{"name": "a", "csi": {"driver": "x"}}], f"spec.volumes[0].csi: {BINDS}"),
    ("workloadRef", {"name": "a"}, "spec.workloadRef: kube-scheduler places the workload"),
]


def left(field: str, value: object) -> str:
    return why_not(a_pod(containers=value) if field == "containers" else a_pod(spec={field: value}))


@pytest.mark.parametrize("field", sorted(TAKEN))
def test_a_field_that_the_lane_understands_or_that_does_not_limit_the_node_lets_the_pod_pass(field: str) -> None:
    assert left(field, TAKEN[field]) == ""


@pytest.mark.parametrize(("field", "value", "why"), LEFT)
def test_a_constraint_that_only_kube_scheduler_can_weigh_leaves_the_pod(field: str, value: object, why: str) -> None:
    assert left(field, value) == why


def test_every_known_field_has_its_case() -> None:
    assert set(TAKEN) == set(FIELDS["PodSpec"])


def newest() -> dict[str, Any]:
    """What the newest Kubernetes says of each kind of object."""
    schemas = (Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema").glob("v*-local")
    newest = max(schemas, key=lambda path: [int(part) for part in path.name[1:].split("-")[0].split(".")])
    found = json.loads((newest / "_definitions.json").read_text())
    return {name.rpartition(".")[2]: each for name, each in (found.get("$defs") or found["definitions"]).items()}


@pytest.mark.parametrize("kind", FIELDS)
def test_the_lane_has_a_rule_for_every_field_of_the_newest_kubernetes(kind: str) -> None:
    known = newest()[kind]["properties"]

    assert set(known) - set(FIELDS[kind]) == set()
    assert set(FIELDS[kind]) - set(known) <= {"workloadRef"}  # a field of Kubernetes 1.35


def test_an_object_at_any_depth_has_a_table_or_is_left_whole() -> None:
    """An unknown field is put into each object that a field of a known kind may hold."""
    kinds = newest()
    for kind, rules in FIELDS.items():
        for field, schema in kinds[kind]["properties"].items():
            within = schema.get("items", schema)
            (ref,) = [within["$ref"]] if "$ref" in within else [one["$ref"] for one in within.get("allOf", ())] or [""]
            if "properties" in kinds.get(ref.rpartition(".")[2], {}) and field not in VOLUMES:
                value = {"cardPolicy": "strict"}
                assert rules[field]([value] if "items" in schema else value) != "", f"{kind}.{field}"


@pytest.mark.parametrize("value", [{"a": 1}, False, "", []])
def test_a_field_of_a_kubernetes_that_is_newer_than_kerf_leaves_the_pod(value: object) -> None:
    assert left("cardPolicy", value) == f"spec.cardPolicy: {UNKNOWN}"


def test_a_field_of_a_container_that_is_newer_than_kerf_leaves_the_pod() -> None:
    assert "cardPolicy" not in FIELDS["Container"]
    assert left("initContainers", [a_container(cardPolicy=False)]) == f"spec.initContainers[0].cardPolicy: {UNKNOWN}"


def test_a_pod_with_every_harmless_field_at_once_is_taken() -> None:
    assert why_not({**a_pod(), "spec": {**TAKEN, "hostUsers": True}}) == ""


def test_user_namespaces_on_the_nodes_network_need_a_feature_of_the_node() -> None:
    assert why_not(a_pod(spec={"hostNetwork": True, "hostUsers": False})).startswith("spec.hostUsers: ")


def test_a_pod_that_ends_or_that_waits_for_a_certain_node_is_left() -> None:
    ending, nominated = a_pod(), a_pod()
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    nominated["status"]["nominatedNodeName"] = "node-1"

    assert why_not(ending) == "metadata.deletionTimestamp: the pod is ending"
    assert why_not(nominated) == "status.nominatedNodeName: kube-scheduler has a node in mind for it"


@pytest.mark.parametrize("pod", [{}, {"spec": None}, {"spec": []}, {"spec": {"volumes": ["a"]}}, {"spec": "x"}])
def test_a_document_that_is_no_pod_is_left(pod: dict[str, Any]) -> None:
    assert why_not(pod) != ""
