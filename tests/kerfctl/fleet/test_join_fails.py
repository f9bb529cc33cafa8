"""A join that fails: one clear line, nothing half-joined, and a second run that finishes it."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.kube.errors import Busy, Forbidden, KubeError, Unreachable
from kerf.testing.builders import a_node, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.wire.json import Json
from kerfctl.fleet import connect as connecting
from kerfctl.fleet import join, leave, planned, show
from kerfctl.fleet.charts import VERSION
from kerfctl.fleet.steps import Steps
from kerfctl.main import main
from scheduler.fleet.rights import RULES, lacking

CLUSTER = "/apis/kerf.dev/v1alpha1/clusters/north"
SECRET = "/api/v1/namespaces/kerf-system/secrets/kerf-cluster-north"
ROLE = "/apis/rbac.authorization.k8s.io/v1/namespaces/kerf-system/roles/kerf-cluster-north"


class Member(FakeKube):
    """A cluster with Kerf and cards; its controller-manager writes the token."""

    def __init__(self) -> None:
        super().__init__(a_node("gpu-1", cards_of("gpu-1", 8)))
        self.asked = 0
        labels = {"app.kubernetes.io/version": VERSION}
        meta = {"name": "kerf-scheduler", "namespace": "kerf-system", "labels": labels}
        self.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta})
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "u"}})

    def get(self, path: str, query: Any = None) -> Json:
        if path == "/version":
            self.fail("GET", path)
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        found = super().get(path, query)
        if path.endswith("/secrets/kerf-fleet-token"):
            return {**found, "data": {"token": base64.b64encode(b"t").decode()}}
        return found

    def create(self, path: str, body: object, query: Any = None) -> Json:
        self.fail("POST", path)
        return {"status": {"allowed": True}}


@pytest.fixture
def kubes(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeKube, Member]:
    """The manager cluster and the one that joins, behind every client that the verbs make."""
    manager, member = FakeKube(), Member()
    for module in (join, leave, planned, show):
        monkeypatch.setattr(module, "manager_of", lambda _: manager)
    monkeypatch.setattr(join, "connect", lambda *_, **__: member)
    monkeypatch.setattr(join, "connect_to", lambda *_, **__: member)
    monkeypatch.setattr(connecting, "connect_to", lambda *_, **__: member)
    monkeypatch.setattr(join, "Steps", lambda: Steps(patience_s=0.0, pause_s=0.0))
    monkeypatch.setattr(join, "MANAGER_S", 0.0)
    return manager, member


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "north.yaml"
    cluster = {"name": "a", "cluster": {"server": "https://north.example"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "u"}}
    path.write_text(yaml.safe_dump({"clusters": [cluster], "contexts": [context], "current-context": "a"}))
    return str(path)


def add(kubeconfig: str) -> int:
    return main(["cluster", "add", "north", "--kubeconfig", kubeconfig])


def there(manager: FakeKube) -> list[str]:
    """What the manager cluster has of the join."""
    return sorted(path for path in (CLUSTER, SECRET, ROLE) if manager.objects(path))


def fail_from(kube: FakeKube, number: int, error: KubeError, *, once: bool = False) -> list[int]:
    """Fail every request from one on, or that one alone; how many came."""
    came = [0]

    def fail(method: str, path: str) -> None:
        came[0] += 1
        if came[0] == number or (came[0] > number and not once):
            raise error

    kube.fail = fail
    return came


def a_join_takes(kube: FakeKube, kubeconfig: str) -> int:
    came = fail_from(kube, 10**6, Unreachable("no"))
    add(kubeconfig)
    return came[0]


def test_a_cluster_that_vanishes_at_any_moment_of_the_join_leaves_nothing_half_joined(
    kubes: tuple[FakeKube, Member], kubeconfig: str, capsys: pytest.CaptureFixture[str]
):
    manager, member = kubes
    requests = a_join_takes(member, kubeconfig)
    for path in (CLUSTER, SECRET, ROLE):
        manager.remove(path)
    whole = []
    for number in range(1, requests + 1):
        fail_from(member, number, Unreachable("GET /: north does not answer"))
        capsys.readouterr()
        status = add(kubeconfig)
        said = capsys.readouterr()
        if there(manager):
            whole.append(number)
            assert there(manager) == sorted((CLUSTER, SECRET, ROLE)), number
            for path in (CLUSTER, SECRET, ROLE):
                manager.remove(path)
        else:
            assert status == 1
            assert said.err.startswith("kerf: north: ")
            assert "run it again once that is mended" in " ".join(said.err.split())

    assert whole == [requests], "only what is asked once it has joined may fail"


@pytest.mark.parametrize(
    "error", [Unreachable("gone"), Busy(503, "ServiceUnavailable", "later"), Forbidden(403, "", "no")]
)
def test_a_manager_cluster_that_fails_at_any_moment_has_a_join_or_none_and_a_second_run_finishes_it(
    kubes: tuple[FakeKube, Member], kubeconfig: str, error: KubeError
):
    manager, _ = kubes
    requests = a_join_takes(manager, kubeconfig)
    for path in (CLUSTER, SECRET, ROLE):
        manager.remove(path)
    for number in range(1, requests + 1):
        fail_from(manager, number, error, once=True)
        add(kubeconfig)
        manager.fail = lambda method, path: None
        assert there(manager) in ([], sorted((CLUSTER, SECRET, ROLE))), number
        assert add(kubeconfig) == 1, "it has joined, and no manager runs"
        assert there(manager) == sorted((CLUSTER, SECRET, ROLE))
        for path in (CLUSTER, SECRET, ROLE):
            manager.remove(path)


def test_a_step_is_tried_again_while_the_cluster_does_not_answer(capsys: pytest.CaptureFixture[str]):
    answers: list[KubeError | str] = [Unreachable("no"), Busy(500, "", "no"), "8 x H100"]

    def act() -> str:
        found = answers.pop(0)
        if isinstance(found, KubeError):
            raise found
        return found

    steps = Steps(patience_s=5.0, pause_s=0.0)

    assert steps.run("cards", act) == "8 x H100"
    assert (steps.done, capsys.readouterr().out) == (["cards"], "✓ cards: 8 x H100\n")


def test_a_context_that_cannot_be_reached_is_named_with_what_to_check(
    kubes: tuple[FakeKube, Member], kubeconfig: str, capsys: pytest.CaptureFixture[str]
):
    fail_from(kubes[1], 1, Unreachable("GET /version: [Errno 111] Connection refused"))

    assert add(kubeconfig) == 1

    said = " ".join(capsys.readouterr().err.split())
    assert "https://north.example cannot be reached ([Errno 111] Connection refused)" in said
    assert "--context" in said
    assert "nothing was changed" in said


def test_what_a_credential_lacks_is_named_unless_the_server_cannot_say():
    rules = [dict(rule) for rule in RULES]
    older = [rule for rule in rules if rule["resources"] != ["fleetplaces"]]
    named = [{"apiGroups": ["kerf.dev"], "resources": ["fleetplaces"], "verbs": ["*"], "resourceNames": ["a"]}]
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    words = tuple(f"{verb} fleetplaces.kerf.dev" for verb in ("list", "create", "patch", "delete"))

    def review(found: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"status": {"resourceRules": found, **more}}

    assert lacking(review(rules)) == lacking(review(everything)) == ()
    assert lacking(review(older)) == lacking(review([*older, *named])) == words
    assert lacking(review(older, incomplete=True)) == lacking({}) == ()


def a_status(*conditions: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    found = [{"type": kind, "status": status, "message": said} for kind, status, said in conditions]
    return {"conditions": found, **more}


def test_the_list_says_which_cluster_has_to_be_joined_again(
    kubes: tuple[FakeKube, Member], capsys: pytest.CaptureFixture[str]
):
    lacks = "its credential lacks list fleetplaces.kerf.dev: run kerf cluster add north again, which renews the rights"
    status = a_status(("Reachable", "True", "it answers"), ("Permitted", "False", lacks), phase="Live")
    body = {"apiVersion": "kerf.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "north"}, "status": status}
    kubes[0].put(body)

    assert main(["cluster", "list"]) == 0

    assert f"✗ north: {lacks}" in capsys.readouterr().out


def a_fleet_workload(name: str, status: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default"}
    spec = {"replicas": 3}
    kind = {"apiVersion": "kerf.dev/v1alpha1", "kind": "FleetWorkload"}
    return {**kind, "metadata": meta, "spec": spec, "status": status}


def test_the_plan_shows_where_replicas_are_and_why_some_have_no_place_or_other_cards(
    kubes: tuple[FakeKube, Member], capsys: pytest.CaptureFixture[str]
):
    part = {"cluster": "north", "model": "H100", "epoch": 1, "replicas": 3}
    good = a_status(
        ("Placed", "True", "north: 3"), ("AsPlanned", "False", "preferences come first"), assignments=[part]
    )
    kubes[0].put(a_fleet_workload("chat", good))
    alone = (main(["cluster", "plan", "chat"]), capsys.readouterr().out)
    kubes[0].put(a_fleet_workload("embed", a_status(("Placed", "False", "1 of 3 replicas have no place: north: full"))))
    kubes[0].put(a_fleet_workload("fresh", {}))
    both = (main(["cluster", "plan"]), capsys.readouterr().out)
    missing = (main(["cluster", "plan", "none"]), capsys.readouterr().err)
    changed = a_fleet_workload("chat", {**good, "observedGeneration": 1})
    changed["metadata"]["generation"] = 2
    kubes[0].put(changed)
    older = (main(["cluster", "plan", "chat"]), capsys.readouterr().out)

    assert older[0] == 1
    assert "✗ default/chat: no manager has looked at its last change, so this is the plan from before" in older[1]
    assert alone[0] == 0
    assert "~ default/chat: preferences come first" in alone[1]
    assert both[0] == 1
    assert "✗ default/embed: 1 of 3 replicas have no place: north: full" in both[1]
    assert "✗ default/fresh: no manager has looked at it yet" in both[1]
    assert missing == (1, "kerf: none: no such FleetWorkload; there are: default/chat, default/embed, default/fresh\n")
