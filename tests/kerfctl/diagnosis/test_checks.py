"""Every check: silent about a cluster that is well, and one sentence with the fix for each thing that is not."""

import base64
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.http.pki import Authority
from kerf.testing.builders import a_card, a_grant, a_node, a_pod, cards_of
from kerf.values.health import SUSPECT, Health, State
from kerf.values.policy import Pool, QuotaEngine, QuotaSettings, SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerfctl.diagnosis import cards, claims, control, crds, pods
from kerfctl.diagnosis.dump import Dump, Level
from sandbox.crds import read_crds

CHECKS = {**control.CHECKS, **claims.CHECKS, **crds.CHECKS, **cards.CHECKS, **pods.CHECKS}
AUTHORITY = Authority()
HOST = "kerf-webhook.kerf.svc"
LASTING = Authority(lifetime_s=1e9)
NOW = float(int(time.time()))
KUEUE = tuple({"metadata": {"name": f"{each}.kueue.x-k8s.io"}} for each in control.KUEUE)
DEFINITIONS = (*read_crds(), *KUEUE)


def a_moment(seconds_ago: float) -> str:
    return datetime.fromtimestamp(NOW - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_configuration(name: str = "kerf-webhook", hook: str = "pods.kerf.dev", ca: bytes = b"") -> dict[str, Any]:
    bundle = base64.b64encode(ca or LASTING.certificate).decode()
    client = {"service": {"name": "kerf-webhook", "namespace": "kerf"}, "caBundle": bundle}
    return {"metadata": {"name": name}, "webhooks": [{"name": hook, "clientConfig": client}]}


def a_secret(seconds: float = 90 * 86_400, host: str = HOST) -> dict[str, str]:
    return {"tls.crt": LASTING.issue("w", hosts=(host,), lifetime_s=seconds).certificate.decode()}


def a_gpu_node(name: str = "node-1", slots: int | None = None, **changes: Any) -> dict[str, Any]:
    node = a_node(name, **changes)
    amounts = {"nvidia.com/gpu": str(40 if slots is None else slots)}
    node["status"] |= {"capacity": amounts, "allocatable": {**node["status"]["allocatable"], **amounts}}
    return node


def bound(name: str, **changes: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"node": "node-1", "phase": "Running", "spec": {"schedulerName": "kerf-scheduler"}}
    return a_pod(name, **{**defaults, **changes})


def counts_claims(**changes: Any) -> dict[str, Any]:
    """The ValidatingWebhookConfiguration as the API server keeps the chart's, with changes to its webhook."""
    found = a_configuration(hook="claims.kerf.dev")
    rule = {"apiGroups": ["resource.k8s.io"], "apiVersions": ["v1"], "resources": ["resourceclaims/status"]}
    found["webhooks"][0] |= {
        "rules": [{**rule, "operations": ["UPDATE"], "scope": "Namespaced"}],
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "matchConditions": [{"name": "newly-allocated"}, {"name": "of-gpu-kerf-dev"}],
        **changes,
    }
    return found


CLIENT = {"clientConfig": a_configuration()["webhooks"][0]["clientConfig"]}
SERVICE = {"metadata": {"name": "kerf-webhook", "namespace": "kerf"}}
ENDPOINTS = {
    "metadata": {"namespace": "kerf", "labels": {"kubernetes.io/service-name": "kerf-webhook"}},
    "endpoints": [{"conditions": {"ready": False}}, {"conditions": {"ready": True}}],
}
WELL = Dump(
    VENDORS,
    now=NOW,
    version="v1.36.3",
    namespace="kerf",
    nodes=(a_gpu_node(), {"metadata": {"name": "cpu-only"}, "status": {"capacity": {"cpu": "8"}}}),
    pods=(bound("one", grant=a_grant("GPU-node-1-0")), a_pod("plain", containers=[{"name": "c"}], node="cpu-only")),
    webhooks=(
        {
            **a_configuration(),
            "webhooks": [
                *a_configuration()["webhooks"],
                {"name": "t.kerf.dev", "rules": [{"resources": ["tenantquotas"]}], **CLIENT},
            ],
        },
        {"metadata": {"name": "unrelated"}, "webhooks": [{"name": "x.example.com"}]},
    ),
    validating=(counts_claims(),),
    services=(SERVICE,),
    endpoints=(ENDPOINTS,),
    device_classes=({"metadata": {"name": "card.gpu.kerf.dev"}},),
    secret=a_secret(),
    leases=(
        {
            "metadata": {"name": "kerf-scheduler", "namespace": "kerf"},
            "spec": {"renewTime": a_moment(1), "holderIdentity": "one"},
        },
    ),
    definitions=DEFINITIONS,
    shipped=read_crds(),
    admission="kerf-scheduler",
)


def without(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(each for each in DEFINITIONS if each["metadata"]["name"] != name)


def said(check: str, **changes: Any) -> list[str]:
    return [finding.what for finding in CHECKS[check](replace(WELL, **changes))]


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_said_about_a_cluster_that_is_well(check: str) -> None:
    assert said(check) == []


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_survives_a_cluster_of_which_nothing_could_be_read(check: str) -> None:
    unread = dict.fromkeys(("nodes", "pods", "mutatingwebhookconfigurations", "customresourcedefinitions"), "no")

    for finding in CHECKS[check](Dump(VENDORS, version="v1.30", unread=unread, denied=("list pods",))):
        assert finding.level is Level.WARNING


@pytest.mark.parametrize(("version", "count"), [("v1.29.0", 0), ("v1.30.1+k3s1", 0), ("v1.28.9", 1), ("", 1)])
def test_the_api_server_is_new_enough(version: str, count: int) -> None:
    assert len(said("version", version=version)) == count


def test_the_webhook_is_there_and_answers() -> None:
    assert "there is no MutatingWebhookConfiguration of Kerf" in said("webhook", webhooks=())[0]
    assert said("webhook", admission="error: failed calling webhook: connection refused") == [
        "a pod with cards is not admitted: failed calling webhook: connection refused"
    ]
    assert "gets schedulerName 'default-scheduler'" in said("webhook", admission="default-scheduler")[0]
    assert said("webhook", admission=None) == []


def test_certificates_are_trusted_and_last() -> None:
    other = a_configuration(ca=AUTHORITY.certificate)
    several = {**other, "webhooks": [*other["webhooks"], {**other["webhooks"][0], "name": "jobs.kerf.dev"}]}
    empty = a_configuration()
    empty["webhooks"][0]["clientConfig"]["caBundle"] = ""

    assert said("certificates", webhooks=(other,)) == [
        "kerf-webhook, pods.kerf.dev: caBundle does not match the certificate that is served"
    ]
    assert said("certificates", webhooks=(several,)) == [
        "kerf-webhook, pods.kerf.dev and 1 more of its webhooks: caBundle does not match the certificate that is served"
    ]
    assert "caBundle is empty" in said("certificates", webhooks=(empty,))[0]
    assert "is not for kerf-webhook.kerf.svc but for x.svc" in said("certificates", secret=a_secret(host="x.svc"))[0]
    assert said("certificates", now=NOW + 91 * 86_400) == ["the webhook's certificate has expired"]
    assert said("certificates", now=NOW + 80 * 86_400) == ["the webhook's certificate expires in 10 days"]
    assert "holds no certificate" in said("certificates", secret={"tls.crt": ""})[0]


def test_the_configuration_that_counts_claims_has_a_bundle_too() -> None:
    other = counts_claims()
    other["webhooks"][0]["clientConfig"] = a_configuration(ca=AUTHORITY.certificate)["webhooks"][0]["clientConfig"]

    assert said("certificates", validating=(other,)) == [
        "kerf-webhook, claims.kerf.dev: caBundle does not match the certificate that is served"
    ]


def test_claims_that_nothing_counts_are_named_where_they_are_to_be_counted() -> None:
    on_host = a_pod("s", labels={"app.kubernetes.io/name": "kerf", "app.kubernetes.io/component": "scheduler"})
    on_host["spec"]["hostNetwork"] = True
    without_quota = (a_configuration(),)

    assert said("claims", validating=()) == [
        "there is no ValidatingWebhookConfiguration with claims.kerf.dev: no quota counts what claims get"
    ]
    for elsewhere in ({"device_classes": ()}, {"webhooks": without_quota}, {"pods": (on_host,)}):
        assert said("claims", validating=(), **elsewhere) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"failurePolicy": "Ignore"}, "failurePolicy is Ignore: while the webhook does not answer"),
        ({"rules": []}, "no rule is about UPDATE of resourceclaims/status in resource.k8s.io/v1"),
        (
            {"rules": [{**counts_claims()["webhooks"][0]["rules"][0], "resources": ["resourceclaims"]}]},
            "no rule is about UPDATE of resourceclaims/status in resource.k8s.io/v1",
        ),
        (
            {"rules": [{**counts_claims()["webhooks"][0]["rules"][0], "operations": ["CREATE"]}]},
            "no rule is about UPDATE of resourceclaims/status in resource.k8s.io/v1",
        ),
        ({"matchPolicy": "Exact"}, "matchPolicy is Exact"),
        ({"namespaceSelector": {"matchLabels": {"a": "b"}}}, "its namespaceSelector leaves claims out"),
        ({"objectSelector": {"matchLabels": {"a": "b"}}}, "its objectSelector leaves claims out"),
        ({"matchConditions": [{"name": "mine"}]}, "its matchCondition 'mine' leaves claims out"),
    ],
)
def test_a_configuration_that_was_changed_so_that_claims_go_by_is_named(changes: dict[str, Any], what: str) -> None:
    (found,) = said("claims", validating=(counts_claims(**changes),))

    assert found.startswith(f"kerf-webhook, claims.kerf.dev: {what}")


