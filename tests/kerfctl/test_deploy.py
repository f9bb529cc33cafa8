"""`kerf model deploy` applies a model's objects and says where its pods are until it answers."""

from typing import Any

import pytest

from kerf.kube.errors import NotFound
from kerf.testing.fake_kube import FakeKube
from kerfctl import cluster
from kerfctl.main import main
from kerfctl.model import deploy
from kerfctl.model.progress import failures, progress

PODS = "/api/v1/namespaces/default/pods"
SERVER = {"app.kubernetes.io/name": "qwen3-0-6b", "app.kubernetes.io/component": "model-server"}
ASK = ["qwen3-0.6b", "--max-len", "8192", "--concurrency", "4", "--name", "qwen3-0-6b"]


def a_server(node: str = "", **status: Any) -> dict[str, Any]:
    meta = {"name": "server-1", "namespace": "default", "labels": SERVER}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": node}, "status": status}


def running(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": {"running": {}}, **more}


def waiting(name: str, reason: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": "why"}}, **more}


NO_PLACE = [{"type": "PodScheduled", "status": "False", "message": "no card has 6,208 MiB"}]
READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("pod", "sentence"),
    [
        (a_server(conditions=NO_PLACE), "waits for a place: no card has 6,208 MiB"),
        (a_server(), "waits for a place: not looked at yet"),
        (a_server("n", initContainerStatuses=[running("fetch")]), "fetches its weights on n"),
        (a_server("n", containerStatuses=[waiting("server", "PodInitializing")]), "starts on n"),
        (a_server("n", containerStatuses=[waiting("server", "ImagePullBackOff")]), "server: ImagePullBackOff"),
        (a_server("n", containerStatuses=[running("server")]), "loads the model on n"),
        (a_server("n", conditions=READY), "is ready"),
    ],
)
def test_each_pod_says_what_it_waits_for(pod: dict[str, Any], sentence: str) -> None:
    assert progress([pod]) == {"server-1": sentence}


def test_only_what_will_not_mend_itself_ends_the_wait() -> None:
    ended = {"lastState": {"terminated": {"exitCode": 1}}}
    pods = [
        a_server("n", containerStatuses=[waiting("server", "CrashLoopBackOff", restartCount=2, **ended)]),
        a_server("n", initContainerStatuses=[waiting("fetch", "CrashLoopBackOff", restartCount=3, **ended)]),
        a_server("n", containerStatuses=[waiting("server", "InvalidImageName")]),
    ]

    assert list(failures(pods)) == [
        "server-1: fetch ended 3 times, last with exit status 1: kubectl logs -n default server-1 -c fetch --previous",
        "server-1: server: InvalidImageName: why",
    ]


class Cluster(FakeKube):
    """A cluster whose pod gets one step further with each look, and whose model answers at the second question."""

    def __init__(self, *states: dict[str, Any]) -> None:
        super().__init__()
        self._states, self._asked = list(states), 0

    def list(self, path: str, query: Any = None) -> Any:
        if path == PODS and self._states:
            self.put(self._states.pop(0))
        return super().list(path, query)

    def get(self, path: str, query: Any = None) -> Any:
        if path != f"{PODS}/server-1:8000/proxy/v1/models":
            return super().get(path, query)
        self._asked += 1
        if self._asked == 1:
            raise NotFound(404, "NotFound", "no endpoints")
        return {"data": [{"id": "qwen3-0-6b"}]}


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(deploy, "LOOK_S", 0.01)

    def run(kube: FakeKube, *more: str) -> int:
        monkeypatch.setattr(cluster, "connect_to", lambda _args: kube)
        return main(["model", "deploy", *ASK, *more])

    return run


def test_a_model_is_followed_until_it_answers(deployed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kube = Cluster(
        a_server(conditions=NO_PLACE),
        a_server("n", containerStatuses=[running("server")]),
        a_server("n", conditions=READY),
    )

    assert deployed(kube) == 0

    assert capsys.readouterr().out.splitlines() == [
        "applied: Deployment default/qwen3-0-6b",
        "applied: Service default/qwen3-0-6b",
        "each replica asks for 1 x 6,208 MiB for 8,192 tokens and 4 requests at once",
        "server-1 waits for a place: no card has 6,208 MiB",
        "server-1 loads the model on n",
        "server-1 is ready",
        "qwen3-0-6b answers: kubectl -n default port-forward service/qwen3-0-6b 8080:http",
    ]


def test_a_model_that_does_not_answer_in_time_says_what_it_waits_for(
    deployed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deployed(Cluster(a_server(conditions=NO_PLACE)), "--timeout", "0.05") == 1
    assert "does not answer after 0.05 s: server-1 waits for a place: no card has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--cache", "models"], "cache: 'models': write an absolute path on the node"),
        (["--cache", "/models", "--claim", "c"], "give --claim or --cache, not both"),
        (["--fetch", "s3"], "source: 's3': use huggingface or modelscope"),
        (["--revision", "v1"], "--revision: 'v1': add --fetch huggingface or modelscope"),
        (["--fetch", "huggingface", "--weights", "/models/x"], "write OWNER/NAME"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_applied(
    deployed: Any, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    kube = FakeKube()

    assert deployed(kube, *more) == 1
    assert message in capsys.readouterr().err
    assert kube.writes == []
