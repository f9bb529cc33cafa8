"""`kerf quota`: plans from files and from a cluster, writes in order, books beside what the objects say."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.kube.errors import Forbidden, NotFound
from kerf.testing.builders import H100_MIB, a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.vendors.registry import NAMES
from kerf.wire.quota import PATH
from kerfctl.main import main
from tests.scheduler.quota.tenants import SLUG

ROOT = Path(__file__).parents[2]
TENANTS = str(ROOT / "examples" / "tenants")
NODES = str(ROOT / "examples" / "nodes" / "two-models.yaml")
KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
MIB, CORES, CARDS = NAMES[0].quota


def a_tenant(name: str = "team", guaranteed: Any = "1 card", meta: Any = None, **spec: Any) -> dict[str, Any]:
    full = {"namespaces": [name], "classes": [{"model": "H100", "guaranteed": guaranteed}], **spec}
    metadata = {"name": name, **(meta or {})}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": metadata, "spec": full}


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def write(*documents: dict[str, Any], name: str = "tenants.yaml") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump_all(documents))
        return str(path)

    return write


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster with one node of four cards; `served` says which groups beside the core the API server knows."""

    def start(*objects: dict[str, Any], served: tuple[str, ...] = ("kerf.dev",)) -> FakeKube:
        kube = FakeKube(a_node(), *objects)

        def fail(method: str, path: str) -> None:
            group = path.split("/")[2] if path.startswith("/apis/") else ""
            if group and group not in served:
                raise NotFound(404, "NotFound", "the server could not find the requested resource")

        kube.fail = fail
        monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: kube)
        return kube

    return start


@pytest.fixture
def kueue_policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    spec = {"quota": {"engine": "kueue"}}
    path.write_text(yaml.safe_dump({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec}))
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> Any:
    assert main(["quota", *argv, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def changes(plan: Any) -> list[tuple[str, str, str]]:
    return [(change["action"], change["kind"], change["name"]) for change in plan["changes"]]


# ---- plan
def test_the_examples_are_planned_on_the_example_nodes(capsys):
    plan = answer(capsys, "plan", "-f", TENANTS, "--file", NODES)

    assert [tenant["name"] for tenant in plan["tenants"]] == ["research", "serving", "vision"]
    assert [tenant["problems"] for tenant in plan["tenants"]] == [[], [], []]
    serving = plan["tenants"][1]["classes"][0]
    assert serving["guaranteed"] == {"memoryMiB": 2 * H100_MIB, "cores": 200, "cards": 20}
    assert serving["limit"] == {"memoryMiB": 3 * H100_MIB, "cores": 300, "cards": 30}
    # Four H100 give 4 times 81,559 MiB; serving and vision are guaranteed three of them.
    assert [(c["class"], c["rest"]["memoryMiB"]) for c in plan["cards"]] == [
        (SLUG, H100_MIB),
        ("nvidia-l40s-shared", 4 * 46_068 - 90 * 1024),
    ]
    assert changes(plan) == [("create", "TenantQuota", name) for name in ("research", "serving", "vision")]


def test_a_plan_for_people_names_what_shrinks(files, capsys):
    tenants = files(a_tenant("a", "3 cards"), a_tenant("b", "3 cards"))

    assert main(["quota", "plan", "-f", tenants, "--file", NODES]) == 1

    out = capsys.readouterr().out
    assert "! a: promised 244,677 MiB of NVIDIA H100 80GB HBM3 and gets 163,118 MiB" in out
    assert "create TenantQuota a" in out


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        (
            [a_tenant(classes=[{"model": "H101", "guaranteed": "1 card"}])],
            "✗ team: no card of model H101",
        ),
        (
            [
                a_tenant(),
                {
                    "apiVersion": "v1",
                    "kind": "ResourceQuota",
                    "metadata": {"name": "rq", "namespace": "n"},
                    "spec": {"hard": {"limits.nvidia.com/gpumem": "1500m"}},
                },
            ],
            "✗ namespace n: ResourceQuota rq: spec.hard[limits.nvidia.com/gpumem] of 1500m is counted as 1: write MiB",
        ),
    ],
)
def test_a_plan_fails_where_a_promise_cannot_be_kept_as_it_is_written(objects, sentence, files, tmp_path, capsys):
    tenants, rest = files(objects[0]), tmp_path / "rest"
    rest.mkdir()
    (rest / "rest.yaml").write_text(yaml.safe_dump_all(objects[1:]))

    assert main(["quota", "plan", "-f", tenants, "--file", NODES, "--file", str(rest)]) == 1
    assert sentence in capsys.readouterr().out


