"""New claims in `kerf simulate` and `kerf explain`: placed as Kubernetes' own allocator would place them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_node, a_pod, cards_of
from kerf.values.allocator import Allocator
from kerfctl.main import main

CARDS = cards_of("n", 2, allocator=Allocator.DRA, memory_mib=80_000)
H = "device.attributes['gpu.kerf.dev']"


def exactly(kind: str = "slice", count: int = 1, **more: Any) -> dict[str, Any]:
    amounts = {key: more.pop(key) for key in ("memory", "cores") if key in more}
    capacity = {"capacity": {"requests": amounts}} if amounts else {}
    selectors = [{"cel": {"expression": text}} for text in more.pop("selectors", ())]
    part = {"deviceClassName": f"{kind}.gpu.kerf.dev", "count": count, **capacity, **more}
    return part | ({"selectors": selectors} if selectors else {})


def a_template(name: str, *requests: dict[str, Any], **devices: Any) -> dict[str, Any]:
    made = [{"name": f"r{i}", **(r if "firstAvailable" in r else {"exactly": r})} for i, r in enumerate(requests)]
    spec = {"spec": {"devices": {"requests": made, **devices}}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def a_user(name: str, template: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "app", "resources": {"claims": [{"name": "gpu"}]}}
    claims = [{"name": "gpu", "resourceClaimTemplateName": template}]
    body = {"containers": [container], "resourceClaims": claims, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str], *objects: dict[str, Any]) -> tuple[int, Any]:
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump_all([a_node("node-1", CARDS), *objects]))
    status = main(["simulate", str(path), "--json"])
    return status, json.loads(capsys.readouterr().out)


def held(found: Any) -> dict[str, list[tuple[str, int, int]]]:
    return {p["name"]: [(s["card"], s["memory_mib"], s["cores"]) for s in p["slices"]] for p in found["pods"]}


def reasons(found: Any) -> dict[str, str]:
    return {line["name"]: line["reason"] for line in found["refused"]}


def test_new_claims_fill_the_fullest_card_first_and_leave_whole_cards_whole(tmp_path, capsys):
    templates = [a_template("s", exactly(memory="30000Mi", cores="20")), a_template("c", exactly("card"))]
    pods = [a_user("a", "s"), a_user("b", "s"), a_user("whole", "c"), a_user("c", "s")]

    status, found = simulated(tmp_path, capsys, *templates, *pods)

    assert status == 0
    assert held(found) == {
        "a": [("GPU-n-0", 30_000, 20)],
        "b": [("GPU-n-0", 30_000, 20)],
        "whole": [("GPU-n-1", 80_000, 100)],
    }
    assert reasons(found) == {
        "c": "claim c-gpu: request r0: 0 of 2 cards that claims are given have 30,000 MiB and 20 % free, and 1 are "
        "needed; the most that is free of one is 20,000 MiB"
    }


def test_the_pods_of_a_deployment_each_get_a_claim_of_their_own(tmp_path, capsys):
    spec = a_user("x", "s")["spec"]
    workload = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "template": {"spec": spec}},
    }

    _, found = simulated(tmp_path, capsys, a_template("s", exactly(count=2, memory="30Gi")), workload)

    assert held(found) == {f"web-{i}": [("GPU-n-0", 30_720, 0), ("GPU-n-1", 30_720, 0)] for i in range(2)}
    assert list(reasons(found)) == ["web-2"]


def test_an_amount_that_is_not_named_is_one_slots_part_and_odd_amounts_are_rounded_up(tmp_path, capsys):
    objects = [a_template("d", exactly()), a_template("o", exactly(memory="1G", cores="1500m"))]

    _, found = simulated(tmp_path, capsys, *objects, a_user("plain", "d"), a_user("odd", "o"))

    assert held(found) == {"plain": [("GPU-n-0", 8_000, 0)], "odd": [("GPU-n-0", 954, 2)]}


def test_selectors_lists_and_constraints_are_weighed(tmp_path, capsys):
    later = a_template("later", exactly(memory="1Gi", selectors=[f"{H}.index == 1"]))
    listed = {
        "firstAvailable": [{"name": "big", **exactly(memory="200Gi")}, {"name": "small", **exactly(memory="2Gi")}]
    }
    pair = a_template(
        "pair", exactly(memory="1Gi"), exactly(memory="1Gi"), constraints=[{"distinctAttribute": "gpu.kerf.dev/uuid"}]
    )

    pods = [a_user("a", "later"), a_user("b", "list"), a_user("c", "pair")]
    _, found = simulated(tmp_path, capsys, later, a_template("list", listed), pair, *pods)

    assert held(found) == {
        "a": [("GPU-n-1", 1024, 0)],
        "b": [("GPU-n-1", 2048, 0)],
        "c": [("GPU-n-1", 1024, 0), ("GPU-n-0", 1024, 0)],
    }


def test_the_extended_resource_of_a_whole_card_becomes_a_claim(tmp_path, capsys):
    pod = a_user("one", "none")
    pod["spec"] = {"containers": [{"name": "main", "resources": {"limits": {"gpu.kerf.dev/card": 1}}}]}

    _, found = simulated(tmp_path, capsys, pod)

    assert held(found) == {"one": [("GPU-n-0", 80_000, 100)]}


@pytest.mark.parametrize("claims", ["refuse", "allow"])
def test_a_tenant_gets_claims_only_where_its_file_allows_them(tmp_path, capsys, claims):
    share = {"namespaces": ["default"], "classes": [{"model": "H100", "guaranteed": "1 card"}], "claims": claims}
    tenant = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "team"}, "spec": share}

    _, found = simulated(tmp_path, capsys, tenant, a_template("s", exactly(memory="1Gi")), a_user("a", "s"))

    refused = reasons(found).get("a", "")
    assert ("refused at creation: namespace default belongs to tenant team" in refused) is (claims == "refuse")
    assert ("a" in held(found)) is (claims == "allow")


def test_what_exceeds_the_tenants_quota_waits_with_the_numbers(tmp_path, capsys):
    share = {"model": "H100", "guaranteed": {"memory": "10000Mi"}, "burst": "0 cards"}
    spec = {"namespaces": ["default"], "classes": [share], "claims": "allow"}
    tenant = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "team"}, "spec": spec}
    pods = [a_user(name, "s") for name in "abc"]

    _, found = simulated(tmp_path, capsys, tenant, a_template("s", exactly(memory="4000Mi")), *pods)

    assert set(held(found)) == {"a", "b"}
    assert "tenant team holds 8,000 MiB of at most 10,000 MiB" in reasons(found)["c"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            a_template("t", exactly("slices")),
            "spec.devices.requests[0].exactly.deviceClassName: 'slices.gpu.kerf.dev'",
        ),
        (a_template("t", exactly(memory="8 GB")), "spec.devices.requests[0].exactly.capacity.requests.memory"),
        (a_template("t", exactly(count=0)), "spec.devices.requests[0].exactly.count"),
        (a_template("t", exactly(adminAccess=True)), "adminAccess"),
        (a_template("t", exactly(memory="1Gi", cores="100")), "no share of a card has all of its cores"),
        (a_template("t", exactly(selectors=[f"{H}.bus == 'x'"])), "reads bus, which device gpu-n-0 does not have"),
        (a_template("t", exactly(selectors=[f"{H}.model > 3"])), "of request r0 ends in an error: it compares"),
        (a_template("t", exactly(), exactly()), "which refuses to start it: container main got two slices of card"),
        (a_template("other", exactly()), "ResourceClaimTemplate t does not exist in namespace default"),
        (
            a_template("t", exactly(selectors=[f"{H}.model == 'none'"])),
            "of 4 devices 0 its class and selectors accept; it needs 1 on one node",
        ),
    ],
)
def test_a_claim_that_cannot_be_is_answered_with_the_reason_and_disturbs_nothing_else(
    tmp_path, capsys, template, reason
):
    other = a_template("fine", exactly(memory="1Gi"))
    status, found = simulated(tmp_path, capsys, template, other, a_user("bad", "t"), a_user("good", "fine"))

    assert reason in reasons(found)["bad"]
    assert (status, held(found)["good"][0][1:]) == (0, (1024, 0))


def test_a_selector_that_kerf_does_not_read_leaves_the_answer_open(tmp_path, capsys):
    template = a_template("t", exactly(selectors=["semver('1.0.0').major() == 1"]))

    status, found = simulated(tmp_path, capsys, template, a_user("a", "t"))

    assert status == 1
    why = "the selector \"semver('1.0.0').major() == 1\" of request r0: kerf does not read the function major"
    assert found["left_out"] == [f"not read: pod default/a: {why}"]


def test_a_pod_asks_in_one_way(tmp_path, capsys):
    pod = a_user("both", "s")
    pod["spec"]["containers"].append(a_pod("x")["spec"]["containers"][0])

    _, found = simulated(tmp_path, capsys, a_template("s", exactly(memory="1Gi")), pod)

    assert "by claims, which the node refuses" in reasons(found)["both"]


def test_explain_says_where_new_claims_fit(tmp_path, capsys):
    path = tmp_path / "world.yaml"
    objects = [a_node("node-1", CARDS), a_template("s", exactly(memory="70Gi")), a_user("a", "s")]
    path.write_text(yaml.safe_dump_all(objects))

    assert main(["explain", "a", "--file", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["sentence"], found["nodes"]) == ("claim a-gpu: kube-scheduler can allocate it", ["node-1"])
