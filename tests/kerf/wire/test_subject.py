"""Whose a pod is: its workload, model, engine, and when it was bound."""

from typing import Any

import pytest

from kerf.testing.builders import a_pod
from kerf.values.subject import EnginePort, Subject
from kerf.wire.subject import bound_ms, subject_of, workload_of


def an_owner(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"kind": "Node", "name": "no"}, {"controller": True, "kind": kind, "name": name}]


@pytest.mark.parametrize(
    ("owners", "labels", "workload"),
    [
        ([], {}, "Pod/pod-1"),
        (an_owner("ReplicaSet", "chat-abc-5d4f"), {"pod-template-hash": "5d4f"}, "Deployment/chat-abc"),
        (an_owner("ReplicaSet", "bare"), {}, "ReplicaSet/bare"),
        (an_owner("Job", "train-1"), {}, "Job/train-1"),
        (an_owner("StatefulSet", "g-0"), {"leaderworkerset.sigs.k8s.io/name": "big"}, "LeaderWorkerSet/big"),
    ],
)
def test_a_workload_is_what_people_wrote(owners: Any, labels: dict[str, str], workload: str) -> None:
    pod = a_pod(labels=labels)
    pod["metadata"]["ownerReferences"] = owners

    assert workload_of(pod) == workload


def served(*args: str, image: str = "app", notes: dict[str, str] | None = None, **labels: str) -> Subject:
    """A pod with one container of these arguments."""
    container = {"name": "main", "image": image, "args": list(args)}
    return subject_of(a_pod(containers=[container], annotations=notes or {}, labels=labels))


@pytest.mark.parametrize(
    ("subject", "model", "engine"),
    [
        (served("vllm", "serve", "Qwen/Qwen3-8B"), "Qwen/Qwen3-8B", EnginePort("vllm", "main", 8000)),
        (
            served("--model", "m", "--port=9000", image="docker.io/vllm/vllm-openai:v0.33.0"),
            "m",
            EnginePort("vllm", "main", 9000),
        ),
        (
            served("-c", "exec vllm serve big \\\n --served-model-name small --port 81"),
            "small",
            EnginePort("vllm", "main", 81),
        ),
        (
            served("-m", "sglang.launch_server", "--model-path", "m", "--enable-metrics"),
            "m",
            EnginePort("sglang", "main", 30000),
        ),
        (served("-m", "sglang.launch_server", "--model-path", "m"), "m", None),  # it shows no counters
        (served("vllm", "serve", "m", notes={"kerf.dev/engine-metrics": "none"}), "m", None),
        (served("run", notes={"kerf.dev/engine-metrics": "vllm:81/x"}), "", EnginePort("vllm", "main", 81, "/x")),
        (
            served("vllm", "serve", "m", notes={"prometheus.io/port": "82", "prometheus.io/path": "/m"}),
            "m",
            EnginePort("vllm", "main", 82, "/m"),
        ),
        (served("train.py", notes={"kerf.dev/model": "noted"}), "noted", None),
        (served("python", "use_vllm.py"), "", None),
        (served("vllm", "serve", "--port", "99999999"), "", EnginePort("vllm", "main", 8000)),
    ],
)
def test_model_and_engine_are_read_from_what_the_pod_says(
    subject: Subject, model: str, engine: EnginePort | None
) -> None:
    assert (subject.model, subject.engine) == (model, engine)


def test_a_label_names_the_model_before_anything_else() -> None:
    pod = a_pod(containers=[{"name": "a", "args": ["vllm", "serve", "m"]}], labels={"kerf.dev/model": "mine"})

    assert subject_of(pod).model == "mine"


def test_the_moment_of_the_bind_is_the_api_servers() -> None:
    pod = a_pod()
    assert bound_ms(pod) == 0
    when = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2025-11-27T16:00:01Z"}
    pod["status"]["conditions"] = [{"type": "Ready"}, when]

    assert bound_ms(pod) == 1_764_259_201_000