def test_with_kueue_the_plan_holds_its_objects_in_the_order_they_need(capsys, kueue_policy):
    plan = answer(capsys, "plan", "-f", TENANTS, "--file", NODES, "--policy", kueue_policy)

    kinds = [kind for _, kind, _ in changes(plan)]
    assert kinds[:3] == ["TenantQuota"] * 3
    assert {"ResourceFlavor", "AdmissionCheck", "Cohort", "ClusterQueue", "LocalQueue"} <= set(kinds)
    assert kinds.index("ResourceFlavor") < kinds.index("ClusterQueue") < kinds.index("LocalQueue")


def test_every_mistake_of_every_file_is_named_at_once(files, tmp_path, capsys):
    files(a_tenant("a", "eight cards"), name="1.yaml")
    files(a_tenant("b", namespaces=["x"]), name="2.yaml")
    files(a_tenant("c", namespaces=["x"]), a_tenant("b"), {"kind": "Pod", "metadata": {"name": "p"}}, name="3.yaml")

    assert main(["quota", "plan", "-f", str(tmp_path), "--file", NODES]) == 1

    err = capsys.readouterr().err
    assert "1.yaml: tenant a: spec.classes[0].guaranteed: 'eight cards'" in err
    assert "3.yaml: tenant b is in" in err
    assert "3.yaml: document 3: kind: 'Pod'" in err
    assert "3.yaml: tenant c: spec.namespaces: namespace x belongs to tenant b already" in err


def test_a_folder_without_tenants_is_a_mistake(tmp_path, capsys):
    assert main(["quota", "plan", "-f", str(tmp_path), "--file", NODES]) == 1
    assert "no TenantQuota" in capsys.readouterr().err


def test_what_the_cluster_has_already_is_not_written_again(cluster, files, capsys):
    """The API server has written the defaults out; the file has not."""
    stored = a_tenant(weight=1, priority="normal", whenOver="keep")
    stored["spec"]["classes"][0] |= {"mode": "shared", "vendor": "nvidia"}
    cluster(stored)

    assert answer(capsys, "plan", "-f", files(a_tenant()))["changes"] == []


def test_a_plan_shows_what_of_a_tenant_changes_and_what_goes(cluster, files, capsys):
    before = a_tenant(weight=3)
    before["spec"]["classes"][0]["burst"] = "1 card"
    cluster(before, a_tenant("other"))

    plan = answer(capsys, "plan", "-f", files(a_tenant(guaranteed="2 cards")))

    assert changes(plan) == [("update", "TenantQuota", "team")]
    assert plan["changes"][0]["details"] == [
        "spec.classes[0].burst: 1 card → nothing",
        "spec.classes[0].guaranteed: 1 card → 2 cards",
        "spec.weight: 3 → 1",
    ]
    assert plan["notes"] == ["tenant other is in the cluster and not in the files: it stays (--prune deletes it)"]
    pruned = answer(capsys, "plan", "-f", files(a_tenant(guaranteed="2 cards")), "--prune")
    assert changes(pruned) == [("update", "TenantQuota", "team"), ("delete", "TenantQuota", "other")]


def test_tenants_of_the_cluster_count_beside_those_of_the_files(cluster, files, capsys):
    cluster(a_tenant("other", "4 cards"))

    plan = answer(capsys, "plan", "-f", files(a_tenant("team", "4 cards")), status=1)

    gets = {tenant["name"]: tenant["classes"][0]["guaranteed"]["cards"] for tenant in plan["tenants"]}
    assert gets == {"other": 20, "team": 20}


