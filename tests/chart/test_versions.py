"""Every object is valid for every Kubernetes version that the chart supports, by that version's schemas."""

from typing import Any

import kubernetes_validate
import pytest

from tests.chart import golden
from tests.chart.helm import CASES, Refused, containers, parse, render, template

pytestmark = pytest.mark.chart

VERSIONS = ("1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
BEFORE_CLAIMS = VERSIONS[: VERSIONS.index("1.34")]
FOREIGN = frozenset({"ServiceMonitor", "PrometheusRule", "Certificate", "Issuer"})
"""Kinds of other projects, of which kubernetes-validate has no schema."""


def rendered(name: str, version: str, *more: str) -> list[dict[str, Any]]:
    return parse(template("--values", str(CASES / f"{name}.yaml"), *more, version=f"{version}.0"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", golden.names())
def test_a_case_is_valid_for(name, version):
    if name == "dra" and version in BEFORE_CLAIMS:
        with pytest.raises(Refused, match=r"ResourceClaims need 1\.34"):
            rendered(name, version)
        return
    objects = [each for each in rendered(name, version) if each["kind"] not in FOREIGN]

    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
    assert len(objects) > 20


def test_the_newest_version_with_schemas_is_among_them():
    assert VERSIONS[-1] == ".".join(kubernetes_validate.latest_version().split(".")[:2])


def test_validation_would_notice_a_misspelt_field():
    daemon_set = next(each for each in rendered("default", "1.36") if each["kind"] == "DaemonSet")
    daemon_set["spec"]["template"]["spec"]["hostPid"] = True

    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        kubernetes_validate.validate(daemon_set, "1.36", strict=True)


@pytest.mark.parametrize(
    ("version", "tag"),
    [("v1.33.4-gke.1", "v1.33.4"), ("v1.30.1+k3s1", "v1.30.1"), ("1.30", "v1.30.0"), ("1.36.3", "v1.36.3")],
)
def test_kube_scheduler_is_of_the_clusters_version_in_every_distribution(version, tag):
    image = containers(render(version=version))["kube-scheduler"]["image"]

    assert image == f"registry.k8s.io/kube-scheduler:{tag}"


def policies(*more: str, version: str) -> set[str]:
    objects = rendered("default", version, *more)
    return {each["apiVersion"] for each in objects if each["kind"] == "ValidatingAdmissionPolicy"}


def test_policies_are_v1_where_that_exists_and_beta_where_it_was_switched_on():
    beta = "admissionregistration.k8s.io/v1beta1"

    assert policies(version="1.30") == {"admissionregistration.k8s.io/v1"}
    assert policies(version="1.29") == set()
    assert policies("--api-versions", f"{beta}/ValidatingAdmissionPolicy", version="1.29") == {beta}
    assert policies("--set", "admissionPolicies.enabled=false", version="1.36") == set()


def test_a_plugin_is_held_to_its_own_node_where_tokens_name_one():
    def says_own_node(version: str) -> bool:
        return "authentication.kubernetes.io/node-name" in template(
            "--set", "admissionPolicies.enabled=true", version=version
        )

    assert [says_own_node(version) for version in ("1.29.0", "1.30.0", "1.36.3")] == [False, True, True]


@pytest.mark.parametrize(("version", "slices"), [("1.34", False), ("1.35", False), ("1.36", True), ("1.37", True)])
def test_slices_are_a_class_from_1_36_and_refused_by_name_before(version, slices):
    objects = rendered("dra", version)
    classes = {each["metadata"]["name"] for each in objects if each["kind"] == "DeviceClass"}
    policies = {each["metadata"]["name"] for each in objects if each["kind"] == "ValidatingAdmissionPolicy"}

    assert classes == {"card.gpu.kerf.dev", *(["slice.gpu.kerf.dev", "mig.gpu.kerf.dev"] if slices else [])}
    assert ({"kerf-no-slice-claims", "kerf-no-slice-templates"} <= policies) is not slices
    assert {"kerf-own-slices", "kerf-one-pod-a-claim"} <= policies


def test_quotas_beside_claims_need_the_policies_that_bound_claims():
    with pytest.raises(Refused, match="keep claims within what tenants may have"):
        rendered("dra", "1.36", "--set", "admissionPolicies.enabled=false")
    rendered("dra", "1.36", "--set", "admissionPolicies.enabled=false,quota.enabled=false")