def test_a_pod_whose_claim_nobody_counts_is_named_by_its_newest_event() -> None:
    waits = a_pod("waits")
    uid = waits["metadata"]["uid"]
    event = {"involvedObject": {"uid": uid}, "eventTime": a_moment(9), "message": "0/1 nodes are available"}
    newer = {"involvedObject": {"uid": uid}, "eventTime": a_moment(60), "series": {"lastObservedTime": a_moment(1)}}
    failed = 'failed calling webhook "claims.kerf.dev": no endpoints available for service "kerf-webhook"'

    assert said("claims", pods=(waits,), events=({**newer, "message": failed}, event)) == [
        f"nothing counts claims now, so pod default/waits waits: {failed}"
    ]
    assert said("claims", pods=(waits,), events=({**newer, "message": "other"}, {**event, "message": failed})) == []
    assert said("claims", pods=(bound("waits"),), events=({**newer, "message": failed},)) == []


def test_a_service_that_is_away_or_has_no_ready_pod_is_named_with_what_calls_it() -> None:
    unready = {**ENDPOINTS, "endpoints": [{"conditions": {"ready": False}}]}

    assert said("services", services=(), endpoints=()) == [
        "there is no Service kerf/kerf-webhook, which kerf-webhook names: API servers cannot call the webhook"
    ]
    for nothing in ((), (unready,)):
        assert said("services", endpoints=nothing) == [
            "no ready pod is behind Service kerf/kerf-webhook, which kerf-webhook names"
        ]
    by_url = a_configuration()
    by_url["webhooks"][0]["clientConfig"] = {"url": "https://10.0.0.1/mutate"}
    assert said("services", webhooks=(by_url,), validating=(), services=(), endpoints=()) == []