def test_a_plan_counts_what_runs(cluster, files, capsys):
    cluster(a_pod("runs", namespace="team", node="node-1", grant=a_grant("GPU-node-1-0"), phase="Running"))

    plan = answer(capsys, "plan", "-f", files(a_tenant()))

    assert plan["tenants"][0]["classes"][0]["used"] == {"memoryMiB": 8000, "cores": 30, "cards": 1}


def test_an_engine_that_is_off_is_planned_and_said(tmp_path, capsys):
    policy = tmp_path / "policy.yaml"
    spec = {"quota": {"engine": "off"}}
    policy.write_text(yaml.safe_dump({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec}))

    plan = answer(capsys, "plan", "-f", TENANTS, "--file", NODES, "--policy", str(policy))

    assert [tenant["enforced"] for tenant in plan["tenants"]] == [False, False, False]
    assert plan["notes"] == ["the policy says engine: off: these limits are not enforced"]


# ---- apply
def test_apply_writes_tenants_by_its_own_manager_and_then_has_nothing_to_do(cluster, files, capsys):
    kube = cluster()
    tenants = files(a_tenant("a"), a_tenant("b", meta={"labels": {"owner": "x"}}))

    assert main(["quota", "apply", "-f", tenants]) == 0

    assert kube.writes == [("PATCH", f"{PATH}/a"), ("PATCH", f"{PATH}/b")]
    assert kube.get(f"{PATH}/b")["metadata"]["labels"] == {"owner": "x"}
    assert "applied: create TenantQuota a" in capsys.readouterr().out
    assert main(["quota", "apply", "-f", tenants]) == 0
    assert "nothing to apply" in capsys.readouterr().out
    assert len(kube.writes) == 2


def test_apply_deletes_only_when_asked_to(cluster, files, capsys):
    kube = cluster(a_tenant("old"))

    assert main(["quota", "apply", "-f", files(a_tenant())]) == 0
    assert [item["metadata"]["name"] for item in kube.objects(PATH)] == ["old", "team"]
    assert main(["quota", "apply", "-f", files(a_tenant()), "--prune"]) == 0
    assert [item["metadata"]["name"] for item in kube.objects(PATH)] == ["team"]


def test_apply_stops_at_the_first_error_and_says_what_is_done(cluster, files, capsys):
    kube = cluster()

    def forbid(method: str, path: str) -> None:
        if (method, path) == ("PATCH", f"{PATH}/b"):
            raise Forbidden(403, "Forbidden", "not you")

    kube.fail = forbid

    assert main(["quota", "apply", "-f", files(a_tenant("a"), a_tenant("b"), a_tenant("c"))]) == 1

    said = capsys.readouterr()
    assert "applied: create TenantQuota a" in said.out
    assert "stopped at create TenantQuota b: Forbidden (403): not you; 1 of 3 changes are applied" in said.err
    assert [item["metadata"]["name"] for item in kube.objects(PATH)] == ["a"]


def test_without_the_crd_nothing_is_written_and_the_fix_is_named(cluster, files, capsys):
    kube = cluster(served=())

    assert main(["quota", "apply", "-f", files(a_tenant())]) == 1

    assert "charts/kerf/crds/tenantquotas.yaml" in capsys.readouterr().err
    assert kube.writes == []


def test_with_kueue_its_objects_follow_and_are_written_as_the_controller_writes_them(
    cluster, files, capsys, kueue_policy
):
    kube = cluster(served=("kerf.dev", "kueue.x-k8s.io"))

    assert main(["quota", "apply", "-f", files(a_tenant()), "--policy", kueue_policy]) == 0

    assert kube.writes[0] == ("PATCH", f"{PATH}/team")
    assert kube.get(f"{KUEUE}/clusterqueues/team")["spec"]["cohortName"] == "kerf"
    assert kube.get(f"{KUEUE}/namespaces/team/localqueues/kerf")["spec"] == {"clusterQueue": "team"}
    assert answer(capsys_after(capsys), "plan", "-f", files(a_tenant()), "--policy", kueue_policy)["changes"] == []


def test_without_kueue_the_tenants_are_written_and_the_rest_is_a_failure(cluster, files, capsys, kueue_policy):
    kube = cluster()

    assert main(["quota", "apply", "-f", files(a_tenant()), "--policy", kueue_policy]) == 1

    assert kube.writes == [("PATCH", f"{PATH}/team")]
    assert "Kueue's are not" in capsys.readouterr().err


