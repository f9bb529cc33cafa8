"""`kerf demo --fleet mixed`: three vendors' cards on two real kubelets, and pods that land on either."""

import json

import pytest

from kerfctl.main import main
from sandbox import node_obstacle

pytestmark = [pytest.mark.cluster, pytest.mark.starts_a_node]


def test_pods_of_three_vendors_run_on_two_nodes_on_the_cards_that_they_were_given(capsys: pytest.CaptureFixture[str]):
    if reason := node_obstacle():
        pytest.skip(f"no real node can run here: {reason}")

    status = main(["demo", "--fleet", "mixed", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert (status, found["node"]) == (0, "kubelet")
    assert {pod["phase"] for pod in found["pods"]} == {"Running"}
    running = {pod["name"]: (pod["node"], pod["slices"][0]["vendor"]) for pod in found["pods"]}
    # The one MetaX card takes one sharing policy: the pod that comes first.
    metax = [running.pop(name, None) for name in ("rerank-metax", "embeddings-metax")]
    assert sorted(each for each in metax if each) == [("ascend-metax", "metaxsgpu")]
    hopper, ascend = ("hopper", "nvidia"), ("ascend-metax", "ascend910b3")
    either = {running.pop(name) for name in ("either-a", "either-b")}
    assert either == {hopper, ascend}, "beside chat, 75,000 MiB of an H100 are free once"
    assert running == {"chat": hopper, "rerank-mig": hopper, "chat-ascend": ascend}