def test_cards_that_another_dra_driver_gives_out_too_are_named() -> None:
    def a_slice(driver: str, node: str, **attributes: str) -> dict[str, Any]:
        device = {"name": "gpu-0", "attributes": {key: {"string": value} for key, value in attributes.items()}}
        return {"spec": {"driver": driver, "nodeName": node, "devices": [device]}}

    theirs = a_slice("gpu.nvidia.com", "node-1", uuid="MIG-1", parentUUID="GPU-node-1-2", type="mig")
    harmless = (
        a_slice("gpu.kerf.dev", "node-1", uuid="GPU-node-1-0"),
        a_slice("compute-domain.nvidia.com", "node-1", id="0"),
        a_slice("gpu.nvidia.com", "elsewhere", uuid="GPU-node-1-0"),
    )

    assert said("drivers", resource_slices=(*harmless, theirs)) == [
        "node node-1: card GPU-node-1-2 is also given out by the DRA driver gpu.nvidia.com"
    ]
    assert said("drivers", resource_slices=harmless) == []


def test_a_bundle_with_the_old_and_the_new_authority_is_well() -> None:
    both = a_configuration(ca=AUTHORITY.certificate + LASTING.certificate)

    assert said("certificates", webhooks=(both,)) == []


def test_two_webhooks_for_the_same_pods_are_one_too_many() -> None:
    theirs = a_configuration("hami-webhook", "vgpu.hami.io")

    assert said("other-webhooks", webhooks=(a_configuration(), theirs)) == [
        "MutatingWebhookConfiguration hami-webhook of HAMi fills the same pods as Kerf's"
    ]