# ---- status
def test_status_counts_for_itself_and_says_where_the_object_is_stale(cluster, capsys):
    status = {"observedGeneration": 1, "classes": [{"name": SLUG, "model": "H100", "limit": {"memoryMiB": 1}}]}
    late = {**a_tenant(meta={"generation": 2}), "status": status}
    cluster(
        late,
        a_tenant("new"),
        a_pod("runs", namespace="team", node="node-1", grant=a_grant("GPU-node-1-0", H100_MIB, 30), phase="Running"),
        a_pod("more", namespace="team", node="node-1", grant=a_grant("GPU-node-1-1", 1000, 0), phase="Running"),
        a_pod("waits", namespace="team", mem=500, cores=10),
    )

    told = {tenant["name"]: tenant for tenant in answer(capsys, "status")["tenants"]}

    team = told["team"]["classes"][0]
    assert team["used"]["memoryMiB"] == H100_MIB + 1000
    assert team["borrowed"] == {"memoryMiB": 1000, "cores": 0, "cards": 0}
    assert team["pending"] == {"memoryMiB": 500, "cores": 10, "cards": 1}
    assert "its status is of generation 1, the object of 2" in told["team"]["stale"]
    assert f"its status says used 0 MiB of NVIDIA H100 80GB HBM3, it is {H100_MIB + 1000:,}" in told["team"]["stale"]
    assert told["new"]["stale"] == ["its status was never written; is the scheduler running, and does it lead?"]


def test_status_says_why_pods_wait_and_which_files_cannot_be_read(cluster, capsys):
    tight = a_tenant()
    tight["spec"]["classes"][0]["burst"] = "0 cards"
    cluster(tight, a_tenant("bad", "lots"), a_pod("waits", namespace="team", gpu=2, mem=H100_MIB, cores=0))

    assert main(["quota", "status"]) == 0

    out = capsys.readouterr().out
    assert "team/waits: quota: tenant team holds 0 MiB of at most 81,559 MiB" in out
    assert "✗ bad: spec.classes[0].guaranteed: 'lots'" in out


def test_status_without_quota_says_so(cluster, capsys):
    cluster()
    assert main(["quota", "status"]) == 0
    assert "no tenant is limited" in capsys.readouterr().out


def test_status_shows_drift_and_kueues_own_reasons(cluster, capsys, kueue_policy):
    usage = {MIB: "8000", CORES: "30", CARDS: "1"}
    assigned = {"flavors": dict.fromkeys(usage, SLUG), "resourceUsage": usage}
    admission = {"podSetAssignments": [assigned]}
    reserved = {"type": "QuotaReserved", "status": "True"}
    admitted = {"type": "Admitted", "status": "True"}
    waits = {"type": "QuotaReserved", "status": "False", "message": "couldn't assign flavors: insufficient quota"}
    flavor = {"name": SLUG, "resources": [{"name": name, "total": total} for name, total in usage.items()]}
    queue = {
        **kueue_object("ClusterQueue", "team"),
        "status": {
            "flavorsReservation": [{**flavor, "resources": flavor["resources"][:1]}],
            "conditions": [{"type": "Active", "status": "False", "message": "flavor is missing"}],
        },
    }
    cluster(
        a_tenant(),
        queue,
        kueue_object("Workload", "runs", {"conditions": [reserved, admitted], "admission": admission}),
        kueue_object("Workload", "waits", {"conditions": [waits]}),
        served=("kerf.dev", "kueue.x-k8s.io"),
    )

    found = answer(capsys, "status", "--policy", kueue_policy)

    team = found["tenants"][0]
    assert team["classes"][0]["reserved"] == {"memoryMiB": 8000, "cores": 30, "cards": 1}
    # Nothing runs by its grant: Kueue's books say 8,000 MiB too much.
    assert team["classes"][0]["drift"] == {"memoryMiB": 8000, "cores": 30, "cards": 1}
    assert team["waiting"] == ["team/waits: couldn't assign flavors: insufficient quota"]
    assert found["kueue"][0] == "ClusterQueue team is not active: flavor is missing"
    assert found["kueue"][1].startswith("ClusterQueue team says 8,000 MiB, 0 % of cores, 0 cards of")


