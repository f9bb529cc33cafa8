"""`kerf model deploy` applies a model's objects and says where its pods are until it answers."""

from typing import Any

import pytest

from kerf.kube.errors import Busy, NotFound
from kerf.testing.fake_kube import FakeKube
from kerfctl import cluster
from kerfctl.main import main
from kerfctl.model import deploy
from kerfctl.model.progress import failures, progress
from kerfctl.model.rollout import HASH, REVISION, is_final, last_message, newest, newest_groups, refused

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
        self.completion: Any = {"choices": [{"text": " Paris."}]}

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

    def create(self, path: str, body: Any, query: Any = None) -> Any:
        assert (path, body["model"]) == (f"{PODS}/server-1:8000/proxy/v1/completions", "qwen3-0-6b")
        if isinstance(self.completion, Exception):
            raise self.completion
        return self.completion


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
        "qwen3-0-6b answers: The capital of France is Paris.",
        "reach it by kubectl -n default port-forward service/qwen3-0-6b 8080:http",
    ]


def test_a_server_without_completions_answers_by_listing_its_model(
    deployed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    kube = Cluster(a_server("n", conditions=READY))
    kube.completion = NotFound(404, "NotFound", "no such path")

    assert deployed(kube) == 0
    assert "qwen3-0-6b answers: it lists the model" in capsys.readouterr().out.splitlines()


def test_a_server_that_fails_at_its_first_request_does_not_answer(
    deployed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    kube = Cluster(a_server("n", conditions=READY))
    kube.completion = Busy(500, "InternalError", "CUDA error")

    assert deployed(kube, "--timeout", "0.05") == 1
    assert "server-1 is ready and lists the model, but does not answer: InternalError (500): CUDA error" in (
        capsys.readouterr().err
    )


def a_deployment(revision: str = "2", generation: int = 3, *conditions: dict[str, Any]) -> dict[str, Any]:
    meta = {"generation": generation, "annotations": {REVISION: revision}}
    return {"metadata": meta, "status": {"observedGeneration": 3, "conditions": list(conditions)}}


def a_set(revision: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {REVISION: revision}, "labels": {HASH: f"hash-{revision}"}}}


def a_pod_of(revision: str) -> dict[str, Any]:
    return {"metadata": {"name": f"of-{revision}", "labels": {HASH: f"hash-{revision}"}}}


def test_only_the_pods_of_the_newest_template_are_followed() -> None:
    sets, pods = [a_set("1"), a_set("2")], [a_pod_of("1"), a_pod_of("2")]

    assert newest(a_deployment(), sets, pods) == [a_pod_of("2")]
    assert newest(a_deployment(generation=4), sets, pods) == []  # the controller has not seen the change yet


LWS = "leaderworkerset.sigs.k8s.io"
GROUPS = ["deepseek-r1", "--tp", "8", "--pp", "2", "--max-len", "8192", "--name", "r1"]


def a_revision(number: int) -> dict[str, Any]:
    labels = {f"{LWS}/name": "r1", f"{LWS}/template-revision-hash": f"key-{number}"}
    meta = {"name": f"r1-{number}", "namespace": "default", "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": meta, "revision": number}


def a_member(name: str, index: int, revision: int, **status: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "r1", "app.kubernetes.io/component": "model-server"}
    labels |= {f"{LWS}/worker-index": str(index), f"{LWS}/template-revision-hash": f"key-{revision}"}
    meta = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "n"}, "status": status}


class Groups(FakeKube):
    """A cluster with a LeaderWorkerSet whose controller takes one more step with each look."""

    def __init__(self, *steps: list[dict[str, Any]]) -> None:
        super().__init__()
        self._steps, self.asked = list(steps), list[str]()

    def list(self, path: str, query: Any = None) -> Any:
        if path == PODS and self._steps:
            for item in self._steps.pop(0):
                self.put(item)
        return super().list(path, query)

    def get(self, path: str, query: Any = None) -> Any:
        if not path.endswith("/proxy/v1/models"):
            return super().get(path, query)
        self.asked.append(path)
        return {"data": [{"id": "r1"}]}

    def create(self, path: str, body: Any, query: Any = None) -> Any:
        return {"choices": [{"text": " Paris."}]}


def test_of_groups_the_leaders_of_the_newest_template_are_asked(monkeypatch: Any, capsys: Any) -> None:
    old = [a_member("r1-0", 0, 1, conditions=READY), a_member("r1-0-1", 1, 1, conditions=READY)]
    new = [a_member("r1-0", 0, 2, conditions=[]), a_member("r1-0-1", 1, 2, conditions=READY)]
    kube = Groups([], [a_revision(2)], new, [a_member("r1-0", 0, 2, conditions=READY)])
    for item in (a_revision(1), *old):
        kube.put(item)
    monkeypatch.setattr(deploy, "LOOK_S", 0.01)
    monkeypatch.setattr(cluster, "connect_to", lambda _args: kube)
    assert main(["model", "deploy", *GROUPS, "--no-wait"]) == 0
    capsys.readouterr()

    assert main(["model", "deploy", *GROUPS, "--concurrency", "2"]) == 0

    said = capsys.readouterr().out.splitlines()
    assert kube.asked == [f"{PODS}/r1-0:8000/proxy/v1/models"]
    assert said[3:-1] == [
        "r1-0 starts on n",
        "r1-0-1 is ready",
        "r1-0 is ready",
        "r1 answers: The capital of France is Paris.",
    ]


@pytest.mark.parametrize(
    ("revisions", "older", "followed"),
    [([], -1, []), ([], 0, []), ([a_revision(1)], 1, []), ([a_revision(2), a_revision(1)], 1, ["new"]),
     ([a_revision(1)], -1, ["old"])],
)  # fmt: skip
def test_former_groups_say_nothing_about_a_new_template(revisions: Any, older: int, followed: list[str]) -> None:
    pods = [a_member("old", 0, 1), a_member("new", 0, 2)]

    assert [pod["metadata"]["name"] for pod in newest_groups(revisions, pods, older)] == followed


def test_an_owner_says_why_it_cannot_make_its_pods() -> None:
    quota = "pods is forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=1"
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": quota}

    assert [refused(a_deployment("2", 3, failed)), refused(a_deployment())] == [quota, ""]
    assert [is_final(quota), is_final("failed calling webhook: connection refused")] == [True, False]


def test_the_last_warning_of_a_pod_is_said_in_one_line() -> None:
    old = {"message": "old", "lastTimestamp": "2026-11-28T05:00:00Z"}
    new = {"message": "Unable to attach\n  volumes", "eventTime": "2026-11-28T05:00:01Z"}

    assert [last_message([new, old]), last_message([])] == ["Unable to attach volumes", ""]


def test_a_refusal_of_every_pod_ends_at_once_with_its_reason(deployed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Refusing(FakeKube):
        def get(self, path: str, query: Any = None) -> Any:
            failed = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota: q'}
            return super().get(path, query) | {"status": {"conditions": [failed]}}

    assert deployed(Refusing()) == 1
    assert capsys.readouterr().err == 'kerf: qwen3-0-6b gets no pods: pods "x" is forbidden: exceeded quota: q\n'


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