def test_a_pod_with_claims_that_nobody_looks_at_may_name_one_that_is_not_there() -> None:
    plain = a_pod("plain", spec={"schedulerName": "kerf-scheduler"})
    named = a_pod("named", spec={"schedulerName": "kerf-scheduler", "resourceClaims": [{"name": "gpu"}]})
    for pod in (plain, named):
        pod["metadata"]["creationTimestamp"] = a_moment(120)
    runs = "see that a kube-scheduler with the profile 'kerf-scheduler' runs, and reaches the extender"

    assert [found.fix for found in CHECKS["scheduling"](replace(WELL, pods=(plain, named)))] == [
        runs,
        f"`kerf explain default/named` says whether its claims exist: without them it waits unseen; else {runs}",
    ]


def test_a_pod_that_nobody_looks_at_is_named() -> None:
    pod = a_pod("late", spec={"schedulerName": "kerf-scheduler"})
    pod["metadata"]["creationTimestamp"] = a_moment(120)
    fresh = a_pod("fresh", spec={"schedulerName": "kerf-scheduler"})
    fresh["metadata"]["creationTimestamp"] = a_moment(5)

    assert said("scheduling", pods=(pod, fresh)) == [
        "pod default/late has waited for over a minute and no scheduler has looked at it"
    ]
    assert said("scheduling", pods=(pod,), events=({"involvedObject": {"uid": "uid-default-late"}},)) == []
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False"}]
    assert said("scheduling", pods=(pod,)) == []


def test_a_lease_that_nobody_renews_is_named() -> None:
    spec = {"renewTime": a_moment(90), "holderIdentity": "one", "leaseDurationSeconds": 3}
    stale = {"metadata": {"name": "kerf-scheduler", "namespace": "kerf"}, "spec": spec}

    assert said("lease", leases=(stale,)) == ["Lease kerf/kerf-scheduler of 'one' was renewed 90 s ago"]
    for nobody in ({}, {**spec, "holderIdentity": ""}):
        assert said("lease", leases=({**stale, "spec": nobody},)) == [
            "Lease kerf/kerf-scheduler has no holder: no scheduler leads"
        ]


def test_quota_has_its_objects() -> None:
    kueue = SchedulingPolicy(quota=QuotaSettings(engine=QuotaEngine.KUEUE))

    assert said("quota", definitions=()) == ["there is no CRD tenantquotas.kerf.dev: no tenant is limited"]
    assert said("quota", definitions=without("cohorts.kueue.x-k8s.io"), policy=kueue) == [
        "quota is Kueue's, and these of its CRDs are missing: cohorts"
    ]


def test_cards_without_a_readable_inventory_are_named() -> None:
    silent = {"metadata": {"name": "n", "labels": {"nvidia.com/gpu.present": "true"}}, "status": {}}
    broken = a_node("m", **{"kerf.dev/inventory": "{nope"})
    theirs = {
        "metadata": {"name": "h", "annotations": {"hami.io/node-nvidia-register": "[]"}},
        "status": {"capacity": {"nvidia.com/gpu": "10"}},
    }

    found = said("inventories", nodes=(silent, broken, theirs))
    assert found[0] == "node n has cards and no kerf.dev/inventory: nothing is placed there"
    assert found[1].startswith("node m: its inventory cannot be read: kerf.dev/inventory")
    assert len(found) == 2


