"""What Kueue's own manifests let people write: the table in docs/quota.md, for the version of the sandbox."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.wire.kueue import PLURALS, VERSION
from sandbox.build import module_dir
from tests.chart.helm import render

ROOT = Path(__file__).parents[2]
GROUP = "kueue.x-k8s.io"
WRITES = {"create", "delete", "deletecollection", "patch", "update", "*"}
TO_TENANTS = {
    "rbac.authorization.k8s.io/aggregate-to-edit",
    "rbac.authorization.k8s.io/aggregate-to-admin",
    "rbac.authorization.k8s.io/aggregate-to-view",
    "rbac.kueue.x-k8s.io/batch-user",
}
"""Labels by which a ClusterRole becomes a part of those that tenants usually have."""
Rule = tuple[str, str, str]


pytestmark = pytest.mark.cluster  # it reads the source that Kueue is built from, which may have to be fetched first


def module() -> Path:
    return module_dir("kueue", "sigs.k8s.io/kueue") / "config/components"


def roles() -> Iterator[tuple[str, dict[str, str], set[Rule]]]:
    """Every ClusterRole: its name, its labels, and (verb, group, resource) of its rules."""
    for path in sorted((module() / "rbac").glob("*.yaml")):
        for item in yaml.safe_load_all(path.read_text()):
            if item and item.get("kind") == "ClusterRole":
                rules: list[dict[str, Any]] = item.get("rules") or []
                found = {
                    (verb, group, resource)
                    for rule in rules
                    for verb in rule["verbs"]
                    for group in rule.get("apiGroups", ())
                    for resource in rule.get("resources", ())
                }
                yield item["metadata"]["name"], item["metadata"].get("labels") or {}, found


def writable(rules: set[Rule]) -> set[str]:
    """The resources of Kueue's own group that the rules let one write."""
    return {resource for verb, group, resource in rules if group == GROUP and verb in WRITES}


def test_no_role_that_tenants_usually_have_writes_kueues_objects() -> None:
    found = {name: writable(rules) for name, labels, rules in roles() if TO_TENANTS & labels.keys()}

    assert len(found) > 10
    assert {name: resources for name, resources in found.items() if resources} == {}


def test_batch_admins_write_these_objects_and_no_status() -> None:
    found = {
        resource
        for _, labels, rules in roles()
        if "rbac.kueue.x-k8s.io/batch-admin" in labels
        for resource in writable(rules)
    }

    assert found == {"clusterqueues", "cohorts", "localqueues", "resourceflavors", "topologies", "workloads"}
    page = (ROOT / "docs/quota.md").read_text()
    assert [name for name in sorted(found) if f"`{name}`" not in page] == []


def test_admission_is_written_by_kueues_manager_alone() -> None:
    found = {name for name, _, rules in roles() if {"workloads/status", "admissionchecks/status"} & writable(rules)}

    assert found == {"manager-role"}


def test_the_manager_may_open_gates_and_end_pods_which_is_what_quota_relies_on() -> None:
    rules = next(rules for name, _, rules in roles() if name == "manager-role")

    needed = {("patch", "", "pods"), ("update", "", "pods"), ("delete", "", "pods"), ("patch", "batch", "jobs")}
    assert needed <= rules


def test_all_that_kerf_writes_and_follows_of_kueue_is_served_in_the_version_that_it_names() -> None:
    crds = [yaml.safe_load(path.read_text()) for path in (module() / "crd/bases").glob("*.yaml")]
    served = {
        crd["spec"]["names"]["plural"]
        for crd in crds
        for version in crd["spec"]["versions"]
        if version["served"] and f"{crd['spec']['group']}/{version['name']}" == VERSION
    }
    named = {
        resource.partition("/")[0]
        for item in render(
            "quota.enabled=true",
            "quota.kueue.enabled=true",
            "quota.kueue.multikueue.enabled=true",
            "quota.kueue.multikueue.secrets={a}",
        )
        if item["kind"] in {"ClusterRole", "Role"}
        for rule in item["rules"]
        if GROUP in rule.get("apiGroups", ())
        for resource in rule["resources"]
    }

    assert named
    assert named <= served
    assert set(PLURALS.values()) <= served
