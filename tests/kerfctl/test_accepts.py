"""`kerf simulate` and `kerf explain` choose kinds with the scheduler's own code."""

import json
from pathlib import Path

import pytest

from kerf.wire.json import at
from kerfctl.main import main

NODES = "examples/mixed/nodes.yaml"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  replicas: %d
  selector: {matchLabels: {app: chat}}
  template:
    metadata:
      labels: {app: chat}
      annotations:
        nvidia.com/vgpu-mode: hami-core
        kerf.dev/accepts: "huawei.com/Ascend910B3;memory=32768, nvidia.com/gpu:H100;memory=40000;cores=50"
    spec: {containers: [{name: main, image: app}]}
"""


@pytest.fixture
def chat(tmp_path: Path) -> str:
    file = tmp_path / "chat.yaml"
    file.write_text(DEPLOYMENT % 9)
    return str(file)


def test_each_pod_is_given_a_kind_beside_those_before_it(chat: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", NODES, chat, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    nodes = [pod["node"] for pod in found["pods"]]
    assert nodes == ["hopper"] * 4 + ["ascend"] * 4
    assert [refused["name"] for refused in found["refused"]] == ["chat-8"]


def test_explain_says_which_kind_a_pod_was_given_and_why(chat: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "chat-0", "--file", NODES, "--file", chat, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["among"]) == ("nvidia.com/gpu:H100", ["huawei.com/Ascend910B3", "nvidia.com/gpu:H100"])
    assert found["why"].startswith("fits on NVIDIA H100 80GB HBM3 at 0.81 USD an hour")
    assert at(found, "reasons") == {}
