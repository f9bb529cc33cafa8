"""Learning as one path: a container's ledger, the node's records, the leader's lessons, and the next estimate."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from kerf.catalogue import shipped
from kerf.kube import paths
from kerf.testing.builders import a_grant, a_pod
from kerf.values.learned import LearningMode, LearningSettings
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Review
from kerf.wire.learned import learned_in, path_of
from kerf.wire.limiter import CARDS_AT, RECORDS
from kerfctl.main import main
from scheduler.learning.learner import Learner, Sources
from scheduler.learning.metrics import LearningPage
from scheduler.metering.noderecords import NodeRecords
from scheduler.state.store import Store, load
from tests.deviceplugin.fake_kubelet import Admitted
from tests.deviceplugin.plugin_world import NODE, World, a_world, card
from tests.webhook.json_patch import apply
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

MIB = 2**20
NAMESPACE = "kerf-system"
ASK = ("qwen3-0.6b", "--max-len", "8192", "--concurrency", "4", "--card", "H100")
SERVER = {"name": "main", "image": "vllm/vllm-openai:v0.33.0", "command": ["vllm", "serve"]}
NOTES = {"kerf.dev/model": "qwen3-0.6b;max-len=8192;concurrency=4", "nvidia.com/use-gputype": "H100"}


class Cluster:
    """One node with its real device plugin, the webhook's decision, and the leader's learner, which asks over HTTP."""

    def __init__(self, node: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = node
        self.capsys = capsys

    def starts(self, name: str) -> tuple[Admitted, Path]:
        """A server that names its model is reviewed, placed and started; the pod, and its ledger on the host."""
        pod = a_pod(name, containers=[SERVER], annotations=NOTES)
        answer = mutate(Review("u", "CREATE", "Pod", "default", "joe", pod, {}), Settings(VENDORS, catalogue=shipped()))
        containers = apply(pod, answer.patch)["spec"]["containers"]
        limits = containers[0]["resources"]["limits"]
        grant = a_grant(card(0), int(limits["nvidia.com/gpumem"]), int(limits["nvidia.com/gpucores"]))
        admitted = self.node.bind(a_pod(name, containers=containers, annotations=NOTES, node=NODE, grant=grant))
        edits = self.node.runtime_edits(self.node.kubelet.start_container(admitted, "main"))
        return admitted, Path(edits["mounts"][edits["env"]["KERF_LEDGER"]])

    def goes(self, admitted: Admitted) -> None:
        self.node.kube.remove(paths.pod("default", admitted.pod["metadata"]["name"]))
        self.node.kubelet.forget(admitted.uid)

    def learns(self, *peaks: int) -> None:
        """The node reads its ledgers, as it does every half minute; then a new leader reads the node."""
        self.node.restart_plugin()
        store = Store(SchedulingPolicy(learning=LearningSettings(LearningMode.OBSERVE)), VENDORS)
        load(store, [self.node.kube.get(f"/api/v1/nodes/{NODE}")], [])
        sources = Sources(
            NodeRecords(lambda: {NODE: self.node.settings.metrics_bind}), lambda _: None, shipped(), NAMESPACE
        )
        learner = Learner(store, self.node.kube, sources, LearningPage())
        for _ in range(200):
            learner.run_once()
            if [lesson.peak_mib for lesson in learned_in(self.node.kube.get(path_of(NAMESPACE))).lessons] == [*peaks]:
                return
            threading.Event().wait(0.05)
        raise AssertionError(self.node.kube.get(path_of(NAMESPACE)))

    def slice_mib(self, *more: str) -> int:
        assert main(("model", "estimate", *ASK, "--json", *more)) == 0
        return int(json.loads(self.capsys.readouterr().out)["slice_mib"])


def holds(ledger: Path, mib: int, denied: int = 0) -> None:
    """What the limiter writes into the ledger of a container."""
    data = bytearray(ledger.read_bytes())
    RECORDS["card"].write(data, CARDS_AT, charged=mib * MIB, peak=mib * MIB, denied=denied)
    ledger.write_bytes(data)


@pytest.fixture
def cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with a_world(tmp_path, metrics_bind=address) as node:
        connected: Any = lambda _: node.kube  # noqa: E731
        monkeypatch.setattr("kerfctl.cluster.connect_to", connected)
        yield Cluster(node.run(), capsys)


def test_the_peak_in_a_ledger_is_in_the_next_estimate_and_stays_there(cluster: Cluster) -> None:
    plain = cluster.slice_mib()
    idle, its_ledger = cluster.starts("idle")
    holds(its_ledger, plain - 900)
    cluster.learns(plain - 900)
    assert cluster.slice_mib("--learned") == plain  # one pod of a few seconds makes nothing smaller

    full, ledger = cluster.starts("full")
    holds(ledger, plain, denied=3)
    cluster.learns(plain)
    needed = cluster.slice_mib("--learned")
    assert needed > plain == cluster.slice_mib()  # without --learned the estimate is the plain one

    for pod in (idle, full):
        cluster.goes(pod)
    cluster.learns(plain)
    assert not ledger.exists()
    assert cluster.slice_mib("--learned") == needed
