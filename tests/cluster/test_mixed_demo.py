"""`kerf demo --fleet mixed`: one of Kerf's device plugins serves the resources of three vendors on one real kubelet."""

import json

import pytest

from kerfctl.main import main
from sandbox import node_obstacle

pytestmark = [pytest.mark.cluster, pytest.mark.starts_a_node]


def test_pods_of_three_vendors_run_on_one_node_on_the_cards_that_they_were_given(capsys: pytest.CaptureFixture[str]):
    if reason := node_obstacle():
        pytest.skip(f"no real node can run here: {reason}")

    status = main(["demo", "--fleet", "mixed", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert (status, found["node"]) == (0, "kubelet")
    assert {pod["phase"] for pod in found["pods"]} == {"Running"}
    running = {pod["name"]: pod["slices"][0]["vendor"] for pod in found["pods"]}
    either = {running.pop(name) for name in ("either-a", "either-b")}
    # The one MetaX card takes one sharing policy: the pod that comes first.
    metax = {name: running.pop(name, "") for name in ("rerank-metax", "embeddings-metax")}
    assert sorted(metax.values()) == ["", "metaxsgpu"]
    assert either <= {"nvidia", "ascend910b3"}
    assert running == {"chat": "nvidia", "rerank-mig": "nvidia", "chat-ascend": "ascend910b3"}
