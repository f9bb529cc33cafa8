"""A value does what its comment says, whatever the other values are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, ROOT, Refused, containers, one, parse, render, run, template

pytestmark = pytest.mark.chart
FILES = {"caFile": "ca.crt", "certFile": "tls.crt", "keyFile": "tls.key"}


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


def documented_fleets() -> list[str]:
    """The values of docs/vendors.md that name vendors."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "vendors.md").read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if block.startswith("vendors:")]


def test_the_documented_fleet_of_vendors_is_what_a_user_gets(tmp_path: Path):
    fleet, lone = documented_fleets()
    (tmp_path / "fleet.yaml").write_text(fleet)
    objects = parse(template("--values", str(tmp_path / "fleet.yaml")))
    webhook = containers(objects)["webhook"]["args"]
    named = yaml.safe_load(fleet)["vendors"]
    users = [user for vendor in named.values() for user in vendor["pluginUsers"]]

    assert [o["metadata"]["name"] for o in objects if o["kind"] == "DaemonSet"] == ["kerf-deviceplugin-nvidia"]
    classes = ["--runtime-class=ascend910b3=ascend", "--runtime-class=nvidia=nvidia"]
    assert [each for each in webhook if each.startswith("--runtime-class")] == classes
    assert {f"--trusted-user={user}" for user in users} <= set(webhook)
    policy = one(objects, "ValidatingAdmissionPolicy", "kerf-grant")["spec"]
    assert all(user in policy["matchConditions"][0]["expression"] for user in users)

    (tmp_path / "lone.yaml").write_text(lone)
    alone = template("--values", str(tmp_path / "lone.yaml"))
    assert "DaemonSet" not in {each["kind"] for each in parse(alone)}
    assert "nvidia.com/" not in alone


def test_what_helm_says_after_an_install_fits_the_vendors():
    def said(*values: str) -> str:
        sets = [argument for value in values for argument in ("--set", value)]
        return run("install", "kerf", str(CHART), "--dry-run=client", *sets).partition("NOTES:")[2]

    alone = said("vendors.nvidia=null", "vendors.hygon.pluginUsers[0]=a")
    assert "No node offers cards through a device plugin of this release" in alone
    assert "Cards of hygon are served by those vendors' own device plugins" in alone
    assert "pluginUsers is empty" not in alone
    assert "nvidia" not in alone
    beside = said("vendors.hygon=null", "vendors.amd.pluginEnv.A=b")
    assert "must not run another device plugin for nvidia.com/gpu.)" in beside
    assert "vendors.amd.pluginUsers is empty" in beside


def test_the_extenders_certificate_comes_from_the_webhook_and_everyone_who_asks_shows_it():
    objects = render("scheduler.extender.tls.source=self-managed")
    scheduler = one(objects, "Deployment", "kerf-scheduler")["spec"]["template"]["spec"]
    webhook = one(objects, "Deployment", "kerf-webhook")["spec"]["template"]["spec"]
    configuration = one(objects, "ConfigMap", "kerf-kube-scheduler")["data"]["config.yaml"]
    role = one(objects, "Role", "kerf-webhook")
    files = {name: f"/etc/kerf-extender-tls/{file}" for name, file in FILES.items()}

    (extender,) = yaml.safe_load(configuration)["extenders"]
    assert (extender["urlPrefix"], extender["enableHTTPS"]) == ("https://127.0.0.1:9090", True)
    assert extender["tlsConfig"] == {"serverName": "kerf-scheduler.kerf-system.svc", **files}
    for container in scheduler["containers"]:
        assert "/etc/kerf-extender-tls" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert "--client-ca=/etc/kerf-extender-tls/ca.crt" in scheduler["containers"][0]["args"]
    assert {"--extender-secret=kerf-scheduler-cert", "--scheduler-key=/etc/kerf-extender-tls/tls.key"} <= set(
        webhook["containers"][0]["args"]
    )
    one(objects, "Secret", "kerf-scheduler-cert")
    (named,) = [rule["resourceNames"] for rule in role["rules"] if "update" in rule["verbs"]]
    assert named == ["kerf-webhook-cert", "kerf-scheduler-cert"]
    mounted = [volume["secret"] for volume in scheduler["volumes"] if volume["name"] == "extender-tls"]
    assert "ca.key" not in str(mounted)


def test_the_extenders_certificate_needs_a_webhook_that_makes_its_own():
    with pytest.raises(Refused, match=r"scheduler\.extender\.tls\.source: self-managed: the webhook makes"):
        render("scheduler.extender.tls.source=self-managed", "webhook.certificates.source=cert-manager")


def test_the_values_of_the_migration_let_kerfs_plugin_come_by_its_own_label_alone(tmp_path: Path) -> None:
    """Helm adds a selector's labels to the chart's own: Kerf's plugin would wait for the label that HAMi's needs."""
    page = (ROOT / "docs" / "migrate-from-hami.md").read_text()
    values = tmp_path / "values.yaml"
    values.write_text(page.split("```yaml\n", 1)[1].split("```", 1)[0])
    plugin = one(parse(template("--values", str(values))), "DaemonSet", "kerf-deviceplugin-nvidia")

    assert plugin["spec"]["template"]["spec"]["nodeSelector"] == {"kerf.dev/node": "on"}


def test_the_values_for_both_side_by_side_let_kerfs_plugin_stay_on_the_nodes_that_are_kept_from_hami(
    tmp_path: Path,
) -> None:
    page = (ROOT / "docs" / "migrate-from-hami.md").read_text()
    values = tmp_path / "values.yaml"
    values.write_text(page.split("## Run both for longer", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0])
    plugin = one(parse(template("--values", str(values))), "DaemonSet", "kerf-deviceplugin-nvidia")
    own = one(render(), "DaemonSet", "kerf-deviceplugin-nvidia")["spec"]["template"]["spec"]["tolerations"]

    tolerated = {"key": "kerf.dev/node", "operator": "Exists", "effect": "NoSchedule"}
    assert plugin["spec"]["template"]["spec"]["tolerations"] == [*own, tolerated]