# ---- the other verbs
def test_simulate_refuses_by_tenant_quota_and_by_resource_quota(tmp_path, capsys):
    tight = a_tenant()
    tight["spec"]["classes"][0]["burst"] = "0 cards"
    hard = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpu", "namespace": "notebooks"},
        "spec": {"hard": {"limits.nvidia.com/gpumem": "9000"}},
    }
    asked = (("team", 50_000), ("notebooks", 6000))
    pods = [a_pod(f"{ns}-{i}", namespace=ns, mem=mem, cores=0) for ns, mem in asked for i in (1, 2)]
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all([a_node(), tight, hard, *pods]))

    assert main(["simulate", str(path), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert [pod["name"] for pod in found["pods"]] == ["team-1", "notebooks-1"]
    reasons = {refused["name"]: refused["reason"].split(";")[0] for refused in found["refused"]}
    assert reasons == {
        "team-2": "refused at creation: quota: tenant team holds or waits for 50,000 MiB "
        "of at most 81,559 MiB of NVIDIA H100 80GB HBM3",
        "notebooks-2": "quota: namespace notebooks (ResourceQuota gpu) holds 6,000 MiB of at most 9,000 MiB "
        "of nvidia cards",
    }


def test_simulate_does_not_work_around_a_tenant_file_that_cannot_be_read(tmp_path, capsys):
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all([a_node(), a_tenant(guaranteed="lots")]))

    assert main(["simulate", str(path)]) == 1
    assert "TenantQuota team: spec.classes[0].guaranteed: 'lots'" in capsys.readouterr().err


def test_explain_says_the_quota_of_a_pod_that_waits_for_it(cluster, capsys):
    tight = a_tenant()
    tight["spec"]["classes"][0]["burst"] = "0 cards"
    cluster(tight, a_pod("waits", namespace="team", gpu=2, mem=H100_MIB, cores=0))

    assert main(["explain", "team/waits"]) == 1
    assert "team/waits cannot run: quota: tenant team holds 0 MiB of at most 81,559 MiB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([("other", H100_MIB)], "tenant team is guaranteed this: pods of namespaces without a tenant may leave for it"),
        (
            [("team", 10)],
            "nobody leaves for it: with it tenant team would hold more than it is guaranteed",
        ),
        (
            [("other", H100_MIB // 2), ("other", H100_MIB // 2)],
            "tenant team is guaranteed this, and nobody borrows it: kerf repack --plan shows what to move",
        ),
    ],
    ids=["borrowed", "beyond", "spread"],
)
def test_explain_says_who_may_leave_for_a_pod_of_a_tenant(cluster, capsys, held: list[tuple[str, int]], words: str):
    there = [
        a_pod(f"p{i}", namespace=owner, node="node-1", grant=a_grant(f"GPU-node-1-{i}", mib, 0))
        for i, (owner, mib) in enumerate(held)
    ]
    cluster(a_node(cards=len(held)), a_tenant(), *there, a_pod("waits", namespace="team", mem=H100_MIB, cores=100))

    assert main(["explain", "team/waits"]) == 1
    assert f"  {words}" in capsys.readouterr().out


def test_a_snapshot_takes_the_quotas_along(cluster, tmp_path, capsys):
    tight = {**a_tenant(), "status": {"observedGeneration": 1}}
    tight["spec"]["classes"][0]["burst"] = "0 cards"
    cluster(tight, a_pod("waits", namespace="team", gpu=2, mem=H100_MIB, cores=0))
    path = str(tmp_path / "now.json")

    assert main(["snapshot", "-o", path]) == 0
    assert main(["explain", "team/waits", "--file", path]) == 1
    assert "quota: tenant team" in capsys.readouterr().out


def capsys_after(capsys: Any) -> Any:
    """Forget what was printed so far."""
    capsys.readouterr()
    return capsys


def kueue_object(kind: str, name: str, status: Any = None) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "kerf"}
    meta = {"name": name, "labels": labels, **({"namespace": "team"} if kind == "Workload" else {})}
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": meta, "spec": {}, "status": status or {}}