def test_cards_that_take_nothing_new_are_warnings() -> None:
    sick = a_gpu_node(cards=(a_card(0, health=SUSPECT), a_card(1), a_card(2), a_card(3)))
    sick["metadata"]["annotations"]["kerf.dev/cordon"] = "GPU-1,GPU-9"

    found = list(CHECKS["health"](replace(WELL, nodes=(sick,))))
    assert [finding.what for finding in found] == [
        "node node-1, card 0 (GPU-0) is unhealthy (suspect)",
        "node node-1, card 1 (GPU-1) is cordoned",
        "node node-1: the cordon names cards that the node does not have: GPU-9",
    ]
    assert {finding.level for finding in found} == {Level.WARNING}


@pytest.mark.parametrize(
    ("health", "fix"),
    [
        (Health(State.CORDONED, "XID 64", 1, 64, remedy="reset-card"), "reset the card (nvidia-smi --gpu-reset)"),
        (Health(State.CORDONED, "XID 79", 1, 79, True, remedy="reboot-node"), "what runs on it is lost, and moves"),
        (Health(State.CORDONED, "XID 79", 1, 79, remedy="of a newer Kerf"), "see the kernel log"),
        (Health(State.RECOVERING, "XID 79", 1), "wait"),
    ],
)
def test_a_failed_card_is_named_with_its_fault_and_its_way_back(health: Health, fix: str) -> None:
    (found,) = CHECKS["health"](replace(WELL, nodes=(a_gpu_node(cards=(a_card(0, health=health),)),)))

    assert (found.what, fix in found.fix) == (f"node node-1, card 0 (GPU-0) is unhealthy ({health})", True)


def test_a_pause_of_recovery_is_named_with_the_way_on() -> None:
    node = a_gpu_node()
    message = "nothing is evicted because of faults: 4 of 8 cards failed"
    paused = {"type": "KerfRecoveryPaused", "status": "True", "message": message}
    node["status"]["conditions"] = [paused]

    (found,) = CHECKS["recovery"](replace(WELL, nodes=(node,)))

    assert (found.what, found.level) == (f"node node-1: {message}", Level.WRONG)
    assert found.fix.endswith("kerf faults resume node-1")


def test_the_kubelet_counts_what_the_inventory_says() -> None:
    assert said("allocatable", nodes=(a_gpu_node(slots=4),)) == [
        "node node-1: the kubelet counts 4 nvidia.com/gpu, the inventory has 40 slots"
    ]


def test_overcommitment_is_added_up_again() -> None:
    pods = tuple(bound(f"p{i}", grant=a_grant("GPU-node-1-0", 41_000, 60)) for i in range(2))
    twice = SchedulingPolicy(pools=(Pool("all", (), 2.0, 2.0),))

    assert said("over-commitment", pods=pods) == [
        "node node-1, card 0 (GPU-node-1-0): granted 82,000 MiB of 81,559 MiB and 120 of 100 % of the cores"
    ]
    assert said("over-commitment", pods=pods, policy=twice) == []
    finished = tuple({**pod, "status": {"phase": "Succeeded"}} for pod in pods)
    assert said("over-commitment", pods=finished) == []


def test_slots_are_added_up_too() -> None:
    node = a_gpu_node(cards=cards_of("node-1", 4, slots=1))
    pods = tuple(bound(f"p{i}", grant=a_grant("GPU-node-1-0", 10, 1)) for i in range(2))

    assert said("over-commitment", nodes=(node,), pods=pods) == [
        "node node-1, card 0 (GPU-node-1-0): granted 2 of 1 slots"
    ]


def test_grants_that_are_missing_broken_or_strange_are_named() -> None:
    pods = (
        bound("none"),
        bound("broken", annotations={"kerf.dev/grant": "{"}),
        bound("moved", grant=a_grant("GPU-gone")),
        bound("over", phase="Failed"),
    )

    found = said("grants", pods=pods)
    assert found[0] == "pod default/none is on node-1 and asks for cards, but has no kerf.dev/grant: it cannot start"
    assert found[1].startswith("pod default/broken: what it holds cannot be read: kerf.dev/grant")
    assert found[2:] == ["pod default/moved holds cards that node-1 does not have: GPU-gone"]


