"""Metering on a real API server: records by server-side apply, a killed leader, `kerf bill` that adds up."""

import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import H100_MIB
from kerf.wire.usage import PATH
from kerfctl.main import main
from sandbox import ApiError, ControlPlane, await_until
from sandbox.crds import install_crds
from sandbox.stack import EXTENDER
from tests.cluster.gateway_crds import KEDA, install_some, real
from tests.cluster.gpu_pods import PODS, a_fake_node, a_fleet, a_gpu_pod, await_bound, create
from tests.cluster.metrics_adapter import an_adapter

pytestmark = pytest.mark.cluster
NODE = "metered"
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {"metering": {"enabled": True, "cluster": "sandbox", "writeSeconds": 5, "openCost": True}},
}


@pytest.fixture(scope="module")
def cp(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One node with one card; four pods hold a quarter of it each."""
    install_crds(control_plane)
    policy = tmp_path_factory.mktemp("metering") / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    with a_fleet(control_plane, [a_fake_node(NODE, 1)], "--config", str(policy)):
        names = [f"quarter-{i}" for i in range(4)]
        create(control_plane, *(a_gpu_pod(name, mem=H100_MIB // 4, cores=0) for name in names))
        await_bound(control_plane, *names)
        yield control_plane


def bill(cp: ControlPlane, cache: Path, *words: str) -> dict[str, Any]:
    argv = [sys.executable, "-c", "import sys; from kerfctl.main import main; sys.exit(main())", "bill", "--json"]
    more = ["--kubeconfig", str(cp.kubeconfig), "--since", "2h", "--cache", str(cache), *words]
    done = subprocess.run([*argv, *more], capture_output=True, text=True, check=False, timeout=120)
    # No device plugin runs on a kwok node, so what the killed scheduler did not see is named.
    gap = f"node {NODE}: pods that ended between"
    said = (gap, "there is no record before")  # the cluster is younger than the span
    assert [line for line in done.stderr.splitlines() if not any(words in line for words in said)] == []
    assert done.returncode == (1 if gap in done.stderr else 0)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def until(cp: ControlPlane) -> str:
    """Until when the newest record of the cards counts."""
    specs = [item["spec"] for item in cp.api.get(PATH)["items"]]
    return max((spec["until"] for spec in specs if "tenant" not in spec and "namespace" not in spec), default="")


def test_slices_are_billed_through_a_killed_leader_and_until_they_end(cp: ControlPlane, tmp_path: Path) -> None:
    await_until(lambda: bool(until(cp)), "the first records")
    before = until(cp)
    cp.supervisor.kill(EXTENDER)
    cp.supervisor.restart(EXTENDER)
    await_until(lambda: until(cp) > before, "the next leader to count on")

    found = bill(cp, tmp_path / "cache.sqlite")
    costs = [Decimal(row["cost"]) for row in found["rows"]]
    seconds = [Decimal(row["vgpu_seconds"]) for row in found["rows"]]
    assert [row["workload"] for row in found["rows"]] == [f"Pod/quarter-{i}" for i in range(4)]
    assert {(row["namespace"], row["tenant"], row["cluster"]) for row in found["rows"]} == {("default", "", "sandbox")}
    assert sum(costs) + Decimal(found["idle_cost"]) == Decimal(found["node_cost"])
    assert max(seconds) - min(seconds) < 5  # bound within seconds of each other, each for a quarter
    price = Decimal("1.62") / 3600
    assert abs(costs[0] - seconds[0] * price) < Decimal("0.000002")

    cp.api.delete(f"{PODS}/quarter-0", 0)
    ended = until(cp)
    await_until(lambda: until(cp) > ended, "a round after its end")
    first = {row["workload"]: Decimal(row["vgpu_seconds"]) for row in bill(cp, tmp_path / "c")["rows"]}
    seen = until(cp)
    await_until(lambda: until(cp) > seen, "another round")
    second = {row["workload"]: Decimal(row["vgpu_seconds"]) for row in bill(cp, tmp_path / "c")["rows"]}

    assert second["Pod/quarter-0"] == first["Pod/quarter-0"]
    assert second["Pod/quarter-1"] > first["Pod/quarter-1"]


def test_kubernetes_autoscaler_follows_the_recommendation_and_does_nothing_while_there_is_none(
    cp: ControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kerf scale --hpa` at the real controller; an adapter of the tests serves Kerf's series.

    A change by a tenth or less is nothing to it, which is why recommendations differ by more (`kerf.metering.scale`).
    """
    cp.api.post("/api/v1/namespaces", {"metadata": {"name": "serving"}})
    deployments = "/apis/apps/v1/namespaces/serving/deployments"
    pod = {"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": [{"name": "main", "image": "chat"}]}}
    spec = {"replicas": 20, "selector": {"matchLabels": {"app": "chat"}}, "template": pod}
    cp.api.post(deployments, {"metadata": {"name": "chat"}, "spec": spec})
    assert main(["scale", "serving/Deployment/chat", "--hpa"]) == 0
    scalers = "/apis/autoscaling/v2/namespaces/serving/horizontalpodautoscalers"
    cp.api.post(scalers, yaml.safe_load(capsys.readouterr().out))

    def replicas() -> int:
        return int(cp.api.get(f"{deployments}/chat")["spec"]["replicas"])

    def active() -> str:
        conditions = cp.api.get(f"{scalers}/chat")["status"].get("conditions", [])
        return next(
            (f"{each['status']} {each['reason']}" for each in conditions if each["type"] == "ScalingActive"), ""
        )

    def seen() -> str:
        metrics = cp.api.get(f"{scalers}/chat")["status"].get("currentMetrics") or [{}]
        return str(metrics[0].get("external", {}).get("current", {}).get("averageValue", ""))

    with an_adapter(cp) as adapter:
        series = 'kerf_recommended_replicas{{namespace="serving",kind="Deployment",name="{}",cluster="sandbox"}} {}\n'
        adapter.page = series.format("chat", 23.0) + series.format("other", 9.0)
        await_until(lambda: replicas() == 23, "the recommended replicas")
        assert active() == "True ValidMetricFound"
        adapter.page = series.format("chat", 24.0)
        await_until(lambda: seen() == "1044m", "the next recommendation to be read")
        assert replicas() == 23
        adapter.page = ""
        await_until(lambda: active() == "False FailedGetExternalMetric", "the missing metric to be noticed")
        assert replicas() == 23


def test_kedas_own_definition_takes_the_scaled_object(cp: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    """Field by field: the API server refuses what KEDA's CustomResourceDefinition does not have."""
    install_some(cp, real(KEDA))
    assert main(["scale", "default/Deployment/chat", "--keda", "--prometheus", "http://prometheus:9090"]) == 0
    made = yaml.safe_load(capsys.readouterr().out)
    objects = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects?fieldValidation=Strict"
    assert cp.api.post(objects, made)["spec"] == made["spec"]

    made["metadata"]["name"], made["spec"]["cooldown"] = "other", 1
    with pytest.raises(ApiError, match="unknown field"):
        cp.api.post(objects, made)
