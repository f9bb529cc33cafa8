"""The chart agrees with the daemons, the sandbox and the codecs."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import deviceplugin.main
import deviceplugin.mps.main
import scheduler.main
import scheduler.usage.main
import webhook.main
from kerf.values.fault import Verdict
from kerf.values.learned import LearningMode, LearningSettings
from kerf.values.policy import DriverLimits, MpsDaemon, Pool, PoolMode, QuotaEngine, SchedulingPolicy
from kerf.values.recovery import RecoveryMode
from kerf.values.vendor import fixed_keys, written_keys
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.policy import parse_policy
from sandbox import Extender, render_scheduler_configuration
from sandbox.documents import MAKERS, PODS, TENANTS
from tests.chart import vendors
from tests.chart.helm import CASES, CHART, NAMESPACE, ROOT, Refused, containers, one, parse, render, template

pytestmark = pytest.mark.chart
SETTINGS = {
    "extender": scheduler.main.Settings,
    "webhook": webhook.main.Flags,
    "deviceplugin": deviceplugin.main.Settings,
    "mps": deviceplugin.mps.main.Settings,
    "usage": scheduler.usage.main.Settings,
}


def everything() -> list[dict[str, Any]]:
    return parse(template("--values", str(CASES / "everything.yaml")))


def kube_scheduler_configuration(*values: str) -> dict[str, Any]:
    text = one(render(*values), "ConfigMap", "kerf-kube-scheduler")["data"]["config.yaml"]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_kube_scheduler_is_configured_as_in_the_sandbox():
    ours = render_scheduler_configuration("", Extender("http://127.0.0.1:9090", words=NAMES[:1]))
    charts = kube_scheduler_configuration()

    del ours["clientConnection"]["kubeconfig"]  # in a pod it is the service account
    ours["leaderElection"] = charts["leaderElection"]  # the sandbox has one replica
    assert charts == ours


def test_one_replica_without_election_is_configured_as_in_the_sandbox_to_the_letter():
    ours = render_scheduler_configuration("", Extender("http://127.0.0.1:9090", words=NAMES[:1]))
    charts = kube_scheduler_configuration("scheduler.replicas=1", "scheduler.leaderElect=false")

    assert charts["leaderElection"] == ours["leaderElection"]


def test_the_notes_give_a_scheduler_of_ones_own_the_same_profile_and_extender():
    text = (CHART / "templates" / "NOTES.txt").read_text()

    assert 'include "kerf.profile"' in text
    assert 'include "kerf.extender"' in text


@pytest.mark.parametrize("daemon", SETTINGS)
@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_a_daemon_knows_every_flag_it_is_given(daemon, case):
    objects = parse(template("--values", str(CASES / f"{case}.yaml")))
    given = {flag_of(argument) for argument in containers(objects).get(daemon, {"args": []})["args"]}
    known = {"--" + field.name.replace("_", "-") for field in dataclasses.fields(SETTINGS[daemon])}

    assert given - known == set()


def test_the_api_server_asks_the_webhook_about_what_it_answers():
    hooks = one(everything(), "MutatingWebhookConfiguration", "kerf-webhook")["webhooks"]
    rules = [rule for hook in hooks for rule in hook["rules"]]
    charts = {
        (g, v, r) for rule in rules for g in rule["apiGroups"] for v in rule["apiVersions"] for r in rule["resources"]
    }

    assert charts == {(rule.group, rule.version, r) for rule in (*PODS, *MAKERS, *TENANTS) for r in rule.resources}
    assert {tuple(rule["operations"]) for rule in rules} == {("CREATE", "UPDATE")}


def flag_of(argument: str) -> str:
    return argument.partition("=")[0]


def policy_of(objects: list[dict[str, Any]]) -> SchedulingPolicy:
    return parse_policy(yaml.safe_load(one(objects, "ConfigMap", "kerf-policy")["data"]["policy.yaml"]))


def test_the_default_policy_is_the_daemons_own_but_for_quota():
    off = dataclasses.replace(SchedulingPolicy().quota, engine=QuotaEngine.OFF)

    assert policy_of(render()) == dataclasses.replace(SchedulingPolicy(), quota=off)


def test_the_policy_of_every_value_is_one_that_the_daemons_read():
    policy = policy_of(everything())

    assert (policy.nodes, policy.cards, policy.weights) == ("binpack", ("mutex", "topology", "numa"), (1, 2, 3))
    assert policy.pools == (
        Pool(
            "batch",
            (("pool", "batch"),),
            1.0,
            2.0,
            RecoveryMode.RECOVER,
            PoolMode.AUTO,
            MpsDaemon.NODE,
            DriverLimits.AUTO,
        ),
        Pool("everywhere-else", (), 1.2, 2.0),
    )
    assert policy.learning == LearningSettings(LearningMode.APPLY, 3, 12.0)
    assert (policy.recovery.mode, policy.recovery.codes) == (RecoveryMode.CORDON, ((109, Verdict.CORDON),))
    assert (policy.quota.engine, policy.quota.reserve_percent) == (QuotaEngine.KUEUE, 5)


def test_what_the_schema_lets_through_the_policy_does_too():
    properties = json.loads((CHART / "values.schema.json").read_text())["properties"]["policy"]["properties"]
    whole = {"weights": {"slot": 1, "core": 1, "memory": 1}}
    edges = [
        (name, key, bounds[edge])
        for name, schema in properties.items()
        for key, bounds in schema.get("properties", {}).items()
        for edge in {"minimum", "maximum"} & bounds.keys()
    ]

    assert len(edges) > 20
    for name, key, value in edges:
        spec = {name: {**whole.get(name, {}), key: value}}
        parse_policy({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec})


def test_secrets_and_accounts_live_in_the_releases_namespace_alone():
    elsewhere = {
        (each["kind"], each["metadata"]["name"])
        for each in everything()
        if each["metadata"].get("namespace", NAMESPACE) != NAMESPACE
    }

    assert elsewhere == {
        ("RoleBinding", "kerf-kube-scheduler-authentication"),
        ("Role", "kerf-scheduler-gateways"),
        ("RoleBinding", "kerf-scheduler-gateways"),
        ("Role", "kerf-scheduler-workers"),
        ("RoleBinding", "kerf-scheduler-workers"),
    }


def test_nothing_runs_with_more_than_it_needs():
    """But for the device plugin, which here sets limits in the driver: that needs a privileged container."""
    found = containers(everything())

    assert set(found) == {"extender", "kube-scheduler", "webhook", "deviceplugin", "limiter", "mps", "usage"}
    privileged = []
    for name, container in (*found.items(), *containers(render()).items()):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"], name
        if context.get("privileged"):
            privileged.append(name)
            continue
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert (context["runAsUser"] == 0) == (name in {"deviceplugin", "limiter", "mps"}), name
    assert privileged == ["deviceplugin"]


def test_mps_daemons_run_where_a_pool_asks_for_them_and_no_upgrade_ends_them():
    plain = [each["metadata"]["name"] for each in render() if each["kind"] == "DaemonSet"]
    found = {each["metadata"]["name"]: each["spec"] for each in everything() if each["kind"] == "DaemonSet"}

    assert [name for name in plain if "mps" in name] == []
    assert sorted(name for name in found if "mps" in name) == ["kerf-mps-h200", "kerf-mps-nvidia", "kerf-mps-trial"]
    daemon = found["kerf-mps-h200"]
    assert daemon["updateStrategy"] == {"type": "OnDelete"}
    assert (
        daemon["template"]["spec"]["nodeSelector"]
        == found["kerf-deviceplugin-h200"]["template"]["spec"]["nodeSelector"]
    )
    assert daemon["template"]["spec"]["automountServiceAccountToken"] is False


def test_only_a_kernel_log_that_is_a_device_makes_the_device_plugin_privileged():
    plain = containers(render("devicePlugin.kernelLog=/var/log/kern.log"))["deviceplugin"]
    device = containers(render("devicePlugin.kernelLog=/dev/kmsg"))["deviceplugin"]

    assert ("privileged" in plain["securityContext"], device["securityContext"]["privileged"]) == (False, True)
    assert "--kernel-log=/dev/kmsg" in device["args"]


def test_the_charts_version_is_the_packages():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (Path(CHART).parents[1] / "pyproject.toml").read_text()

    assert f'version = "{chart["appVersion"]}"' in project


def test_every_file_that_the_chart_names_exists():
    texts = [path.read_text() for path in CHART.rglob("*") if path.is_file()]
    named = {name for text in texts for name in re.findall(r"\b(?:docs|tests)/[\w/-]+\.\w+", text)}

    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_the_chart_knows_every_vendor_as_the_daemons_do():
    assert vendors.FILE.read_text() == vendors.text_of()  # python -m tests.chart.vendors writes it again


def test_kube_scheduler_is_configured_for_other_vendors_as_in_the_sandbox():
    chosen = tuple(names for names in NAMES if names.vendor in {"nvidia", "hygon", "metax"})
    ours = render_scheduler_configuration("", Extender("http://127.0.0.1:9090", words=chosen))
    charts = kube_scheduler_configuration("vendors.hygon.pluginUsers[0]=a", "vendors.metax.pluginUsers[0]=b")

    def managed(configuration: dict[str, Any]) -> list[tuple[str, bool]]:
        listed = configuration["extenders"][0]["managedResources"]
        return sorted((each["name"], each["ignoredByScheduler"]) for each in listed)

    assert managed(charts) == managed(ours)


def test_the_api_server_keeps_others_from_what_a_vendors_plugin_obeys():
    policy = one(everything(), "ValidatingAdmissionPolicy", "kerf-grant")["spec"]
    (validation, _), (condition,) = policy["validations"], policy["matchConditions"]

    written = next(vendor for vendor in VENDORS if vendor.name == "ascend910b3").plugin.writes
    assert all(f"k == '{key}'" in validation["expression"] for key in written)
    assert "system:serviceaccount:kube-system:dcu-device-plugin" in condition["expression"]


def test_what_a_vendor_declares_is_what_the_api_server_keeps_others_from_for_every_vendor(tmp_path: Path):
    own = {"words": {"count": "own.example/npu"}, "slicing": {"kind": "whole"}, "pluginNotes": ["own.example/taken"]}
    own |= {
        "inventory": {"from": "register", "annotation": "own.example/cards"},
        "annotations": {"own.example/a": "slices"},
    }
    names = [*(vendor.name for vendor in VENDORS if vendor.plugin), "own"]
    values = {"vendors": {name: {"pluginUsers": ["plugin"]} for name in names}, "vendorDescriptions": {"own": own}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))

    objects = parse(template("--values", str(tmp_path / "values.yaml")))

    validation, fixed = one(objects, "ValidatingAdmissionPolicy", "kerf-grant")["spec"]["validations"]
    assert f"k in {sorted(fixed_keys(VENDORS))}" in fixed["expression"]
    kept = set(re.findall(r"k == '([^']+)'", validation["expression"]))
    assert kept - {"hami.io/vgpu-node"} == {*written_keys(VENDORS), "own.example/a", "own.example/taken"}
    assert "hami.io/amd-cu-allocated" in kept


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("vendors.acme.pluginUsers[0]=a",), "Kerf does not know the vendor acme"),
        (("vendorDescriptions.acme.words.count=acme.example/npu",), "acme"),
        (
            (
                "vendors.hygon.pluginUsers[0]=a",
                "devicePlugin.pools[0].name=p",
                "devicePlugin.pools[0].vendor=hygon",
                "devicePlugin.pools[0].nodeSelector.a=b",
            ),
            "whose own device plugin serves its cards",
        ),
    ],
)
def test_a_vendor_that_cannot_be_served_is_refused(values: tuple[str, ...], said: str):
    with pytest.raises(Refused, match=said):
        render(*values)
