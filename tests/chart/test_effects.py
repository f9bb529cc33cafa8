"""A value does what its comment says, whatever the other values are."""

import json
from typing import Any

import pytest

from tests.chart.helm import one, parse, render, template

pytestmark = pytest.mark.chart


def pool(**itself: Any) -> dict[str, Any]:
    """The pod's spec of a pool `a` that has a class, tolerations and arguments to inherit."""
    plugin = {"runtimeClassName": "nvidia", "extraArgs": ["--inherited"]}
    pools = [{"name": "a", "nodeSelector": {"gpu": "a"}, **itself}]
    objects = parse(template("--set-json", f"devicePlugin={json.dumps({**plugin, 'pools': pools})}"))
    spec: dict[str, Any] = one(objects, "DaemonSet", "kerf-deviceplugin-a")["spec"]["template"]["spec"]
    return spec


def test_a_pool_has_what_all_have():
    spec = pool()

    assert spec["runtimeClassName"] == "nvidia"
    assert [each["key"] for each in spec["tolerations"]] == ["nvidia.com/gpu"]
    assert "--inherited" in spec["containers"][0]["args"]


def test_a_pool_may_do_without_what_all_have():
    spec = pool(runtimeClassName="", tolerations=[], extraArgs=[])

    assert "runtimeClassName" not in spec
    assert "tolerations" not in spec
    assert "--inherited" not in spec["containers"][0]["args"]


@pytest.mark.parametrize("annotations", [(), ("global.annotations.owner=platform",)])
def test_a_service_monitors_labels_are_labels(annotations):
    labels = ("global.labels.team=platform", "serviceMonitor.labels.release=prometheus")
    objects = render("serviceMonitor.enabled=true", *labels, *annotations)
    found = [each["metadata"] for each in objects if each["kind"] == "ServiceMonitor"]

    assert len(found) == 3
    for metadata in found:
        assert (metadata["labels"]["release"], metadata["labels"]["team"]) == ("prometheus", "platform")
        assert metadata.get("annotations", {}) == ({"owner": "platform"} if annotations else {})


def certificate(*values: str) -> dict[str, Any]:
    objects = render("webhook.certificates.source=cert-manager", *values)
    spec: dict[str, Any] = one(objects, "Certificate", "kerf-webhook")["spec"]
    return spec


@pytest.mark.parametrize(
    ("host", "names", "addresses"),
    [
        ("webhook.example.com", ["webhook.example.com"], []),
        ("10.1.2.3", [], ["10.1.2.3"]),
        ("[fd00::1]", [], ["fd00::1"]),
    ],
)
def test_cert_managers_certificate_names_the_host_that_api_servers_call(host, names, addresses):
    service = certificate()
    spec = certificate("webhook.customURL.enabled=true", f"webhook.customURL.host={host}")

    assert spec["dnsNames"] == service["dnsNames"] + names
    assert spec.get("ipAddresses", []) == addresses
    assert "ipAddresses" not in service


def test_the_api_server_can_judge_a_job_set_without_jobs():
    hooks = one(render("quota.enabled=true"), "MutatingWebhookConfiguration", "kerf-webhook")["webhooks"]
    (job_sets,) = (hook for hook in hooks if hook["name"] == "jobsets.kerf.dev")
    (condition,) = job_sets["matchConditions"]

    assert condition["expression"].startswith("has(object.spec.replicatedJobs) && object.spec.replicatedJobs.exists(")


TOY = (
    *(
        f"vendors.toy.resource{word}=toy.example/{name}"
        for word, name in (
            ("Name", "npu"),
            ("Mem", "mem"),
            ("MemPercentage", "mem-percentage"),
            ("Cores", "cores"),
            ("Priority", "priority"),
        )
    ),
    "vendors.toy.pluginEnv.TOY_DRIVER=/opt/toy",
    "devicePlugin.toyNodeSelector.toy=on",
)


def test_a_further_vendor_is_values_alone():
    objects = render(*TOY)

    (plugin,) = [o for o in objects if o["kind"] == "DaemonSet" and o["metadata"]["name"] == "kerf-deviceplugin-toy"]
    (container,) = plugin["spec"]["template"]["spec"]["containers"]
    assert "--resource=toy.example/npu" in container["args"]
    assert {"name": "TOY_DRIVER", "value": "/opt/toy"} in container["env"]
    assert not any(entry["name"].startswith("NVIDIA") for entry in container["env"])
    assert plugin["spec"]["template"]["spec"]["nodeSelector"] == {"toy": "on"}
    configuration = str(one(objects, "ConfigMap", "kerf-kube-scheduler"))
    assert "{name: toy.example/npu, ignoredByScheduler: false}" in configuration
    assert "{name: quota.kerf.dev/toy-mib, ignoredByScheduler: true}" in configuration
    assert "toy.example/npu" in str(one(objects, "MutatingWebhookConfiguration", "kerf-webhook"))
