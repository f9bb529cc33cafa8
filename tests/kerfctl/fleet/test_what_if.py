"""`kerf simulate --clusters`: what a plan does not have is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_node
from kerfctl.main import main

CONTAINER = {"name": "main", "image": "i", "resources": {"limits": {"nvidia.com/gpumem": 8000}}}


def a_workload(kind: str, api: str = "apps/v1") -> dict[str, Any]:
    spec = {"replicas": 1, "template": {"spec": {"containers": [CONTAINER]}}}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": kind.lower()}, "spec": spec}


@pytest.mark.parametrize(
    ("others", "status", "left_out"),
    [
        ([], 0, []),
        ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}], 0, []),
        ([a_workload("DaemonSet")], 1, ["not read: DaemonSet daemonset"]),
        ([a_workload("JobSet", "jobset.x-k8s.io/v1alpha2")], 1, ["not read: JobSet jobset"]),
        ([a_workload("Workflow", "argoproj.io/v1alpha1")], 1, ["not read: Workflow workflow"]),
    ],
    ids=["none", "no pods", "a DaemonSet", "a JobSet", "an unknown kind"],
)
def test_an_object_that_the_plan_does_not_have_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[dict[str, Any]], status: int, left_out: list[str]
) -> None:
    workloads, cluster = tmp_path / "workloads.yaml", tmp_path / "north.json"
    workloads.write_text(yaml.safe_dump_all([a_workload("Deployment"), *others]))
    cluster.write_text(json.dumps(a_node()))

    assert main(["simulate", str(workloads), "--clusters", str(cluster), "--json"]) == status

    found = json.loads(capsys.readouterr().out)
    assert found["leftOut"] == left_out
    assert [part["workload"] for part in found["plans"][0]["assignments"]] == ["default/deployment"]