def test_what_hami_left_is_named() -> None:
    plugin = a_pod("hami-x", labels={"app.kubernetes.io/component": "hami-device-plugin"}, node="node-1", containers=[])
    waiting = a_pod("w", spec={"schedulerName": "hami-scheduler"})
    scheduler = a_pod("s", labels={"app.kubernetes.io/component": "hami-scheduler"}, phase="Running", containers=[])

    assert said("hami", pods=(plugin, waiting)) == [
        "node node-1: HAMi's device plugin (default/hami-x) runs beside Kerf's",
        "1 pods wait for hami-scheduler, which does not run",
    ]
    assert said("hami", pods=(waiting, scheduler)) == []
    (before,) = CHECKS["hami"](replace(WELL, pods=(waiting,), webhooks=()))
    assert before.fix == "start Kerf's webhook (docs/migrate-from-hami.md, step 2), then delete them"


def test_a_node_that_is_still_hamis_is_as_it_should_be_until_its_plugin_is_replaced() -> None:
    device = {
        "id": "GPU-h-0",
        "index": 0,
        "count": 10,
        "devmem": 81_559,
        "devcore": 100,
        "type": "H100",
        "health": True,
    }
    register = {"hami.io/node-nvidia-register": json.dumps([device | {"mode": "hami-core"}])}
    theirs = {"metadata": {"name": "h", "annotations": register}, "status": {"capacity": {"nvidia.com/gpu": "10"}}}
    labels = {"app.kubernetes.io/component": "hami-device-plugin"}
    plugin = a_pod("hami-device-plugin-x", labels=labels, node="h", containers=[])
    dump = replace(WELL, nodes=(theirs,), pods=(plugin,))

    found = {name: list(check(dump)) for name, check in CHECKS.items()}

    assert {name: [each.fix for each in findings] for name, findings in found.items() if findings} == {
        "health": ["replace the node's device plugin (docs/migrate-from-hami.md, step 3)"]
    }
    assert [each.level for each in found["health"]] == [Level.WARNING]


def test_what_could_not_be_looked_at_is_said() -> None:
    assert said("rights", denied=("list nodes",), unread={"secrets": "forbidden"}) == [
        "you may not list nodes: what needs it was not checked",
        "secrets could not be read: forbidden",
    ]


def test_pods_that_hold_cards_without_a_grant_and_other_plugins_are_named() -> None:
    """A cluster that used NVIDIA's own device plugin until today."""
    native = a_pod("trainer", namespace="ml", node="node-1", phase="Running", gpu=4, mem=None, cores=None)
    plugin = a_pod("nvidia-device-plugin-daemonset-x", node="node-1", phase="Running", gpu=0, mem=None, cores=None)
    elsewhere = a_pod("theirs", node="node-2", phase="Running", gpu=4, mem=None, cores=None)

    found = said("strangers", nodes=(a_node(),), pods=(native, plugin, elsewhere))

    assert found == [
        "pod ml/trainer holds 4 cards of node node-1 without a grant: nothing is placed there",
        (
            "pod default/nvidia-device-plugin-daemonset-x is another device plugin on node node-1: "
            "the last to register serves the cards"
        ),
    ]


def test_the_charts_own_configuration_has_nothing_wrong():
    golden = Path(__file__).parents[2] / "chart" / "golden" / "dra.yaml"
    rendered = [each for each in yaml.safe_load_all(golden.read_text()) if each]
    kind = "ValidatingWebhookConfiguration"
    (hook,) = [
        each for item in rendered if item["kind"] == kind for each in item["webhooks"] if each["name"] == claims.HOOK
    ]

    assert {each["name"] for each in hook["matchConditions"]} == claims.CONDITIONS
    assert list(claims.claims(replace(WELL, validating=({"metadata": {"name": "own"}, "webhooks": [hook]},)))) == []
